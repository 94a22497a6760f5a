"""A severity encoder of more capacity than the autoencoder's encoder: a UNet on the grid of the latents."""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders import Autoencoder
from workbench.core.bounds import BlockWidths, Depth
from workbench.core.tensors import Images, Latents
from workbench.severity.encoder import SeverityEncoder
from workbench.severity.trained import SeverityRecipe


class UNetSeverity(SeverityRecipe):
    """z_hat = E(y) + g(y, E(y)), with a UNet g that reads blocks of pixels as channels; var_hat from its last features.

    The autoencoder's own encoder, fine-tuned, is small where the autoencoder is, and sees a neighbourhood. A UNet sees
    the whole image at its lowest resolution, at little cost.
    """

    kind: Literal["unet"] = "unet"  # type: ignore[assignment]
    block_out_channels: BlockWidths = Field((64, 128, 192), description="channels at each resolution, multiples of 16")
    layers_per_block: Depth = 1

    def build(self, autoencoder: Autoencoder) -> SeverityEncoder:
        return SeverityEncoder(autoencoder, UNetTrunk(autoencoder, self.block_out_channels, self.layers_per_block))


class UNetTrunk(nn.Module):
    """Images on [0, 1] to (features, z_hat), like `EncoderTrunk`.

    Args:
        autoencoder: its encoder is copied, and learns too.
        block_out_channels: channels at each resolution; images must be divisible by the autoencoder's factor times 2
            for each but the first.
        layers_per_block: ResNet blocks at each resolution.
    """

    def __init__(self, autoencoder: Autoencoder, block_out_channels: tuple[int, ...], layers_per_block: int) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        self.encoder, self.downscale = autoencoder.encoder_copy(), autoencoder.downscale
        channels, levels = autoencoder.latent_channels, len(block_out_channels)
        self.unet = UNet2DModel(
            in_channels=autoencoder.image_channels * self.downscale**2 + channels,
            out_channels=channels,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
            norm_num_groups=16,
        )
        self.projection = self.unet.conv_out
        self.unet.conv_out = nn.Identity()  # its input are the features
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Images) -> tuple[Tensor, Latents]:
        z = self.encoder(x)[1]
        blocks = F.pixel_unshuffle(2 * x - 1, self.downscale)
        features = self.unet(torch.cat([blocks, z], dim=1), 0).sample
        return features, z + self.projection(features)
