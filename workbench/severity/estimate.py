"""What is known about a clean latent before diffusion begins."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from workbench.tensors import Latents, Scalars, Variances


@dataclass(frozen=True)
class SeverityEstimate:
    """z_hat and the variance of its error, in units of the latents' variance.

    Attributes:
        z_hat: guess of the clean latent.
        var_hat: predicted variance of z_hat's error per element, broadcastable to z_hat.
        features: what the prediction was read from, (batch, k); None where there is no such thing.
    """

    z_hat: Latents
    var_hat: Variances
    features: Tensor | None = None

    def take(self, index: Tensor) -> Self:
        """The estimates of the images at `index`."""
        features = None if self.features is None else self.features[index]
        return type(self)(self.z_hat[index], self.var_hat[index], features)


def error_variance(z_hat: Latents, z0: Latents) -> Scalars:
    """s2, the true error variance: the Bessel-corrected variance of the elements of z_hat - z0, per image.

    The paper's sigma-bar squared (arXiv 2309.06642, section 3.2).
    """
    return (z_hat - z0).flatten(1).var(1)
