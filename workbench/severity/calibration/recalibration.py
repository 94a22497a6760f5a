"""Recalibration: calibrate a severity encoder's var_hat on validation images of its own training degradation.

s2 is an image's true error variance. A var_hat is calibrated if E[s2 | var_hat] = var_hat, which also minimises the
Gaussian negative log-likelihood, mean of s2 / v + log v. All methods here minimise it, each over its own family of
increasing functions log v = m(log var_hat):

    factor         m(l) = l + b              closed form, exp(b) = mean of s2 / var_hat; Levi et al., arXiv 1905.11659
    temperature    m(l) = a l + b, a >= 0    one scalar search; Guo et al., arXiv 1706.04599, of logits
    isotonic       any increasing m          pool adjacent violators on s2; Zadrozny and Elkan, KDD 2002, of scores

Pooling averages s2 itself, not log s2, and is exact: for every likelihood of the exponential family whose parameter is
the mean, the least-squares solution is the maximum-likelihood one (Barlow and Brunk, JASA 67, 1972). A fit in log s2
would need a bias correction, because E[log s2] is below log E[s2].
"""

import math
from abc import abstractmethod
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from workbench.core.bounds import MAX_SIZE, Logarithm
from workbench.core.config import Config, UserError
from workbench.core.families import Member, Open
from workbench.core.tensors import Latents, Scalars
from workbench.severity.calibration.conformal import upper_quantile

Values = NDArray[np.float64]
MIN_IMAGES = 8
"""Minimum number of images for a fit."""
FEWEST_AT_END = 20
"""Number of images in the first and in the last block of an isotonic fit, or a quarter of all if fewer than 80."""
MAX_SLOPE = 10.0
"""Maximum slope of the temperature's search: no encoder understates the differences between its errors by more."""


class LogMap(Config):
    """log v as an increasing, piecewise linear function of log var_hat, with one slope beyond the outer knots.

    For `factor` and `isotonic`, that slope is 1: a prediction outside the range of the fit keeps the ratio of the
    nearest.
    """

    x: tuple[Logarithm, ...] = Field(min_length=1, description="log var_hat at the knots, ascending")
    y: tuple[Logarithm, ...] = Field(min_length=1, description="log v there")
    slope: float = Field(1.0, ge=0, le=MAX_SLOPE, description="slope beyond the first and the last knot")

    def __call__(self, var_hat: Scalars) -> Scalars:
        """v of each image."""
        log_var = var_hat.double().log().cpu().numpy()
        beyond = log_var - np.clip(log_var, self.x[0], self.x[-1])
        return torch.from_numpy(np.exp(np.interp(log_var, self.x, self.y) + self.slope * beyond)).to(var_hat)


class Method(Member):
    """A recalibration method."""

    @abstractmethod
    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        """Fit to images' log var_hat and s2."""

    def fit(self, var_hat: Scalars, s2: Scalars) -> LogMap:
        """The map from var_hat to a variance that is calibrated on these images.

        Raises:
            UserError: for fewer than 8 images, or variances that are not positive and finite.
        """
        if len(var_hat) < MIN_IMAGES:
            raise UserError(f"recalibration needs at least {MIN_IMAGES} images, got {len(var_hat)}")
        _require_variances(var_hat, s2)
        return self._fit(var_hat.double().log().cpu().numpy(), s2.double().cpu().numpy())


class Unchanged(Method):
    """var_hat as predicted by the encoder."""

    kind: Literal["none"] = "none"

    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        return LogMap(x=(0.0,), y=(0.0,))


class Factor(Method):
    """var_hat times one factor."""

    kind: Literal["factor"] = "factor"

    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        return LogMap(x=(0.0,), y=(math.log(np.mean(s2 * np.exp(-log_var))),))


class Temperature(Method):
    """A temperature and an offset on the log-variance head, the same at every severity.

    For a given slope, the best offset is that of `factor`, which leaves a convex function of the slope.
    """

    kind: Literal["temperature"] = "temperature"

    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        from scipy.optimize import minimize_scalar

        centre = float(log_var.mean())
        centred = log_var - centre

        def offset(slope: float) -> float:
            return math.log(np.mean(s2 * np.exp(-slope * centred)))

        if np.ptp(centred) == 0:  # equal predictions for all images have no slope
            return LogMap(x=(centre,), y=(offset(1.0),))
        # the likelihood at the best offset, up to a constant: `centred` has mean 0, so the slope term vanishes
        found = minimize_scalar(offset, bounds=(0.0, MAX_SLOPE), method="bounded", options={"xatol": 1e-9})
        slope = float(found.x)
        return LogMap(x=(centre,), y=(offset(slope),), slope=slope)


