"""Images of any height and width, for networks that only accept multiples of some number of pixels.

An image is continued by reflection beyond its lower and right edges before it is encoded, and what was added is cut off
after decoding. The operator and the measurement only see the image itself: nothing of what was added counts as
observed, and the operator's own treatment of the border is that of the image.
"""

import torch
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder
from workbench.core.tensors import Images, Latents


def reflect(x: Tensor, multiple: int) -> Tensor:
    """Continue (..., height, width) below and to the right, to multiples (`padded`); the edge itself is not repeated.

    Images that are smaller than what is added are reflected several times.
    """
    rows, columns = (_reflected(length, padded(length, multiple), x.device) for length in x.shape[-2:])
    return x[..., rows[:, None], columns]


def padded(length: int, multiple: int) -> int:
    """The smallest multiple that is not less, and at least the second: normalisation needs more than one value."""
    return max(2, -(-length // multiple)) * multiple


class PaddedAutoencoder(Autoencoder):
    """An autoencoder for images of one height and width.

    Args:
        inner: the autoencoder.
        size: height and width of the images.
        multiple: height and width that `inner` gets are multiples of it.
    """

    def __init__(self, inner: Autoencoder, size: tuple[int, int], multiple: int) -> None:
        super().__init__(inner.model)
        self.inner, self.size, self.multiple = inner, size, multiple

    @property
    def scale(self) -> float:
        return self.inner.scale

    @property
    def shift(self) -> float:
        return self.inner.shift

    @property
    def image_channels(self) -> int:
        return self.inner.image_channels

    @property
    def overflows_in_half(self) -> bool:
        return self.inner.overflows_in_half

    @property
    def downscale(self) -> int:
        return self.inner.downscale

    @property
    def latent_channels(self) -> int:
        return self.inner.latent_channels

    def encode(self, x: Images) -> Latents:
        """The latents of the continued images."""
        return self.inner.encode(reflect(x, self.multiple))

    def decode(self, z: Latents) -> Images:
        """The decoded images without what was added to them."""
        return self.inner.decode(z)[..., : self.size[0], : self.size[1]]

    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        channels, height, width = image_shape
        return self.inner.latent_shape((channels, padded(height, self.multiple), padded(width, self.multiple)))

    def _encode(self, x: Tensor) -> Tensor:
        return self.inner._encode(x)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.inner._decode(latents)

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        return self.inner._encoder_parts()

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.inner.training_loss(x, generator)


def _reflected(length: int, target: int, device: torch.device) -> Tensor:
    """0, 1 ... length - 1, length - 2 ... 1, 0, 1 ..., (target,) int64."""
    period = max(1, 2 * (length - 1))
    position = torch.arange(target, device=device) % period
    return torch.minimum(position, period - position)
