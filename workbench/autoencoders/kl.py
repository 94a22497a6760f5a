"""AutoencoderKL: the variational autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752), by diffusers."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder, DescentRecipe, moment_penalty
from workbench.core import ranks
from workbench.core.bounds import BlockWidths, Depth, Weight, Width
from workbench.core.config import UserError
from workbench.core.tensors import Images
from workbench.weights.diffusers_folder import read_config


class _Mode(nn.Module):
    """The mean half of the moments from AutoencoderKL's encoder."""

    def forward(self, moments: Tensor) -> Tensor:
        return moments.chunk(2, dim=1)[0]


class KLAutoencoder(Autoencoder):
    """AutoencoderKL; a latent is the mode of the encoder's Gaussian."""

    def __init__(self, model: Any, kl_weight: float = 0.0, moment_weight: float = 0.0) -> None:
        super().__init__(model)
        self.kl_weight, self.moment_weight = kl_weight, moment_weight

    def _encode(self, x: Tensor) -> Tensor:
        mode: Tensor = self.model.encode(x).latent_dist.mode()
        return mode

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.model.decode(latents).sample
        return images

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        import copy

        features = copy.deepcopy(self.model.encoder)
        projection = nn.Sequential(features.conv_out, self.model.quant_conv or nn.Identity(), _Mode())
        features.conv_out = nn.Identity()
        return features, projection

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        posterior = self.model.encode(2 * x - 1).latent_dist
        noise = ranks.randn(posterior.mean.shape, generator).to(posterior.mean)
        x_hat = (self._decode(posterior.mean + posterior.std * noise) + 1) / 2
        mse = F.mse_loss(x_hat, x)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        penalty = moment_penalty(posterior.mean)
        loss = mse + self.kl_weight * kl + self.moment_weight * penalty
        return loss, {"mse": mse, "kl": kl, "moments": penalty}


class KL(DescentRecipe):
    """AutoencoderKL: a variational autoencoder with group norms and one attention layer."""

    kind: Literal["kl"] = "kl"
    latent_channels: Width = Field(8, description="channels of the latent")
    block_out_channels: BlockWidths = Field((32, 32, 64), description="channels at each resolution, multiples of 16")
    layers_per_block: Depth = 1
    kl_weight: Weight = Field(1e-5, description="weight of the KL divergence per latent element")
    moment_weight: Weight = Field(0.01, description="weight of the penalty on channel means and variances")

    adapter: ClassVar[type[Autoencoder]] = KLAutoencoder
    splits_batches: ClassVar[bool] = True

    def load(self, folder: Path) -> Autoencoder:
        """Read an autoencoder. Raises UserError if its latents are scaled by channel, which one factor cannot."""
        scaled = [name for name in ("latents_mean", "latents_std") if read_config(folder).get(name) is not None]
        if scaled:
            raise UserError(f"{folder}/config.json: {scaled[0]}: latents scaled by channel are not supported")
        return super().load(folder)

    @classmethod
    def model_class(cls) -> Any:
        from diffusers import AutoencoderKL

        return AutoencoderKL

    def build(self, image_channels: int) -> KLAutoencoder:
        stages = len(self.block_out_channels)
        model = self.model_class()(
            in_channels=image_channels,
            out_channels=image_channels,
            down_block_types=("DownEncoderBlock2D",) * stages,
            up_block_types=("UpDecoderBlock2D",) * stages,
            block_out_channels=self.block_out_channels,
            layers_per_block=self.layers_per_block,
            latent_channels=self.latent_channels,
            norm_num_groups=16,
        )
        return KLAutoencoder(model, self.kl_weight, self.moment_weight)
