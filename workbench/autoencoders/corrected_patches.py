"""Principal components of patches with convolutional corrections, in diffusers' folder format: behind `patch`."""

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn

from workbench.autoencoders.folder_model import FolderModel
from workbench.autoencoders.patch_basis import PatchBasis

PATCH_SIZE = 4


class CorrectedPatches(FolderModel):
    """z = P(x) + f(x) and x = P'(z) + g(z): P and P' are the basis of 4 x 4 patches, f and g convolutional networks.

    New corrections are 0, so training starts from the principal components. All convolutions at full resolution are
    replaced by moving blocks of 2 x 2 pixels to channels and back.

    Args:
        in_channels: channels of the images.
        latent_channels: channels of the latent, at a quarter of the image's size.
        width: channels at half the image's size.
        latent_width: channels at a quarter of the image's size.
        num_blocks: residual blocks at half the image's size, for each of f and g.
        num_latent_blocks: the same at a quarter.
    """

    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 12,
        width: int = 32,
        latent_width: int = 96,
        num_blocks: int = 1,
        num_latent_blocks: int = 3,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            latent_channels=latent_channels,
            width=width,
            latent_width=latent_width,
            num_blocks=num_blocks,
            num_latent_blocks=num_latent_blocks,
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
        )
        half_pixels = 4 * in_channels
        self.basis = PatchBasis(in_channels, latent_channels, PATCH_SIZE)
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            _convolution(half_pixels, width),
            *(_Block(width) for _ in range(num_blocks)),
            nn.Conv2d(width, latent_width, 3, stride=2, padding=1),
            *(_Block(latent_width) for _ in range(num_latent_blocks)),
            nn.SiLU(),
        )
        self.to_latent = _zero(_convolution(latent_width, latent_channels))
        self.correction = nn.Sequential(
            _convolution(latent_channels, latent_width),
            *(_Block(latent_width) for _ in range(num_latent_blocks)),
            _convolution(latent_width, 4 * width),
            nn.PixelShuffle(2),
            *(_Block(width) for _ in range(num_blocks)),
            nn.SiLU(),
            _zero(_convolution(width, half_pixels)),
            nn.PixelShuffle(2),
        )

    @torch.no_grad()
    def scale_channels(self, factors: Tensor) -> None:
        """Multiply each latent channel by its factor, (latent_channels,), and leave every reconstruction as it is."""
        assert self.to_latent.bias is not None
        self.basis.std.div_(factors)
        self.to_latent.weight.mul_(factors.reshape(-1, 1, 1, 1))
        self.to_latent.bias.mul_(factors)
        first = self.correction[0]
        assert isinstance(first, nn.Conv2d)
        first.weight.div_(factors.reshape(1, -1, 1, 1))

    def encode(self, x: Tensor) -> AutoencoderTinyOutput:
        """Raw latents of images on [-1, 1], (batch, latent_channels, height / 4, width / 4)."""
        return AutoencoderTinyOutput(latents=self.basis.encode(x).latents + self.to_latent(self.features(x)))

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Images of raw latents."""
        return DecoderOutput(sample=self.basis.decode(latents).sample + self.correction(latents))


class _Block(nn.Module):
    """Two convolutions around an identity, at first the identity alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.SiLU(), _convolution(width, width), nn.SiLU(), _zero(_convolution(width, width)))

    def forward(self, x: Tensor) -> Tensor:
        around: Tensor = x + self.layers(x)
        return around


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _zero(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
