"""Start rules: where does reverse diffusion begin, and from what latent?

Notation: a = alpha_bar of a noise level, SNR = a / (1 - a), v = variance of z_hat's error. Latents have unit variance.
A start is a position in the chain of noise levels, and a latent at that level.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workbench.core.families import Member
from workbench.core.tensors import Latents, Scalars
from workbench.diffusion import Chain
from workbench.severity.variance import Evidence, Need


@dataclass(frozen=True)
class Start:
    """Where the chain begins, per image.

    Attributes:
        z: the latent to begin from.
        position: of the first network evaluation in the chain, (batch,) int64; an image costs len(chain) - position
            evaluations.
        fell_back: the rule could not use z_hat and began from pure noise, (batch,) bool.
        variance: the error variance that was matched, (batch,); None where the rule matches none.
        distrusted: the residual contradicted the severity encoder, (batch,) bool; None where the rule does not ask.
    """

    z: Latents
    position: Tensor
    fell_back: Tensor
    variance: Scalars | None = None
    distrusted: Tensor | None = None


class ChoosesStart(Protocol):
    """What a restoration asks of a start rule."""

    @property
    def needs(self) -> Need:
        """What of the evidence it looks at, besides z_hat and the measurement."""
        ...

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        """The start of each image.

        Args:
            chain: the noise levels that reverse diffusion would go through.
            noise: standard normal, like z_hat, keyed by image.
        """
        ...


class StartRule(Member):
    """Chooses a start for each image, as `ChoosesStart` says."""

    @property
    def needs(self) -> Need:
        return Need.NOTHING

    def check(self, chain: Chain) -> None:
        """Refuse, before compute is spent, a chain in which there is no such start. Raises UserError."""

    @abstractmethod
    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start: ...


def all_from(z: Latents, position: int) -> Start:
    """One position for all images."""
    batch = len(z)
    return Start(z, torch.full((batch,), position), torch.zeros(batch, dtype=torch.bool))


def first_at_or_below(chain: Chain, timestep: Tensor) -> Tensor:
    """The position of the chain's first timestep at or below `timestep`; len(chain) where there is none."""
    return (chain.time[None] > timestep[:, None]).sum(1)


def with_fallback(z: Latents, position: Tensor, fell_back: Tensor, noise: Latents) -> Start:
    """Pure noise and all steps where `fell_back`."""
    z = torch.where(fell_back.reshape(-1, 1, 1, 1).to(z.device), noise, z)
    return Start(z, torch.where(fell_back, 0, position), fell_back)
