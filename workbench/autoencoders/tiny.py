"""AutoencoderTiny: the TAESD architecture (diffusers), plain convolutions without attention."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder, DescentRecipe, moment_penalty
from workbench.core import ranks
from workbench.core.bounds import MAX_SIZE, Depth, Weight, Width
from workbench.core.tensors import Images


class _ToUnitRange(nn.Module):
    """[-1, 1] -> [0, 1], TAESD's own convention, which diffusers applies inside its encoder."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class TinyAutoencoder(Autoencoder):
    """A deterministic encoder and decoder, trained with squared error and a little noise on the latent."""

    def __init__(self, model: Any, latent_noise: float = 0.0, moment_weight: float = 0.0) -> None:
        super().__init__(model)
        self.latent_noise, self.moment_weight = latent_noise, moment_weight

    def _encode(self, x: Tensor) -> Tensor:
        latents: Tensor = self.model.encode(x).latents
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.model.decode(latents).sample
        return images

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        layers = self.model.encoder.layers
        return nn.Sequential(_ToUnitRange(), *layers[:-1]), layers[-1]

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        raw = self._encode(2 * x - 1).float()  # moments are not for bf16
        noise = ranks.randn(raw.shape, generator).to(raw)
        x_hat = (self._decode(raw + self.latent_noise * noise).float() + 1) / 2
        mse = F.mse_loss(x_hat, x)
        penalty = moment_penalty(raw)
        return mse + self.moment_weight * penalty, {"mse": mse, "moments": penalty}


class Tiny(DescentRecipe):
    """AutoencoderTiny: without attention, the fastest; the default."""

    kind: Literal["tiny"] = "tiny"
    latent_channels: Width = Field(8, description="channels of the latent")
    width: int = Field(32, ge=8, le=MAX_SIZE, description="channels of every hidden layer")
    num_stages: int = Field(
        3, ge=1, le=6, description="number of resolutions; latents are smaller by 2^(num_stages - 1) per side"
    )
    num_blocks: Depth = Field(
        3, description="residual blocks at the lowest resolution, fewer at higher ones, none at the highest"
    )
    latent_noise: float = Field(0.03, ge=0, le=100, description="std of noise on the latent in training; smooths D")
    moment_weight: Weight = Field(0.01, description="weight of the penalty on channel means and variances")

    adapter: ClassVar[type[Autoencoder]] = TinyAutoencoder
    splits_batches: ClassVar[bool] = True

    @classmethod
    def model_class(cls) -> Any:
        from diffusers import AutoencoderTiny

        return AutoencoderTiny

    def build(self, image_channels: int) -> TinyAutoencoder:
        # most compute is at high resolutions, most capacity at low ones
        blocks = [max(0, self.num_blocks - level) for level in range(self.num_stages)][::-1]
        blocks[0] = 0
        model = self.model_class()(
            in_channels=image_channels,
            out_channels=image_channels,
            encoder_block_out_channels=(self.width,) * self.num_stages,
            decoder_block_out_channels=(self.width,) * self.num_stages,
            num_encoder_blocks=tuple(blocks),
            num_decoder_blocks=tuple(blocks[::-1]),
            latent_channels=self.latent_channels,
        )
        return TinyAutoencoder(model, self.latent_noise, self.moment_weight)
