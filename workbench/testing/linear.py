"""Linear networks with the workbench's own classes, for which everything has a closed form."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.autoencoders import Autoencoder
from workbench.core import randomness
from workbench.core.tensors import Images, Latents, Times
from workbench.diffusion import DDPMLevels, NoiseLevels, Prior
from workbench.diffusion.prediction import Prediction, target
from workbench.testing.gaussian import Gaussian

CHANNELS = 4
"""Latent channels per image channel: the pixels of a 2 x 2 block."""


class ModelConfig(dict[str, Any]):
    """A dictionary whose entries are also attributes, like diffusers' configs."""

    __getattr__ = dict.__getitem__


class LinearModel(nn.Module):
    """Images on [-1, 1] to raw latents and back: each 2 x 2 block of pixels is rotated by an orthogonal matrix.

    The encoder differs by `encoder_error` times another orthogonal matrix.
    """

    def __init__(self, scale: float, shift: float, encoder_error: float, image_channels: int) -> None:
        super().__init__()
        latent_channels = CHANNELS * image_channels
        turn = orthogonal(latent_channels, "autoencoder")
        self.turn = nn.Parameter(turn)
        self.encoder = nn.Parameter(turn + encoder_error * orthogonal(latent_channels, "encoder"))
        self.config = ModelConfig(
            in_channels=image_channels,
            latent_channels=latent_channels,
            block_out_channels=(8, 8),
            scaling_factor=scale,
            shift_factor=shift,
        )


class LinearAutoencoder(Autoencoder):
    """A linear autoencoder.

    Args:
        scale, shift: scale and shift of the latents, as in every autoencoder.
        encoder_error: 0: decode(encode(x)) = x and encode(decode(z)) = z; above 0, neither holds, as in trained
            autoencoders.
    """

    def __init__(
        self, scale: float = 1.0, shift: float = 0.0, encoder_error: float = 0.0, image_channels: int = 1
    ) -> None:
        super().__init__(LinearModel(scale, shift, encoder_error, image_channels))
        self.requires_grad_(False)

    def _encode(self, x: Tensor) -> Tensor:
        return _mix(self.model.encoder, nn.functional.pixel_unshuffle(x, 2))

    def _decode(self, latents: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(_mix(self.model.turn.T, latents), 2)

    def decode_adjoint(self, x: Images) -> Latents:
        """Apply the transpose of the Jacobian of `decode`."""
        return _mix(self.model.turn, nn.functional.pixel_unshuffle(x, 2)) / (2 * self.scale)

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        projection = nn.Conv2d(self.latent_channels, self.latent_channels, 1, bias=False)
        projection.weight.data = self.model.encoder.data[:, :, None, None].clone()
        return nn.PixelUnshuffle(2), projection

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.decode(self.encode(x)) - x).square().mean(), {}


class GaussianNetwork(nn.Module):
    """A perfectly trained UNet for Gaussian latents; has the part of a UNet's interface that Prior uses.

    With x = s u + n eps and u = c z0 for z0 ~ N(m, C), E[u | x] = c m + s c^2 C (s^2 c^2 C + n^2 I)^-1 (x - s c m).

    Args:
        latents: the distribution of clean latents of unit variance, flattened.
        latent_shape: (channel, height, width).
        levels: the noise levels.
        prediction: what it predicts.
    """

    def __init__(
        self, latents: Gaussian, latent_shape: tuple[int, int, int], levels: NoiseLevels, prediction: Prediction
    ) -> None:
        super().__init__()
        self.config = ModelConfig(in_channels=latent_shape[0], sample_size=latent_shape[1])
        self.latents, self.levels, self.prediction = latents, levels, prediction
        self.variances, self.directions = torch.linalg.eigh(latents.covariance)

    def forward(self, x: Latents, time: Times) -> SimpleNamespace:
        """`sample`: the prediction at per-image times, computed in float64."""
        signal, noise = (c[:, None] for c in self.levels.mixture_at(time))
        inputs, mean = x.flatten(1).double(), self.levels.std * self.latents.mean
        variances = self.levels.std**2 * self.variances
        gain = signal * variances / (signal.square() * variances + noise.square())
        u = mean + (gain * ((inputs - signal * mean) @ self.directions)) @ self.directions.T
        eps = (inputs - signal * u) / noise
        return SimpleNamespace(sample=target(self.prediction, u, eps, signal, noise).reshape(x.shape).to(x))


def gaussian_prior(
    latents: Gaussian,
    latent_shape: tuple[int, int, int],
    levels: NoiseLevels | None = None,
    prediction: Prediction = "v_prediction",
) -> Prior:
    """The exact prior of Gaussian latents; the noise levels are latent diffusion's by default."""
    levels = latent_diffusion_levels() if levels is None else levels
    return Prior(GaussianNetwork(latents, latent_shape, levels, prediction), levels, prediction)


BETA_START, BETA_END, NUM_TIMESTEPS = 0.0015, 0.0195, 1000


def latent_diffusion_levels() -> DDPMLevels:
    """The default noise levels: latent diffusion's scaled_linear betas (arXiv 2112.10752)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, NUM_TIMESTEPS, dtype=torch.float64) ** 2
    return DDPMLevels((1 - betas).cumprod(0))


def orthogonal(size: int, key: str) -> Tensor:
    """An orthogonal matrix, (size, size), the same at every call."""
    return torch.linalg.qr(torch.randn(size, size, generator=randomness.generator(key)))[0]


def _mix(matrix: Tensor, channels: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", matrix, channels)
