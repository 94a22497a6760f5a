"""TAEF2, a tiny autoencoder for FLUX.2's latents (madebyollin, github.com/madebyollin/taesd), from its two state dicts.

diffusers' AutoencoderTiny is its predecessor TAESD, without the pooled blocks at the lowest resolution. The
architecture is inferred from the names and shapes of the published tensors; the number of groups, which these do not
determine, is the one that reconstructs photographs.
"""

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import Tensor, nn

from workbench.autoencoders.folder_model import FolderModel
from workbench.core.config import UserError
from workbench.weights.diffusers_folder import read_state_dict

WIDTH, LATENT_CHANNELS, NUM_GROUPS = 64, 32, 4
LATENT_BOUND = 3.0
"""The decoder smoothly limits latents to +- this value."""


class TAEF2(FolderModel):
    """Colour images on [-1, 1], as for diffusers' autoencoders, to 32 channels at an eighth of the size, and back."""

    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = LATENT_CHANNELS,
        block_out_channels: tuple[int, ...] = (WIDTH,) * 4,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            latent_channels=latent_channels,
            block_out_channels=block_out_channels,
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
        )
        self.encoder = _Layers(
            _convolution(in_channels, WIDTH),
            _block(),
            *(_halve(), *_blocks()),
            *(_halve(), *_blocks()),
            *(_halve(), *_pooled_blocks()),
            _convolution(WIDTH, latent_channels),
        )
        self.decoder = _Layers(
            _Squeeze(),
            _convolution(latent_channels, WIDTH),
            nn.ReLU(),
            *(*_pooled_blocks(), *_double()),
            *(*_blocks(), *_double()),
            *(*_blocks(), *_double()),
            _block(),
            _convolution(WIDTH, in_channels),
        )

    def encode(self, x: Tensor) -> AutoencoderTinyOutput:
        """Raw latents, (batch, 32, height / 8, width / 8)."""
        return AutoencoderTinyOutput(latents=self.encoder.layers((x + 1) / 2))

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Images of raw latents."""
        return DecoderOutput(sample=2 * self.decoder.layers(latents) - 1)


class _Layers(nn.Module):
    """Layers under the name used by AutoencoderTiny, so that its adapter finds them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)


class _PooledBlock(AutoencoderTinyBlock):
    """A block whose input is first combined with a channel mixing that is normalised over the whole image."""

    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH, "relu")
        self.pool = nn.Sequential(
            nn.Conv2d(WIDTH, 4 * WIDTH, 1, bias=False),
            nn.GroupNorm(NUM_GROUPS, 4 * WIDTH),
            nn.ReLU(),
            nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.pool(x))


class _Squeeze(nn.Module):
    """Smoothly bounded latents."""

    def forward(self, latents: Tensor) -> Tensor:
        return LATENT_BOUND * torch.tanh(latents / LATENT_BOUND)


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _block() -> nn.Module:
    return AutoencoderTinyBlock(WIDTH, WIDTH, "relu")


def _blocks() -> list[nn.Module]:
    return [_block() for _ in range(3)]


def _pooled_blocks() -> list[nn.Module]:
    return [_PooledBlock() for _ in range(3)]


def _halve() -> nn.Module:
    return nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)


def _double() -> tuple[nn.Module, nn.Module]:
    return nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)


def load_taef2(encoder: Path, decoder: Path) -> TAEF2:
    """TAEF2 in float32 from its two state dicts.

    Raises:
        UserError: if a file is missing, damaged, or has other tensors.
    """
    model = TAEF2()
    for part, path in ((model.encoder, encoder), (model.decoder, decoder)):
        try:
            part.layers.load_state_dict(read_state_dict(path), strict=True)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"{path} does not have TAEF2's weights: {detail}") from None
    return model.eval()
