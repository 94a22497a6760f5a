"""A colour autoencoder for greyscale images."""

import torch
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder
from workbench.core.tensors import Images


class GreyAutoencoder(Autoencoder):
    """A colour autoencoder for greyscale images: the channel is repeated, and the decoded channels are averaged.

    Decoding has all gradients of the colour model, and its colour errors average out.
    """

    def __init__(self, colour: Autoencoder) -> None:
        super().__init__(colour.model)
        self.colour = colour

    @property
    def image_channels(self) -> int:
        return 1

    @property
    def downscale(self) -> int:
        return self.colour.downscale

    @property
    def latent_channels(self) -> int:
        return self.colour.latent_channels

    def _encode(self, x: Tensor) -> Tensor:
        return self.colour._encode(Repeat()(x))

    def _decode(self, latents: Tensor) -> Tensor:
        return self.colour._decode(latents).mean(1, keepdim=True)

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        features, projection = self.colour._encoder_parts()
        return nn.Sequential(Repeat(), features), projection

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.colour.training_loss(Repeat()(x), generator)


class Repeat(nn.Module):
    """Repeats one channel three times."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)
