"""EDM's noise levels and preconditioning (arXiv 2206.00364, table 1)."""

import math
from typing import Self

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Scalars, Times
from workbench.diffusion.noise_levels.base import NoiseLevels


class EDMLevels(NoiseLevels):
    """u + sigma eps with sigma from sigma_max down to sigma_min; the network time is c_noise = ln(sigma) / 4.

    EDM's denoiser is D(u + sigma eps) = c_skip (u + sigma eps) + c_out F(c_in (u + sigma eps); c_noise), where u has
    standard deviation sigma_data. In units of sigma_data the input of F is variance-preserving:
    c_in (u + sigma eps) = sqrt(b) u / sigma_data + sqrt(1 - b) eps with b = sigma_data^2 / (sigma_data^2 + sigma^2).
    There c_skip = b and c_out = sqrt(b) sigma, so F is sqrt(1 - b) u / sigma_data - sqrt(b) eps: v-prediction's v with
    the opposite sign. So an EDM network is a v-prediction network with the time c_noise.

    Args:
        sigma_min, sigma_max: the last and the first level of chains.
        sigma_data: standard deviation of u; std is that of u / sigma_data.
        rho: chains are evenly spaced in sigma^(1 / rho) (eq. 5).
    """

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        sigma_data: float = 0.5,
        rho: float = 7.0,
        std: float = 1.0,
    ) -> None:
        super().__init__(std)
        if not 0 < sigma_min < sigma_max < math.inf or not sigma_data > 0 or not rho > 0:
            raise ValueError("EDM's noise levels need 0 < sigma_min < sigma_max, sigma_data > 0 and rho > 0")
        self.sigma_min, self.sigma_max, self.sigma_data, self.rho = sigma_min, sigma_max, sigma_data, rho

    def for_latents(self, std: float) -> Self:
        return super().for_latents(std / self.sigma_data)

    @property
    def cleanest(self) -> float:
        return math.log(self.sigma_min) / 4

    def own_alpha_bar_at(self, time: Times) -> Scalars:
        sigma = (4 * time.double().cpu()).exp()
        return self.sigma_data**2 / (self.sigma_data**2 + sigma.square())

    def times(self, num_steps: int, latent_shape: tuple[int, int, int]) -> Tensor:
        if num_steps < 1:
            raise UserError(f"sampler.num_steps must be at least 1, got {num_steps}")
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        root = torch.linspace(high, low, num_steps, dtype=torch.float64)
        return self.rho * root.log() / 4
