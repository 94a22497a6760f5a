"""The same number of evaluations for all images, each with the noise that its own z_hat lacks."""

from typing import Literal

from pydantic import Field

from workbench.core.config import UserError
from workbench.core.tensors import Latents
from workbench.diffusion import Chain
from workbench.severity.start.base import Start, StartRule
from workbench.severity.start.snr_match import SNRMatch
from workbench.severity.variance import Evidence, Need


class MissingNoise(StartRule):
    """`nfe` evaluations for every image, from z_hat and the noise that it lacks at that level according to `of`.

    A matched start that takes `nfe` evaluations for an image is this start for that image. So, over all `nfe`, the
    restorations are those of every rule that only chooses their number. 0 evaluations decode the estimate.
    """

    kind: Literal["missing_noise"] = "missing_noise"
    nfe: int = Field(
        10,
        ge=0,
        le=100_000,
        description="number of steps, the same for every image; each evaluates the prior once, or twice with "
        "classifier-free guidance",
    )
    of: SNRMatch = Field(SNRMatch(), description="the matched start, whose variance determines the noise to add")

    @property
    def needs(self) -> Need:
        return self.of.needs

    @property
    def label(self) -> str:
        """The rule with its number of evaluations."""
        return f"{self.nfe} evaluations"

    def check(self, chain: Chain) -> None:
        if self.nfe > len(chain):
            raise UserError(
                f"start.nfe = {self.nfe} exceeds the {len(chain)} steps of the chain: increase sampler.num_steps"
            )

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        self.check(chain)
        return self.of.begin(self.of.source(evidence), evidence, chain, noise, position=len(chain) - self.nfe)
