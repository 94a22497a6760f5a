"""DDPM's noise levels: a table of alpha_bar over whole timesteps."""

import torch
from torch import Tensor

from workbench.config import UserError
from workbench.diffusion.noise_levels.base import Chain, NoiseLevels
from workbench.tensors import Scalars, Times


class DDPMLevels(NoiseLevels):
    """alpha_bar over timesteps 0 ... T - 1, float64 so that ratios near 0 and 1 stay exact.

    z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps (DDPM, arXiv 2006.11239, eq. 4); the network is told t.

    Args:
        alpha_bar: (T,), strictly decreasing in (0, 1).
    """

    def __init__(self, alpha_bar: Tensor) -> None:
        if alpha_bar.ndim != 1 or not bool((alpha_bar.diff() < 0).all()):
            raise ValueError("alpha_bar must be one strictly decreasing row")
        if not 0 < float(alpha_bar[-1]) <= float(alpha_bar[0]) < 1:
            raise ValueError("alpha_bar must lie in (0, 1)")
        self.alpha_bar = alpha_bar.double().cpu()

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.alpha_bar)

    def alpha_bar_at(self, time: Times) -> Scalars:
        return self.alpha_bar[time.cpu().long()]

    def chain(self, num_steps: int, latent_shape: tuple[int, int, int], clean_end: bool = True) -> Chain:
        timesteps = spaced_timesteps(self.num_timesteps, num_steps)
        end = torch.ones(1, dtype=torch.float64) if clean_end else self.alpha_bar[:1]
        return Chain(timesteps.double(), torch.cat([self.alpha_bar[timesteps], end]), self.alpha_bar)


def spaced_timesteps(num_timesteps: int, num_steps: int) -> Tensor:
    """num_steps timesteps from T - 1 downwards, evenly spaced: (num_steps,) int64, descending.

    Args:
        num_timesteps: T.

    Raises:
        UserError: unless 1 <= num_steps <= T.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise UserError(f"num_steps must be 1 ... {num_timesteps}, got {num_steps}")
    steps = torch.arange(num_steps, dtype=torch.float64)
    return (num_timesteps * (1 - steps / num_steps)).round().long() - 1
