"""Recalibration: a severity encoder's var_hat made right on validation images of its own training degradation.

s2 is an image's true error variance. A var_hat is right where E[s2 | var_hat] = var_hat, which is also where the
Gaussian negative log-likelihood, mean of s2 / v + log v, is least. All methods here minimise it, each over its own
increasing functions log v = m(log var_hat):

    factor         m(l) = l + b              closed form, exp(b) = mean of s2 / var_hat; Levi et al., arXiv 1905.11659
    temperature    m(l) = a l + b, a >= 0    one scalar search; Guo et al., arXiv 1706.04599, of logits
    isotonic       any increasing m          pool adjacent violators on s2; Zadrozny and Elkan, KDD 2002, of scores

That pooling averages s2 itself, and not log s2, is no approximation: for every likelihood of the exponential family
whose parameter is the mean, the least-squares solution is the likeliest (Barlow and Brunk, JASA 67, 1972). A fit in
log s2 would need its bias corrected, E[log s2] being below log E[s2].
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
"""A fit to fewer says nothing."""
FEWEST_AT_END = 20
"""Images in the first and in the last block of an isotonic fit, or a quarter of all where they are fewer than 80."""
MAX_SLOPE = 10.0
"""Of the temperature's search: no encoder understates how its errors differ by more."""


class LogMap(Config):
    """log v as an increasing function of log var_hat: straight between knots, and of one slope beyond the outer ones.

    Under `factor` and `isotonic` that slope is 1: an answer never seen in the fit keeps the ratio of the nearest ones.
    """

    x: tuple[Logarithm, ...] = Field(min_length=1, description="log var_hat at the knots, ascending")
    y: tuple[Logarithm, ...] = Field(min_length=1, description="log v there")
    slope: float = Field(1.0, ge=0, le=MAX_SLOPE, description="beyond the first and the last knot")

    def __call__(self, var_hat: Scalars) -> Scalars:
        """v of each image."""
        log_var = var_hat.double().log().cpu().numpy()
        beyond = log_var - np.clip(log_var, self.x[0], self.x[-1])
        return torch.from_numpy(np.exp(np.interp(log_var, self.x, self.y) + self.slope * beyond)).to(var_hat)


class Method(Member):
    """A way to recalibrate."""

    @abstractmethod
    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        """From images' log var_hat and s2."""

    def fit(self, var_hat: Scalars, s2: Scalars) -> LogMap:
        """The map from var_hat to a variance that is right on these images.

        Raises:
            UserError: for fewer than 8 images, or variances that are not positive and finite.
        """
        if len(var_hat) < MIN_IMAGES:
            raise UserError(f"recalibration needs at least {MIN_IMAGES} images, got {len(var_hat)}")
        _require_variances(var_hat, s2)
        return self._fit(var_hat.double().log().cpu().numpy(), s2.double().cpu().numpy())


class Unchanged(Method):
    """var_hat as the encoder says it."""

    kind: Literal["none"] = "none"

    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        return LogMap(x=(0.0,), y=(0.0,))


class Factor(Method):
    """var_hat times one number."""

    kind: Literal["factor"] = "factor"

    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        return LogMap(x=(0.0,), y=(math.log(np.mean(s2 * np.exp(-log_var))),))


class Temperature(Method):
    """A temperature and an offset on the log-variance head, the same at every severity.

    At a given slope the best offset is that of `factor`, which leaves a convex function of the slope.
    """

    kind: Literal["temperature"] = "temperature"

    def _fit(self, log_var: Values, s2: Values) -> LogMap:
        from scipy.optimize import minimize_scalar

        centre = float(log_var.mean())
        centred = log_var - centre

        def offset(slope: float) -> float:
            return math.log(np.mean(s2 * np.exp(-slope * centred)))

        if np.ptp(centred) == 0:  # one answer for all images has no slope
            return LogMap(x=(centre,), y=(offset(1.0),))
        # up to a constant the likelihood at the best offset: `centred` has mean 0, so the slope itself costs nothing
        found = minimize_scalar(offset, bounds=(0.0, MAX_SLOPE), method="bounded", options={"xatol": 1e-9})
        slope = float(found.x)
        return LogMap(x=(centre,), y=(offset(slope),), slope=slope)


class Isotonic(Method):
    """Any increasing function: flat on blocks of images in the order of var_hat, joined by straight lines in logs.

    A block's knot is at the mean of its log var_hat and the log of its mean s2. The images at either end, 20 or a
    quarter of all, are one point from the beginning: left alone, the smallest s2 among the first and the largest among
    the last would be blocks of their own, and say what all answers beyond them become.
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
    """What was fitted to a severity encoder.

    `scores` are log(s2 / v) of validation images that the map has not seen, ascending; see `conformal`.
    """

    log_map: LogMap
    scores: tuple[Logarithm, ...]
    channel_profile: tuple[Annotated[float, Field(ge=0, le=MAX_SIZE)], ...] = Field(
        description="error variance of each latent channel over their mean"
    )

    def apply(self, var_hat: Scalars) -> Scalars:
        """v, the recalibrated variance."""
        return self.log_map(var_hat)

    def bound(self, var_hat: Scalars, risk: float) -> Scalars:
        """The variance that s2 exceeds with a probability of at most `risk`.

        Raises:
            UserError: if `risk` is smaller than the number of scores can promise.
        """
        return self.apply(var_hat) * math.exp(upper_quantile(self.scores, risk))

    @classmethod
    def fit(cls, method: Method, var_hat: Scalars, s2: Scalars, channel_variance: Tensor) -> Self:
        """Every second image gives the map, the others the scores.

        Args:
            channel_variance: (batch, channel), see `channel_error_variance`.

        Raises:
            UserError: for fewer than 15 images, or variances that are not positive and finite.
        """
        _require_variances(var_hat, s2)
        log_map = method.fit(var_hat[::2], s2[::2])
        scores = (s2[1::2].double() / log_map(var_hat[1::2].double())).log().sort().values
        # of each image its own profile: else the most severe ones would speak for all
        profile = (channel_variance.double() / channel_variance.double().mean(1, keepdim=True)).mean(0)
        return cls(log_map=log_map, scores=tuple(scores.tolist()), channel_profile=tuple(profile.tolist()))


def _require_variances(var_hat: Scalars, s2: Scalars) -> None:
    """Refuse variances that have no logarithm. Raises UserError."""
    for name, values in {"var_hat": var_hat, "s2": s2}.items():
        bad = int((~(values.isfinite() & (values > 0))).sum())
        if bad:
            raise UserError(
                f"{name} must be positive and finite to recalibrate a severity encoder, and that of {bad} of "
                f"{len(values)} images is not: train the severity encoder longer"
            )


def channel_error_variance(z_hat: Latents, z0: Latents) -> Tensor:
    """Mean square of each channel's error about the image's mean error, (batch, channel); over channels the mean is s2.

    (Up to the Bessel correction of s2.)
    """
    error = z_hat - z0
    return (error - error.mean((1, 2, 3), keepdim=True)).square().mean((2, 3))