class Isotonic(Method):
    """Any increasing function: constant on blocks of images in the order of var_hat, interpolated linearly in logs.

    A block's knot is at the mean of its log var_hat and the log of its mean s2. The images at either end, 20 or a
    quarter of all, are merged into one point first: otherwise, the smallest s2 among the first and the largest among
    the last would be blocks of their own and determine all predictions beyond them.
    """

    kind: Literal["isotonic"] = "isotonic"

    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        from scipy.optimize import isotonic_regression

        ascending = np.sort(log_var)
        at_end = min(FEWEST_AT_END, len(log_var) // 4)
        points = np.clip(log_var, ascending[at_end - 1], ascending[-at_end])
        _, where, counts = np.unique(points, return_inverse=True, return_counts=True)
        pooled = isotonic_regression(np.bincount(where, s2) / counts, weights=counts)
        starts = pooled.blocks[:-1]
        block_x = np.add.reduceat(np.bincount(where, log_var), starts) / np.add.reduceat(counts, starts)
        return LogMap(x=tuple(block_x.tolist()), y=tuple(np.log(pooled.x[starts]).tolist()))


AnyRecalibration = Annotated[Unchanged | Factor | Temperature | Isotonic, Field(discriminator="kind"), Open(Method)]


class Recalibration(Config):
    """A recalibration fitted to a severity encoder.

    `scores` are log(s2 / v) of validation images that were not used for the map, ascending; see `conformal`.
    """

    log_map: LogMap
    scores: tuple[Logarithm, ...]
    channel_profile: tuple[Annotated[float, Field(ge=0, le=MAX_SIZE)], ...] = Field(
        description="error variance of each latent channel, divided by their mean"
    )

    def apply(self, var_hat: Scalars) -> Scalars:
        """v, the recalibrated variance."""
        return self.log_map(var_hat)

    def bound(self, var_hat: Scalars, risk: float) -> Scalars:
        """The variance that s2 exceeds with a probability of at most `risk`.

        Raises:
            UserError: if `risk` is too small for the number of scores.
        """
        return self.apply(var_hat) * math.exp(upper_quantile(self.scores, risk))

    @classmethod
    def fit(cls, method: Method, var_hat: Scalars, s2: Scalars, channel_variance: Tensor) -> Self:
        """Fit the map to every second image, and take the scores from the others.

        Args:
            channel_variance: (batch, channel), see `channel_error_variance`.

        Raises:
            UserError: for fewer than 15 images, or variances that are not positive and finite.
        """
        _require_variances(var_hat, s2)
        log_map = method.fit(var_hat[::2], s2[::2])
        scores = (s2[1::2].double() / log_map(var_hat[1::2].double())).log().sort().values
        # normalise each image's profile: otherwise, the most severe images would dominate
        profile = (channel_variance.double() / channel_variance.double().mean(1, keepdim=True)).mean(0)
        return cls(log_map=log_map, scores=tuple(scores.tolist()), channel_profile=tuple(profile.tolist()))


def _require_variances(var_hat: Scalars, s2: Scalars) -> None:
    """Raise UserError for variances that have no logarithm."""
    for name, values in {"var_hat": var_hat, "s2": s2}.items():
        bad = int((~(values.isfinite() & (values > 0))).sum())
        if bad:
            raise UserError(
                f"{name} must be positive and finite to recalibrate a severity encoder, but that of {bad} of "
                f"{len(values)} images is not: train the severity encoder longer"
            )


def channel_error_variance(z_hat: Latents, z0: Latents) -> Tensor:
    """Mean square of each channel's error around the image's mean error, (batch, channel); its mean is s2.

    (Up to the Bessel correction of s2.)
    """
    error = z_hat - z0
    return (error - error.mean((1, 2, 3), keepdim=True)).square().mean((2, 3))
