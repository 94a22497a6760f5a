"""What is the error independent of: the clean latent (`forward`) or its estimate (`mmse`)?

e = z_hat - z0, so cov(e, z_hat) = cov(e, z0) + var(e): one number tells both. Under `forward`, z_hat = z0 + e with e
independent of z0; under `mmse`, z0 = z_hat - e with e independent of z_hat, as for z_hat = E[z0 | y] (the principle of
orthogonality). SNR matching has a rule for each (`severity.start.matched`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from workbench.metrics.statistics import Estimate, quotient

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SecondMoments:
    """Variances of e, z_hat and z0 and their covariances, (...): means over the channels, each centred by its own mean.

    Attributes:
        error: var(e).
        estimate: var(z_hat).
        product: cov(e, z_hat).
    """

    error: Array
    estimate: Array
    product: Array

    @classmethod
    def of(cls, means: Mapping[str, Array]) -> Self:
        """Of means over images and positions, (..., channels), named as in `collect`."""
        error, estimate = means["error"], means["estimate"]
        return cls(
            (means["error_square"] - error**2).mean(-1),
            (means["estimate_square"] - estimate**2).mean(-1),
            (means["product"] - error * estimate).mean(-1),
        )

    @property
    def clean(self) -> Array:
        """var(z0)."""
        return self.estimate - 2 * self.product + self.error

    @property
    def cov_error_clean(self) -> Array:
        """cov(e, z0)."""
        return self.product - self.error

    @property
    def forward_share(self) -> Array:
        """cov(e, z_hat) / var(e): 0 if `mmse` holds, 1 if `forward` holds. cov(e, z0) / var(e) is 1 less."""
        return quotient(self.product, self.error)

    @property
    def corr_estimate(self) -> Array:
        """The correlation of e and z_hat: 0 under `mmse`."""
        return quotient(self.product, np.sqrt(self.error * self.estimate))

    @property
    def corr_clean(self) -> Array:
        """The correlation of e and z0: 0 under `forward`."""
        return quotient(self.cov_error_clean, np.sqrt(self.error * self.clean))

    @property
    def slope_on_clean(self) -> Array:
        """The slope of z_hat regressed on z0: 1 under `forward`; 1 - var(e) / var(z0), shrunk, under `mmse`."""
        return quotient(self.estimate - self.product, self.clean)

    @property
    def slope_on_estimate(self) -> Array:
        """The slope of z0 regressed on z_hat: 1 under `mmse`; var(z0) / (var(z0) + var(e)) under `forward`."""
        return quotient(self.estimate - self.product, self.estimate)


def holding_channel(
    forward_share: Estimate, tolerance: float = 0.25
) -> Literal["forward", "mmse", "neither", "undecided"]:
    """Which channel holds: the whole interval of `SecondMoments.forward_share` lies within `tolerance` of 1 or of 0.

    Neither, if it is outside of both; undecided, if it crosses a border. It only shows uncorrelatedness; independence
    is a stronger property.
    """
    forward, mmse = (forward_share.within(ideal - tolerance, ideal + tolerance) for ideal in (1, 0))
    if forward or mmse:
        return "forward" if forward else "mmse"
    return "undecided" if None in (forward, mmse) else "neither"
