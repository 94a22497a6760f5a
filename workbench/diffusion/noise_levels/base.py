"""Noise levels, and the chain of levels of a reverse diffusion.

Everything outside the prior uses variance-preserving coordinates of unit-variance latents:
z = sqrt(a) z0 + sqrt(1 - a) eps, with a = alpha_bar. Solvers and start rules only see noise levels through a chain.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Scalars, Times


@dataclass(frozen=True)
class Chain:
    """The noise levels of a chain of reverse steps, from the noisiest to the last.

    A position counts steps: at position i < num_steps, the network is evaluated at `time[i]`, on latents at
    `alpha_bar[i]`; position num_steps is the end, where it is not evaluated.

    Attributes:
        time: the network time, (num_steps,) float64, descending.
        alpha_bar: (num_steps + 1,) float64, ascending; the last value is that of the end, 1 if it is clean.
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
        """alpha_bar / (1 - alpha_bar) at the network evaluations, (num_steps,), ascending."""
        return snr(self.alpha_bar[:-1])

    def all_timesteps(self, asked_by: str) -> Tensor:
        """`by_timestep`, for rules that need timesteps.

        Raises:
            UserError: if there are no timesteps.
        """
        if self.by_timestep is None:
            raise UserError(f"{asked_by} needs a DDPM prior's timesteps, but this prior has none: use another")
        return self.by_timestep

    def recorded_time(self, position: Tensor) -> Tensor:
        """The network time at each position, as stored in rows.

        Timesteps, which are integers, are int64, and -1 at the end; other times are float64, and NaN at the end.
        """
        if self.by_timestep is not None:
            return torch.cat([self.time.long(), torch.tensor([-1])])[position]
        return torch.cat([self.time, torch.tensor([torch.nan], dtype=torch.float64)])[position]


class NoiseLevels(ABC):
    """The noise levels that a network was trained on.

    The network's own clean latents u = c z0 have standard deviation c, instead of 1 outside, and its input is
    x = signal u + noise eps. With b = signal^2 / (signal^2 + noise^2), the conversion from unit coordinates is

        alpha_bar = c^2 b / (c^2 b + 1 - b)    and    x = z sqrt((signal^2 + noise^2) (c^2 b + 1 - b)).

    Args:
        std: c, measured on latents of images or on samples of the prior (`latent_std`).
    """

    preserves_variance: ClassVar[bool] = True
    """Whether signal^2 + noise^2 = 1."""

    def __init__(self, std: float = 1.0) -> None:
        if not 0 < std < float("inf"):
            raise ValueError(f"the latents' standard deviation must be positive, got {std}")
        self.std = std

    def for_latents(self, std: float) -> Self:
        """The same levels of a network whose clean latents have this standard deviation."""
        levels = copy.copy(self)
        levels.std = std
        return levels

    @abstractmethod
    def own_alpha_bar_at(self, time: Times) -> Scalars:
        """b per image, (batch,) float64 on the CPU."""

    @abstractmethod
    def times(self, num_steps: int, latent_shape: tuple[int, int, int]) -> Tensor:
        """The network times of a chain of num_steps, (num_steps,) float64, descending.

        Args:
            latent_shape: (channel, height, width).

        Raises:
            UserError: for an invalid number of steps.
        """

    @property
    @abstractmethod
    def cleanest(self) -> float:
        """The time of the cleanest level that the network was trained on."""

    def mixture_at(self, time: Times) -> tuple[Scalars, Scalars]:
        """(signal, noise) of the network's input, per image, float64 on the CPU."""
        b = self.own_alpha_bar_at(time)
        return b.sqrt(), (1 - b).sqrt()

    def alpha_bar_at(self, time: Times) -> Scalars:
        """alpha_bar of unit-variance latents, (batch,) float64 on the CPU."""
        return self.in_unit_coordinates(self.own_alpha_bar_at(time))

    def in_unit_coordinates(self, b: Tensor) -> Tensor:
        """alpha_bar of unit-variance latents; exactly b if c = 1."""
        return self.std**2 * b / self._variance(b)

    def scale_at(self, time: Times) -> Scalars:
        """x / z, (batch,) float64 on the CPU; exactly 1 if c = 1 and the input is variance-preserving."""
        return self._variance(self.own_alpha_bar_at(time)).sqrt()

    def chain(self, num_steps: int, latent_shape: tuple[int, int, int], clean_end: bool = True) -> Chain:
        """num_steps levels from the noisiest downwards, for latents of (channel, height, width).

        Args:
            clean_end: end without noise; else at the cleanest level of the network's training.

        Raises:
            UserError: for an invalid number of steps.
        """
        return self.chain_at(self.times(num_steps, latent_shape), clean_end)

    def chain_at(self, time: Tensor, clean_end: bool = True) -> Chain:
        """The chain over these network times, (num_steps,) float64, descending; see `chain`."""
        end = self.alpha_bar_at(torch.tensor([self.cleanest], dtype=torch.float64))
        alpha_bar = torch.cat([self.alpha_bar_at(time), torch.ones_like(end) if clean_end else end])
        return Chain(time, alpha_bar, self._by_timestep())

    def _variance(self, b: Tensor) -> Tensor:
        """Variance of a variance-preserving input: c^2 b + 1 - b."""
        return self.std**2 * b + (1 - b)

    def _by_timestep(self) -> Tensor | None:
        return None


def snr(alpha_bar: Tensor) -> Tensor:
    """alpha_bar / (1 - alpha_bar)."""
    return alpha_bar / (1 - alpha_bar)
