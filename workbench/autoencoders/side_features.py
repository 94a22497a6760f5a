"""A severity encoder's trunk for autoencoders whose encoder has no features to read, or no capacity to learn."""

import math

import torch
from torch import Tensor, nn

WIDTH = 32


class SideFeatures(nn.Module):
    """Raw latents from a given encoder, with the features of a new convolutional network as further channels.

    Args:
        encoder: images on [-1, 1] to raw latents.
        image_channels: channels of the images.
        downscale: the factor per side, a power of two, by which latents are smaller than images.
    """

    def __init__(self, encoder: nn.Module, image_channels: int, downscale: int) -> None:
        super().__init__()
        self.encoder = encoder
        layers: list[nn.Module] = [nn.Conv2d(image_channels, WIDTH, 3, padding=1), nn.SiLU()]
        for _ in range(int(math.log2(downscale))):
            layers += [nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.SiLU(), *_same_size()]
        self.network = nn.Sequential(*layers, *_same_size())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.encoder(x), self.network(x)], dim=1)


def _same_size() -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.SiLU()


def latents_alone(latent_channels: int) -> nn.Conv2d:
    """A projection that initially returns the raw latents of `SideFeatures`, and learns to correct them."""
    projection = nn.Conv2d(latent_channels + WIDTH, latent_channels, 3, padding=1)
    nn.init.dirac_(projection.weight)
    assert projection.bias is not None
    nn.init.zeros_(projection.bias)
    return projection
