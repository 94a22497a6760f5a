"""The estimate of a clean latent before diffusion starts."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Latents, Scalars, Variances

MIN_VARIANCE, MAX_VARIANCE = 1e-3, 4.0
"""Range of variances that are not the encoder's own: below it, start rules cannot distinguish values; above it, z_hat
has no information."""


@dataclass(frozen=True)
class SeverityEstimate:
    """z_hat and the variance of its error, in units of the latents' variance.

    Attributes:
        z_hat: estimate of the clean latent.
        var_hat: predicted variance of z_hat's error per element, broadcastable to z_hat: one value per image, one per
            channel, or a map. Its shape is kept; code that needs one number per image chooses the reduction.
        features: the features behind the prediction, (batch, k); None if there are none.
    """

    z_hat: Latents
    var_hat: Variances
    features: Tensor | None = None

    def take(self, index: Tensor) -> Self:
        """The estimates of the images at `index`."""
        features = None if self.features is None else self.features[index]
        return type(self)(self.z_hat[index], self.var_hat[index], features)

    def per_image(self) -> Scalars:
        """var_hat if it is one value per image; decisions about the whole image may use nothing else.

        Raises:
            UserError: for a variance per channel or per element. A start matched to its mean would be too late for the
                elements with a larger variance.
        """
        shape = tuple(self.var_hat.shape[1:])
        if shape != (1, 1, 1):
            raise UserError(
                f"the severity encoder predicts variances of shape {shape} per image, but this needs one number per "
                "image: use an encoder that predicts one, or set start.variance=residual"
            )
        return self.var_hat.flatten()

    def predicted_s2(self) -> Scalars:
        """The mean of var_hat over an image's elements: its prediction of s2, for tables and first guesses only."""
        return self.var_hat.flatten(1).mean(1)


def error_variance(z_hat: Latents, z0: Latents) -> Scalars:
    """s2, the true error variance: the Bessel-corrected variance of the elements of z_hat - z0, per image.

    The paper's sigma-bar squared (arXiv 2309.06642, section 3.2).
    """
    return (z_hat - z0).flatten(1).var(1)
