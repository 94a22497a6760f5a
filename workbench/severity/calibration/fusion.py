"""Trust the severity encoder unless the measurement contradicts it.

On in-distribution measurements, an encoder's var_hat is better than the variance v from the residual (see
`variance.residual`): the residual only sees observed entries, and latent errors are not white, so v is off by a factor,
which varies little between images. On other measurements, var_hat may be far too small, and v shows it. Let
d = log(v / var_hat) minus its usual value. Two hypotheses compete for d: the encoder is as good as usual,
d ~ N(0, spread^2), or it is out of distribution, d uniform over the range of variances. With p the posterior
probability of the second hypothesis (Bayes),

    log var = log var_hat + p max(d, 0)

An encoder is distrusted if d itself favours the second hypothesis, whatever the prior odds.

The statistics are fitted on validation images of the encoder's own training degradation; no other degradation is
needed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from workbench.core.tensors import Scalars
from workbench.severity.estimate import MAX_VARIANCE, MIN_VARIANCE

RANGE = math.log(MAX_VARIANCE / MIN_VARIANCE)
PRIOR_ODDS = 3.0
"""Prior odds that an encoder is out of distribution."""
MIN_SPREAD = 0.1
"""Lower bound of the spread: a fit to few images must not make the gate sharper than v is known."""


@dataclass(frozen=True)
class Fusion:
    """In-distribution statistics of a severity encoder, and how to fuse its variance with others.

    Attributes:
        log_ratio: the usual log(v / var_hat), as its median.
        spread: its upward variation, as a standard deviation: the median of the values above the median.
        feature_mean, feature_precision: mean and precision of the encoder's features, (k,) and (k, k).
        log_distance: the usual log of the features' Mahalanobis distance, as its 0.9 quantile.
        distance_gain: rate at which log(s2 / var_hat) grows with the log distance beyond that.
    """

    log_ratio: float
    spread: float
    feature_mean: Tensor
    feature_precision: Tensor
    log_distance: float
    distance_gain: float

    def fused(self, own: Scalars, residual: Scalars) -> tuple[Scalars, Tensor]:
        """(variance, distrusted): the fused variance, and where the residual contradicts the encoder."""
        d = (residual / own).log().double() - self.log_ratio
        log_usual = -0.5 * (d / self.spread).square() - math.log(self.spread * math.sqrt(2 * math.pi))
        log_factor = -math.log(RANGE) - log_usual  # Bayes factor of the measurement
        out_of_depth = torch.where(d > 0, (math.log(PRIOR_ODDS) + log_factor).sigmoid(), 0.0)
        variance = own * (out_of_depth * d.clamp(min=0)).exp()
        return variance.clamp(max=MAX_VARIANCE).to(own), (d > 0) & (log_factor > 0)

    def by_distance(self, own: Scalars, features: Tensor) -> Scalars:
        """The out-of-distribution score: own variance, raised with the features' distance from in-distribution ones.

        Mahalanobis distance of a network's features: Lee et al., arXiv 1807.03888.
        """
        excess = (self.distance(features).log() - self.log_distance).clamp(min=0)
        return (own * (self.distance_gain * excess).exp()).clamp(max=MAX_VARIANCE)

    def distance(self, features: Tensor) -> Scalars:
        """The Mahalanobis distance of features (batch, k) from those of the encoder's training degradation."""
        offset = features.double() - self.feature_mean.to(features.device)
        square = (offset @ self.feature_precision.to(offset) * offset).sum(1)
        return square.clamp(min=1e-12).sqrt().to(features)

    @classmethod
    def fit(cls, own: Scalars, residual: Scalars, features: Tensor, others: tuple[Tensor, Tensor, Tensor]) -> Self:
        """Fit to in-distribution measurements of the encoder.

        Args:
            own, residual: the two variances of each image.
            features: (batch, k).
            others: own variance, true error variance and features of other images, only for the gain of the distance:
                that score cannot be turned into a variance without mismatched examples.
        """
        log_ratio = (residual / own).log().double()
        centre = log_ratio.median()
        above = log_ratio[log_ratio > centre] - centre
        # the median of the absolute value of a normal variable is 0.674 standard deviations
        spread = float(above.median()) / 0.6745 if len(above) else 0.0
        mean, precision = _moments(features.double())
        fitted = cls(float(centre), max(spread, MIN_SPREAD), mean, precision, 0.0, 0.0)
        usual = float(fitted.distance(features).log().quantile(0.9))
        own_other, s2, features_other = others
        excess = (fitted.distance(features_other).log() - usual).clamp(min=0)
        wanted = (s2 / own_other).log()
        # least squares through the origin
        gain = float((excess * wanted).sum() / excess.square().sum().clamp(min=1e-12))
        return cls(fitted.log_ratio, fitted.spread, mean, precision, usual, max(gain, 0.0))

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        numbers = ("log_ratio", "spread", "log_distance", "distance_gain")
        return {name: torch.as_tensor(getattr(self, name), dtype=torch.float64) for name in numbers} | {
            "feature_mean": self.feature_mean,
            "feature_precision": self.feature_precision,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Load from a file's tensors."""
        return cls(**{name: tensor if tensor.ndim else float(tensor) for name, tensor in tensors.items()})  # type: ignore[arg-type]


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse covariance, the latter shrunk towards its diagonal so that it exists."""
    covariance = torch.atleast_2d(features.T.cov())  # of one feature it has no dimension
    shrunk = 0.9 * covariance + 0.1 * covariance.diagonal().diag()
    floor = 1e-6 * covariance.diagonal().mean().clamp(min=1e-12)
    return features.mean(0), torch.linalg.inv(
        shrunk + floor * torch.eye(len(covariance), dtype=covariance.dtype)
    ).contiguous()
