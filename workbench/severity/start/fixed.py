"""CCDF: one noise level for all images."""

from typing import Literal

import torch
from pydantic import Field

from workbench.core.config import ADDED_LATER, UserError
from workbench.core.tensors import Latents
from workbench.diffusion import Chain, diffuse
from workbench.severity.start.base import Start, StartRule, first_at_or_below
from workbench.severity.variance import Evidence


class Fixed(StartRule):
    """One noise level for all images: CCDF (arXiv 2112.05146), z_t = sqrt(a) z_hat + sqrt(1 - a) eps."""

    kind: Literal["fixed"] = "fixed"
    timestep: int = Field(
        200, ge=0, le=100_000, description="where to start; the first timestep of the chain at or below it is used"
    )
    log_snr: float | None = Field(
        None,
        ge=-100,
        le=100,
        description="where to start instead, as ln(a / (1 - a)), also for priors without timesteps; the first level of "
        "the chain at or above it is used",
        json_schema_extra=ADDED_LATER,
    )

    def check(self, chain: Chain) -> None:
        if self.log_snr is not None:
            self._first_at_or_above(self.log_snr, chain)
            return
        num_timesteps = len(chain.all_timesteps("start.timestep"))
        if self.timestep >= num_timesteps:
            raise UserError(f"start.timestep must be below T = {num_timesteps}, got {self.timestep}")
        if self.timestep < chain.time[-1]:
            raise UserError(
                f"start.timestep = {self.timestep} is below {int(chain.time[-1])}, the last timestep of the grid of "
                f"{len(chain)} steps, so no step would be taken: start earlier, or increase sampler.num_steps"
            )

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        batch = len(noise)
        self.check(chain)
        if self.log_snr is None:
            position = first_at_or_below(chain, torch.full((batch,), self.timestep))
        else:
            position = torch.full((batch,), self._first_at_or_above(self.log_snr, chain))
        z = diffuse(evidence.estimate.z_hat, noise, chain.alpha_bar[position])
        return Start(z, position, torch.zeros(batch, dtype=torch.bool))

    def _first_at_or_above(self, log_snr: float, chain: Chain) -> int:
        first = int((chain.snr.log() < log_snr).sum())
        if first == len(chain):
            raise UserError(f"start.log_snr = {log_snr:g} is above the cleanest level of the chain")
        return first
