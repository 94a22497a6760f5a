"""What a start rule may look at, and what it answers."""

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from workbench.diffusion import Chain
from workbench.families import Member
from workbench.measurement import Measurement
from workbench.severity.budget import Budget
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.fusion import Fusion
from workbench.severity.recalibration import Recalibration
from workbench.severity.residual import Encode, Forward
from workbench.tensors import Latents, Scalars


@dataclass(frozen=True)
class Situation:
    """All that a start rule may look at.

    Attributes:
        estimate: z_hat and var_hat.
        measurement: what was measured.
        chain: the noise levels that reverse diffusion would go through.
        noise: standard normal, like z_hat, keyed by image.
        truth: the clean latent; for oracles only, None on a user's images.
        forward: A(D(z)), for rules that look at the residual.
        encode: z_hat of other measured values, for the same rules.
        fusion: what is usual for the severity encoder, for rules that doubt it.
        recalibration: how its variance is made right, how far that is off, and how its error spreads over channels.
        seed: keys the probes.
        budget: how a control spends what the start spends that it is set against.
    """

    estimate: SeverityEstimate
    measurement: Measurement
    chain: Chain
    noise: Latents
    truth: Latents | None = None
    forward: Forward | None = None
    encode: Encode | None = None
    fusion: Fusion | None = None
    recalibration: Recalibration | None = None
    seed: int = 0
    budget: Budget | None = None


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


class StartRule(Member):
    """Chooses a start for each image."""

    @property
    def fitted(self) -> bool:
        """Whether the rule needs to know what is usual for the severity encoder."""
        return False

    @property
    def recalibrated(self) -> bool:
        """Whether the rule needs the severity encoder's recalibration, or what is fitted with it."""
        return False

    @property
    def trusts_encoder(self) -> bool:
        """Whether the severity encoder's var_hat decides the start."""
        return False

    @abstractmethod
    def __call__(self, situation: Situation) -> Start:
        """The start of each image of the situation."""
