"""Which distribution do standardised errors follow? Gaussian, Student t and Laplace, fitted to counts on the grid."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from workbench.core.config import UserError
from workbench.metrics.calibration.grid import EDGES

if TYPE_CHECKING:
    from scipy.stats._distn_infrastructure import rv_continuous_frozen

Array = NDArray[np.float64]
Family = Literal["gaussian", "student_t", "laplace"]

_DF_RANGE = (1.0, 1000.0)
"""Above this, a Student t cannot be distinguished from a Gaussian with any feasible number of elements."""
_SMALLEST = 1e-300


@dataclass(frozen=True)
class Fit:
    """A distribution fitted by maximum likelihood.

    Attributes:
        family: family of the distribution.
        location: location, in units of z.
        scale: scale, in units of z (for a Gaussian: the standard deviation).
        df: degrees of freedom of a Student t; None for the others.
        log_likelihood: of the counts, in nats per element; only differences between families matter.
        distance: sup |F - fitted| over the grid.
    """

    family: Family
    location: float
    scale: float
    df: float | None
    log_likelihood: float
    distance: float

    def quantile(self, levels: NDArray[np.floating]) -> Array:
        """z at each level in (0, 1): the abscissas of a QQ plot against this distribution."""
        return np.asarray(self.location + self.scale * _standard(self.family, self.df).ppf(levels))


def fit(family: Family, counts: NDArray[np.number]) -> Fit:
    """Fit a distribution to counts (k + 1,) on the grid by maximum likelihood of the bins (grouped data).

    Raises:
        UserError: if all counts are in one bin: there is no scale to fit.
    """
    from scipy.optimize import minimize

    shares = np.asarray(counts, dtype=np.float64) / np.sum(counts)
    if np.count_nonzero(shares) < 2:
        raise UserError("cannot fit a distribution: all standardised errors are in one bin; is var_hat far too large?")
    quartiles = np.interp([0.25, 0.5, 0.75], np.cumsum(shares)[:-1], EDGES)
    start = [quartiles[1], np.log(max(quartiles[2] - quartiles[0], 1e-3) / 1.35)]
    bounds: list[tuple[float | None, float | None]] = [(None, None), (-12, 12)]
    if family == "student_t":
        start, bounds = [*start, np.log(8.0)], [*bounds, tuple(np.log(_DF_RANGE))]

    def loss(parameters: Array) -> float:
        return -float(shares @ np.log(np.maximum(_masses(family, parameters), _SMALLEST)))

    best = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12})
    df = float(np.exp(best.x[2])) if family == "student_t" else None
    misses = np.cumsum(shares)[:-1] - np.cumsum(_masses(family, best.x))[:-1]
    return Fit(family, float(best.x[0]), float(np.exp(best.x[1])), df, -float(best.fun), float(np.abs(misses).max()))


def fit_all(counts: NDArray[np.number], num_independent: float) -> dict[Family, Fit]:
    """All families' fits, most credible first, by Schwarz's criterion (1978): log-likelihood - k / 2 log n.

    A Student t includes the Gaussian, so by likelihood alone it would win on Gaussian elements too.

    Args:
        num_independent: n, the number of independent elements that the counts are worth; less than their number if they
            are dependent.
    """

    def score(found: Fit) -> float:
        num_parameters = 2 if found.df is None else 3
        return num_independent * found.log_likelihood - num_parameters / 2 * math.log(num_independent)

    fits = [fit(family, counts) for family in get_args(Family)]
    return {found.family: found for found in sorted(fits, key=score, reverse=True)}


def _standard(family: Family, df: float | None) -> "rv_continuous_frozen[Any, Any]":
    from scipy import stats

    if family == "gaussian":
        return stats.norm()
    return stats.laplace() if df is None else stats.t(df)


def _masses(family: Family, parameters: Array) -> Array:
    """The distribution's probability of each bin of the grid."""
    df = float(np.exp(parameters[2])) if family == "student_t" else None
    law = _standard(family, df)
    ends = np.concatenate([[-np.inf], (EDGES - parameters[0]) / np.exp(parameters[1]), [np.inf]])
    left, right = ends[:-1], ends[1:]
    # the distributions are symmetric: above the centre the upper tail is used, which loses no digits
    return np.where(left >= 0, law.sf(left) - law.sf(right), law.cdf(right) - law.cdf(left))
