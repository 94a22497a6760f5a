"""Denoising networks that also take a condition, such as a text, and classifier-free guidance."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workbench.core.tensors import Latents, Times
from workbench.diffusion.noise_levels import NoiseLevels
from workbench.diffusion.prediction import Prediction
from workbench.diffusion.prior.base import Prior

Condition = Mapping[str, Tensor]
"""The arguments of a network besides its input and the time, by name; each has a first axis of length 1."""


class ConditionalPrior(Prior):
    """A network with one condition for all images.

    Args:
        network, levels, prediction, notes: as for `Prior`.
        condition: what the network is told.
        without: what it is told without the condition, for guidance.
        cfg_scale: classifier-free guidance (arXiv 2207.12598): the answer is extrapolated from that without the
            condition, a + cfg_scale (b - a); 1: none.
    """

    def __init__(
        self,
        network: Any,
        levels: NoiseLevels,
        prediction: Prediction,
        condition: Condition,
        without: Condition | None = None,
        cfg_scale: float = 1.0,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(network, levels, prediction, notes)
        self.cfg_scale = cfg_scale
        self._names = tuple(condition)
        for name, value in condition.items():
            self.register_buffer(f"with_{name}", value, persistent=False)
        if self.guided:
            if without is None:
                raise ValueError("classifier-free guidance needs the condition of no condition")
            for name, value in without.items():
                self.register_buffer(f"without_{name}", value, persistent=False)

    @property
    def guided(self) -> bool:
        """Whether there is classifier-free guidance."""
        return self.cfg_scale != 1

    @property
    def calls(self) -> int:
        return 2 if self.guided else 1

    def answer(self, x: Latents, time: Times) -> Latents:
        time = time.to(x.device, torch.float32)  # half precision has no 999
        answer = self.conditioned(x, time, self._condition("with", len(x)))
        if not self.guided:
            return answer
        alone = self.conditioned(x, time, self._condition("without", len(x)))
        return alone + self.cfg_scale * (answer - alone)

    @abstractmethod
    def conditioned(self, x: Latents, time: Times, condition: dict[str, Tensor]) -> Latents:
        """The network's answer with this condition, whose first axis is the batch."""

    def _condition(self, which: str, batch: int) -> dict[str, Tensor]:
        stored: dict[str, Tensor] = {name: getattr(self, f"{which}_{name}") for name in self._names}
        return {name: value.expand(batch, *value.shape[1:]) for name, value in stored.items()}
