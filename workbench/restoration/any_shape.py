"""The networks of a restorer, adapted to images of any height and width, and to greyscale images."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from workbench.autoencoders import Autoencoder
from workbench.autoencoders.grey import GreyAutoencoder, Repeat
from workbench.autoencoders.padded import PaddedAutoencoder, reflect
from workbench.core.config import UserError
from workbench.core.tensors import Images
from workbench.diffusion import Prior
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.estimator import Estimator

COLOUR = 3


@dataclass(frozen=True)
class AdaptedEstimator:
    """An estimator of adapted images.

    Attributes:
        inner: the estimator.
        prepare: what it is given in place of the view of a measurement.
    """

    inner: Estimator
    prepare: Callable[[Images], Images]

    def estimate(self, view: Images) -> SeverityEstimate:
        """The estimate of the adapted view."""
        return self.inner.estimate(self.prepare(view))


def adapted(
    autoencoder: Autoencoder, estimator: Estimator, prior: Prior, image_shape: tuple[int, int, int]
) -> tuple[Autoencoder, Estimator]:
    """The autoencoder and the estimator for (channel, height, width) images; both as they are if they take them.

    Raises:
        UserError: for a number of channels that the autoencoder cannot be adapted to.
    """
    channels, height, width = image_shape
    if channels == autoencoder.image_channels and _takes(autoencoder, prior, image_shape):
        return autoencoder, estimator
    is_grey = channels == 1 and autoencoder.image_channels == COLOUR
    if is_grey:
        autoencoder = GreyAutoencoder(autoencoder).eval()
    elif channels != autoencoder.image_channels:
        own = _named(autoencoder.image_channels)
        raise UserError(f"the model restores {own} images, but these are {_named(channels)}")
    multiple = None if _takes(autoencoder, prior, image_shape) else autoencoder.downscale * prior.multiple
    if multiple is not None:
        autoencoder = PaddedAutoencoder(autoencoder, (height, width), multiple).eval()
        prior.check_latents(autoencoder.latent_shape(image_shape))

    def prepare(view: Images) -> Tensor:  # of another height, width or number of channels
        if is_grey:
            view = Repeat()(view)
        return view if multiple is None else reflect(view, multiple)

    return autoencoder, AdaptedEstimator(estimator, prepare)


def _takes(autoencoder: Autoencoder, prior: Prior, image_shape: tuple[int, int, int]) -> bool:
    """Whether the networks accept this height and width."""
    try:
        prior.check_latents(autoencoder.latent_shape(image_shape))
    except UserError:
        return False
    return True


def _named(channels: int) -> str:
    return {1: "greyscale", COLOUR: "colour"}.get(channels, f"{channels}-channel")
