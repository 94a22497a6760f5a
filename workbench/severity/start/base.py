"""Start rules: where does reverse diffusion start, and from which latent?

Notation: a = alpha_bar of a noise level, SNR = a / (1 - a), v = variance of z_hat's error. Latents have unit variance.
A start is a position in the chain of noise levels, and a latent at that level.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.families import Member
from workbench.core.tensors import Latents, Scalars
from workbench.diffusion import Chain
from workbench.severity.variance import Evidence, Need


@dataclass(frozen=True)
class Start:
    """The start of the chain, per image.

    Attributes:
        z: the initial latent.
        position: position in the chain of the first network evaluation, (batch,) int64; an image takes len(chain) -
            position evaluations.
        fell_back: the rule could not use z_hat and started from pure noise, (batch,) bool.
        variance: the matched error variance, (batch,); None if the rule matches none.
        distrusted: the residual contradicted the severity encoder, (batch,) bool; None if the rule does not check.
    """

    z: Latents
    position: Tensor
    fell_back: Tensor
    variance: Scalars | None = None
    distrusted: Tensor | None = None


class ChoosesStart(Protocol):
    """The interface of start rules to a restoration."""

    @property
    def needs(self) -> Need:
        """The evidence that it uses, besides z_hat and the measurement."""
        ...

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        """Choose the start of each image.

        Args:
            chain: the noise levels of the full reverse diffusion.
            noise: standard normal, like z_hat, keyed by image.
        """
        ...


class StartRule(Member):
    """Chooses a start for each image; see `ChoosesStart`."""

    @property
    def needs(self) -> Need:
        return Need.NOTHING

    def check(self, chain: Chain) -> None:
        """Refuse, before compute is spent, a chain in which there is no such start. Raises UserError."""

    @abstractmethod
    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start: ...


def check_start(start: object, z_hat: Latents, chain: Chain, kind: str) -> None:
    """Refuse a start that is not one latent and one position of the chain per image. Raises UserError."""
    if not isinstance(start, Start) or start.z.shape != z_hat.shape or start.position.shape != (len(z_hat),):
        raise UserError(
            f"start rule {kind} must return a workbench.severity.start.Start: z like z_hat, one position per image"
        )
    if not bool(((start.position >= 0) & (start.position <= len(chain))).all()):
        raise UserError(
            f"start rule {kind} returns positions {int(start.position.min())} ... {int(start.position.max())}, but "
            f"the chain has 0 ... {len(chain)}: positions count steps and are not timesteps"
        )


def all_from(z: Latents, position: int) -> Start:
    """The same position for all images."""
    batch = len(z)
    return Start(z, torch.full((batch,), position), torch.zeros(batch, dtype=torch.bool))


def first_at_or_below(chain: Chain, timestep: Tensor) -> Tensor:
    """The position of the chain's first timestep at or below `timestep`; len(chain) if there is none."""
    return (chain.time[None] > timestep[:, None]).sum(1)


def with_fallback(z: Latents, position: Tensor, fell_back: Tensor, noise: Latents) -> Start:
    """Replace by pure noise and all steps where `fell_back`."""
    z = torch.where(fell_back.reshape(-1, 1, 1, 1).to(z.device), noise, z)
    return Start(z, torch.where(fell_back, 0, position), fell_back)
