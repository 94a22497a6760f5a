"""Rectified flow's noise levels: a straight line from latents to noise (arXiv 2209.03003; Stable Diffusion 3, FLUX)."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Scalars, Times
from workbench.diffusion.noise_levels.base import NoiseLevels


@dataclass(frozen=True)
class Shift:
    """A constant shift of a chain's levels towards noise: s sigma / (1 + (s - 1) sigma) (arXiv 2403.03206, eq. 23)."""

    factor: float = 1.0

    def __call__(self, sigma: Tensor, latent_shape: tuple[int, int, int]) -> Tensor:
        """The shifted levels, for latents of (channel, height, width)."""
        return self.factor * sigma / (1 + (self.factor - 1) * sigma)


@dataclass(frozen=True)
class DynamicShift(Shift):
    """A shift that grows with the number n of the transformer's tokens, as in FLUX.

    mu is linear in n, from base_shift at base_tokens to max_shift at max_tokens, and with s = e^mu (`exponential`) or
    s = mu (`linear`) a level becomes s / (s + 1 / sigma - 1), which is the static shift by s.

    Attributes:
        patch_size: side of one token in latent pixels.
    """

    base_shift: float = 0.5
    max_shift: float = 1.15
    base_tokens: int = 256
    max_tokens: int = 4096
    kind: Literal["exponential", "linear"] = "exponential"
    patch_size: int = 2

    def mu(self, latent_shape: tuple[int, int, int]) -> float:
        """The shift for latents of this shape, mu in diffusers."""
        tokens = (latent_shape[1] // self.patch_size) * (latent_shape[2] // self.patch_size)
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return self.base_shift + slope * (tokens - self.base_tokens)

    def __call__(self, sigma: Tensor, latent_shape: tuple[int, int, int]) -> Tensor:
        mu = self.mu(latent_shape)
        return Shift(math.exp(mu) if self.kind == "exponential" else mu)(sigma, latent_shape)


class FlowLevels(NoiseLevels):
    """x = (1 - sigma) u + sigma eps with sigma from 1 down to 0; the network time is T sigma.

    Chains have evenly spaced sigma, 1, (n - 1) / n ... 1 / n, shifted: the levels that FLUX's pipeline passes to
    diffusers' FlowMatchEulerDiscreteScheduler.

    Args:
        shift: shift of a chain's levels.
        num_timesteps: T, the unit of time of the network's training.
    """

    preserves_variance: ClassVar[bool] = False

    def __init__(self, shift: Shift | None = None, num_timesteps: int = 1000, std: float = 1.0) -> None:
        super().__init__(std)
        self.shift, self.num_timesteps = shift or Shift(), num_timesteps

    @property
    def cleanest(self) -> float:
        return 1.0  # of T

    def mixture_at(self, time: Times) -> tuple[Scalars, Scalars]:
        sigma = time.double().cpu() / self.num_timesteps
        return 1 - sigma, sigma

    def own_alpha_bar_at(self, time: Times) -> Scalars:
        signal, noise = self.mixture_at(time)
        return signal.square() / (signal.square() + noise.square())

    def scale_at(self, time: Times) -> Scalars:
        return super().scale_at(time) * torch.hypot(*self.mixture_at(time))

    def times(self, num_steps: int, latent_shape: tuple[int, int, int]) -> Tensor:
        if num_steps < 1:
            raise UserError(f"sampler.num_steps must be at least 1, got {num_steps}")
        sigma = 1 - torch.arange(num_steps, dtype=torch.float64) / num_steps
        return self.num_timesteps * self.shift(sigma, latent_shape)
