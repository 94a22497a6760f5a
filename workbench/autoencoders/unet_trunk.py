"""A severity encoder's trunk of more capacity than the autoencoder's encoder: a UNet on the grid of the latents."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder
from workbench.core.tensors import Images, Latents


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
        unet: Any = UNet2DModel(
            in_channels=autoencoder.image_channels * self.downscale**2 + channels,
            out_channels=channels,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
            norm_num_groups=16,
        )
        self.projection = unet.conv_out
        unet.conv_out = nn.Identity()  # its input are the features
        self.unet = unet
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Images) -> tuple[Tensor, Latents]:
        z = self.encoder(x)[1]
        blocks = F.pixel_unshuffle(2 * x - 1, self.downscale)
        features = self.unet(torch.cat([blocks, z], dim=1), 0).sample
        return features, z + self.projection(features)
