"""The noise schedule: alpha_bar, SNR, and grids of timesteps."""

import torch
from torch import Tensor

from workbench.config import UserError
from workbench.tensors import Scalars, Timesteps


class Schedule:
    """alpha_bar over timesteps 0 ... T - 1, float64 so that ratios near 0 and 1 stay exact.

    z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps (DDPM, arXiv 2006.11239, eq. 4), with z_0 of unit variance.

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

    @property
    def snr(self) -> Tensor:
        """alpha_bar / (1 - alpha_bar), (T,), decreasing."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def log_snr(self) -> Tensor:
        """Natural logarithm of the SNR, (T,)."""
        return self.snr.log()

    def alpha_bar_at(self, timestep: Timesteps) -> Scalars:
        """alpha_bar per image, float64, on the CPU; timestep -1 is the clean end, 1."""
        padded = torch.cat([self.alpha_bar, torch.ones(1, dtype=torch.float64)])
        return padded[timestep.cpu()]

    def grid(self, num_steps: int) -> Tensor:
        """`timestep_grid` of its T."""
        return timestep_grid(self.num_timesteps, num_steps)


def timestep_grid(num_timesteps: int, num_steps: int) -> Tensor:
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
