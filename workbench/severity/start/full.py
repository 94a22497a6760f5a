"""The full chain from pure noise."""

from typing import Literal

from workbench.core.tensors import Latents
from workbench.diffusion import Chain
from workbench.severity.start.base import Start, StartRule, all_from
from workbench.severity.variance import Evidence


class Full(StartRule):
    """The unaccelerated baseline: z_T ~ N(0, I), all steps of the chain."""

    kind: Literal["full"] = "full"

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        return all_from(noise, 0)
