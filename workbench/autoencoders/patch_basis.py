"""A basis for the patches of images, in diffusers' folder format: the model behind `pca`."""

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn

from workbench.autoencoders.folder_model import FolderModel


class PatchBasis(FolderModel):
    """z_k = u_k . (patch - mean) / std_k, and back: patch = mean + sum_k z_k std_k u_k.

    Both directions are convolutions with a stride of one patch, whose filters are the orthonormal u_k. New ones are
    random.

    Args:
        in_channels: channels of the images.
        latent_channels: number of u_k; at most the number of values in a patch.
        patch_size: pixels per side.
    """

    def __init__(
        self,
        in_channels: int = 1,
        latent_channels: int = 8,
        patch_size: int = 4,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            latent_channels=latent_channels,
            patch_size=patch_size,
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
        )
        patch = (in_channels, patch_size, patch_size)
        columns = torch.linalg.qr(torch.randn(in_channels * patch_size**2, latent_channels))[0]
        self.components = nn.Parameter(columns.T.reshape(latent_channels, *patch))
        self.std = nn.Parameter(torch.ones(latent_channels))
        self.mean = nn.Parameter(torch.zeros(patch))

    def filters(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the encoding convolution."""
        weight = self.components / self.std.reshape(-1, 1, 1, 1)
        return weight, -(weight * self.mean).sum((1, 2, 3))

    def encode(self, x: Tensor) -> AutoencoderTinyOutput:
        """Latents of images, (batch, latent_channels, height / patch_size, width / patch_size)."""
        return AutoencoderTinyOutput(latents=F.conv2d(x, *self.filters(), stride=self.mean.shape[-1]))

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Images of latents."""
        weight = self.components * self.std.reshape(-1, 1, 1, 1)
        rows, columns = latents.shape[2:]
        around = F.conv_transpose2d(latents, weight, stride=self.mean.shape[-1])
        return DecoderOutput(sample=around + self.mean.repeat(1, rows, columns))
