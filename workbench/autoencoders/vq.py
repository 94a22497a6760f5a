"""VQModel: the vector-quantised autoencoder (van den Oord et al., arXiv 1711.00937), by diffusers."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder, DescentRecipe, moment_penalty
from workbench.core.bounds import BlockWidths, Depth, Weight, Width
from workbench.core.config import ADDED_LATER
from workbench.core.tensors import Images
from workbench.weights.diffusers_folder import read_config


class VQAutoencoder(Autoencoder):
    """VQModel; a latent is taken before quantisation, and decoding quantises it.

    The quantiser uses straight-through gradients, so guidance works.
    """

    def __init__(self, model: Any, moment_weight: float = 0.0) -> None:
        super().__init__(model)
        self.moment_weight = moment_weight

    @property
    def latent_channels(self) -> int:
        return int(self.model.config.vq_embed_dim or self.model.config.latent_channels)

    def _encode(self, x: Tensor) -> Tensor:
        latents: Tensor = self.model.encode(x).latents
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.model.decode(latents).sample
        return images

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        import copy

        features = copy.deepcopy(self.model.encoder)
        projection = nn.Sequential(features.conv_out, self.model.quant_conv)
        features.conv_out = nn.Identity()
        return features, projection

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        _, loss, parts = self.reconstruct(x)
        return loss, parts

    def reconstruct(self, x: Images) -> tuple[Images, Tensor, dict[str, Tensor]]:
        """The reconstruction of images, its training loss, and the parts of that."""
        raw = self._encode(2 * x - 1)
        decoded = self.model.decode(raw)
        x_hat = (decoded.sample + 1) / 2
        mse = F.mse_loss(x_hat, x)
        commitment = decoded.commit_loss.mean()
        penalty = moment_penalty(raw)
        loss = mse + 0.25 * commitment + self.moment_weight * penalty
        return x_hat, loss, {"mse": mse, "commitment": commitment, "moments": penalty}


class VQRecipe(DescentRecipe):
    """The architecture shared by quantised autoencoders."""

    latent_channels: Width = Field(8, description="channels of the latent")
    block_out_channels: BlockWidths = Field((32, 32, 64), description="channels at each resolution, multiples of 16")
    layers_per_block: Depth = 1
    num_codes: int = Field(1024, ge=2, le=2**20, description="number of vectors in the codebook")
    codebook_std: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="standard deviation of the elements of new codes; 1: that of the latents under the moment penalty, "
        "so that most codes are used; 0: diffusers' own initialisation, within 1/num_codes",
        json_schema_extra=ADDED_LATER,
    )
    moment_weight: Weight = Field(0.01, description="weight of the penalty on channel means and variances")

    adapter: ClassVar[type[Autoencoder]] = VQAutoencoder
    splits_batches: ClassVar[bool] = True

    def load(self, folder: Path) -> Autoencoder:
        """Read an autoencoder. One whose config states no scaling_factor has 1, as in latent diffusion.

        diffusers' default, 0.18215, is that of Stable Diffusion's AutoencoderKL.
        """
        autoencoder = super().load(folder)
        if "scaling_factor" not in read_config(folder):
            autoencoder.normalise(1.0, 0.0)
        return autoencoder

    @classmethod
    def model_class(cls) -> Any:
        from diffusers import VQModel

        return VQModel

    def build(self, image_channels: int) -> VQAutoencoder:
        stages = len(self.block_out_channels)
        model = self.model_class()(
            in_channels=image_channels,
            out_channels=image_channels,
            down_block_types=("DownEncoderBlock2D",) * stages,
            up_block_types=("UpDecoderBlock2D",) * stages,
            block_out_channels=self.block_out_channels,
            layers_per_block=self.layers_per_block,
            latent_channels=self.latent_channels,
            num_vq_embeddings=self.num_codes,
            norm_num_groups=16,
        )
        if self.codebook_std > 0:
            nn.init.normal_(model.quantize.embedding.weight, std=self.codebook_std)
        return VQAutoencoder(model, self.moment_weight)


class VQ(VQRecipe):
    """VQModel: a codebook of latent vectors; latents are taken before quantisation."""

    kind: Literal["vq"] = "vq"
