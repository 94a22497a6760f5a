"""Noise levels, and the chain of them that reverse diffusion goes through.

Everything outside the prior is in variance-preserving coordinates of unit-variance latents:
z = sqrt(a) z0 + sqrt(1 - a) eps, with a = alpha_bar. Solvers and start rules know noise levels by a chain alone.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.config import UserError
from workbench.tensors import Scalars, Times


@dataclass(frozen=True)
class Chain:
    """The noise levels that a chain of reverse steps visits, from the noisiest to its end.

    A position counts steps: at position i < num_steps the network is evaluated at `time[i]`, on latents at
    `alpha_bar[i]`; position num_steps is the end, where it is not.

    Attributes:
        time: what the network is told, (num_steps,) float64, descending.
        alpha_bar: (num_steps + 1,) float64, ascending; the last is the end's, 1 where it is clean.
        by_timestep: alpha_bar at every timestep 0 ... T - 1, (T,), descending; None for a network without timesteps.
    """

    time: Tensor
    alpha_bar: Tensor
    by_timestep: Tensor | None = None

    def __len__(self) -> int:
        """num_steps."""
        return len(self.time)

    @property
    def snr(self) -> Tensor:
        """alpha_bar / (1 - alpha_bar) where the network is evaluated, (num_steps,), ascending."""
        return snr(self.alpha_bar[:-1])

    def all_timesteps(self, asked_by: str) -> Tensor:
        """`by_timestep`, for rules that are defined on nothing else.

        Raises:
            UserError: where there are no timesteps.
        """
        if self.by_timestep is None:
            raise UserError(f"{asked_by} is defined on a DDPM prior's timesteps, and this prior has none: use another")
        return self.by_timestep

    def recorded_time(self, position: Tensor) -> Tensor:
        """What the network is told at each position, as rows have it.

        Timesteps, which are whole numbers, come as int64, and -1 at the end; other times as float64, NaN at the end.
        """
        if bool((self.time == self.time.round()).all()):
            return torch.cat([self.time.long(), torch.tensor([-1])])[position]
        return torch.cat([self.time, torch.tensor([torch.nan], dtype=torch.float64)])[position]


class NoiseLevels(ABC):
    """The noise levels that a network was trained on."""

    @abstractmethod
    def alpha_bar_at(self, time: Times) -> Scalars:
        """alpha_bar per image, (batch,) float64 on the CPU, where the network is told `time`."""

    @abstractmethod
    def chain(self, num_steps: int, latent_shape: tuple[int, int, int], clean_end: bool = True) -> Chain:
        """num_steps levels from the noisiest downwards.

        Args:
            latent_shape: (channel, height, width).
            clean_end: end without noise; else at the cleanest level that the network knows.

        Raises:
            UserError: for a number of steps that there cannot be.
        """


def snr(alpha_bar: Tensor) -> Tensor:
    """alpha_bar / (1 - alpha_bar)."""
    return alpha_bar / (1 - alpha_bar)
