"""A normalising flow (Kingma and Dhariwal, arXiv 1807.03039): an invertible, lossless autoencoder."""

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder, DescentRecipe
from workbench.autoencoders.side_features import SideFeatures, latents_alone
from workbench.core import ranks
from workbench.core.bounds import Depth, Width
from workbench.core.tensors import Images

GREY_LEVEL = 2 / 255
"""The distance between two 8-bit grey levels, on [-1, 1]."""
DEQUANTISATION = 44.0
"""Grey levels: uniform noise of standard deviation 0.05 on images on [0, 1], as in measurements by default."""


class _Encode(nn.Module):
    """A flow's direction from images to latents as a module."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.level = model.level

    def forward(self, x: Tensor) -> Tensor:
        latents: Tensor = self.level(x)[0]
        return latents


class FlowAutoencoder(Autoencoder):
    """A Glow whose latents have as many values as the image; decoding is the exact inverse of encoding.

    Args:
        model: the flow.
        dequantisation: width of the uniform noise on training images, in grey levels. A flow scales everything in its
            images to unit variance: the less noise, the more it amplifies nearly constant directions.
    """

    def __init__(self, model: Any, dequantisation: float = DEQUANTISATION) -> None:
        super().__init__(model)
        self.dequantisation = dequantisation

    @property
    def downscale(self) -> int:
        return int(2**self.model.config.num_levels)

    @property
    def latent_channels(self) -> int:
        return self.image_channels * self.downscale**2

    def _encode(self, x: Tensor) -> Tensor:
        latents: Tensor = self.model.encode(x).latents
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.model.decode(latents).sample
        return images

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        # an invertible map has no features to read, and cannot learn to discard information
        beside = SideFeatures(_Encode(self.model), self.image_channels, self.downscale)
        return beside, latents_alone(self.latent_channels)

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Bits per dimension: the negative log-likelihood of images with dequantisation noise, in grey levels.

        It bounds that of 8-bit images if the noise is one level wide, and is only comparable at equal width.
        """
        noise = ranks.rand(x.shape, generator).to(x) - 0.5
        z, log_det = self.model.transform(2 * x - 1 + self.dequantisation * GREY_LEVEL * noise)
        size = x[0].numel()
        log_density = -0.5 * z.square().flatten(1).sum(1) - 0.5 * size * math.log(2 * math.pi) + log_det
        bits = -(log_density / size + math.log(GREY_LEVEL)).mean() / math.log(2)
        return bits, {"bits_per_dim": bits}


class Flow(DescentRecipe):
    """A normalising flow: invertible, trained by maximum likelihood; its reconstructions are exact."""

    kind: Literal["flow"] = "flow"
    num_levels: int = Field(
        2, ge=1, le=6, description="number of halvings of the resolution; latents have 4^num_levels channels"
    )
    num_steps: Depth = Field(8, description="steps of flow at each level")
    width: Width = Field(64, description="channels in the coupling networks")
    dequantisation: float = Field(
        DEQUANTISATION,
        gt=0,
        le=1e4,
        description="width of the uniform noise on training images, in grey levels (1/255): 883 times the standard "
        "deviation of the measurements' noise, or their latents lie far outside what the flow can decode",
    )

    adapter: ClassVar[type[Autoencoder]] = FlowAutoencoder
    splits_batches: ClassVar[bool] = True

    @classmethod
    def model_class(cls) -> Any:
        from workbench.autoencoders.glow import Glow

        return Glow

    def build(self, image_channels: int) -> FlowAutoencoder:
        model = self.model_class()(image_channels, self.num_levels, self.num_steps, self.width)
        return FlowAutoencoder(model, self.dequantisation)
