"""DDPM's noise levels: a table of alpha_bar over integer timesteps."""

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Scalars, Times
from workbench.diffusion.noise_levels.base import NoiseLevels


class DDPMLevels(NoiseLevels):
    """alpha_bar over timesteps 0 ... T - 1, float64 so that ratios near 0 and 1 stay exact.

    z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps (DDPM, arXiv 2006.11239, eq. 4); the network time is t.
    The last value may be 0: zero terminal SNR (arXiv 2305.08891).

    Args:
        table: alpha_bar, (T,), strictly decreasing in [0, 1).
    """

    def __init__(self, table: Tensor, std: float = 1.0) -> None:
        super().__init__(std)
        if table.ndim != 1 or not bool((table.diff() < 0).all()):
            raise ValueError("alpha_bar must be one strictly decreasing row")
        if not 0 <= float(table[-1]) <= float(table[0]) < 1:
            raise ValueError("alpha_bar must be in [0, 1)")
        self.table = table.double().cpu()

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.table)

    @property
    def alpha_bar(self) -> Tensor:
        """alpha_bar of unit-variance latents at every timestep, (T,)."""
        return self.in_unit_coordinates(self.table)

    @property
    def cleanest(self) -> float:
        return 0.0

    def own_alpha_bar_at(self, time: Times) -> Scalars:
        return self.table[time.cpu().long()]

    def times(self, num_steps: int, latent_shape: tuple[int, int, int]) -> Tensor:
        return spaced_timesteps(self.num_timesteps, num_steps).double()

    def _by_timestep(self) -> Tensor:
        return self.alpha_bar


def spaced_timesteps(num_timesteps: int, num_steps: int) -> Tensor:
    """num_steps timesteps from T - 1 downwards, evenly spaced: (num_steps,) int64, descending.

    Args:
        num_timesteps: T.

    Raises:
        UserError: unless 1 <= num_steps <= T.
    """
    if num_steps > num_timesteps:
        raise UserError(f"sampler.num_steps must be at most T = {num_timesteps}, got {num_steps}")
    if num_steps < 1:
        raise UserError(f"sampler.num_steps must be at least 1, got {num_steps}")
    steps = torch.arange(num_steps, dtype=torch.float64)
    return (num_timesteps * (1 - steps / num_steps)).round().long() - 1


def leading_timesteps(num_timesteps: int, num_steps: int, offset: int = 0) -> Tensor:
    """num_steps timesteps T // num_steps apart, of which the last is `offset`: (num_steps,) float64, descending.

    Args:
        num_timesteps: T.

    Raises:
        UserError: unless 1 <= num_steps <= T, and the first timestep is below T.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise UserError(f"sampler.num_steps must be from 1 to T = {num_timesteps}, got {num_steps}")
    steps = torch.arange(num_steps - 1, -1, -1, dtype=torch.float64) * (num_timesteps // num_steps) + offset
    if steps[0] >= num_timesteps:
        raise UserError(
            f"sampler.steps_offset {offset} puts the first of {num_steps} steps beyond T = {num_timesteps}: "
            "use fewer steps"
        )
    return steps
