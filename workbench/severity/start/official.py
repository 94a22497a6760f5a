"""The start rule in the authors' code."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from workbench.core.tensors import Latents, Scalars
from workbench.diffusion import Chain, diffuse
from workbench.diffusion.noise_levels import snr
from workbench.severity.start.base import Start, StartRule, first_at_or_below, with_fallback
from workbench.severity.variance import Evidence, Need, own_variance


class Official(StartRule):
    """The authors' rule: t = argmin |SNR_t - 1 / v| over all T, z = sqrt(1 - c v) z_hat + sqrt(c v) eps.

    The first network evaluation is at t - 1 or, if the grid ends above it, at the grid's last timestep, so that the
    added noise is removed. If c v >= 1, the square root would be NaN: the rule falls back to `full`, with a flag. It is
    kept so that published settings can be compared.

    On a grid of all T, this equals their code, except at t = 0, from which they take no step. On a shorter grid (DDIM)
    it
    differs: they search for the match among the timesteps of the grid and start two places below it, with at least one
    step. So on a grid of 500 of T = 1000, their first evaluation is some 3 to 5 timesteps below the match; here it is 1
    or 2. Here, the match is always over all T, and the added noise is the same.
    """

    kind: Literal["official"] = "official"

    c: float = Field(1.2, gt=0, le=1000, description="factor on the variance; published settings use 1.0 to 1.2")

    @property
    def needs(self) -> Need:
        return Need.VAR_HAT

    def index(self, var: Scalars, alpha_bar: Tensor) -> Tensor:
        """argmin over timesteps of |SNR_t - 1 / v|, (batch,) int64, given alpha_bar of all T."""
        return (snr(alpha_bar)[None] - 1 / var.double().cpu()[:, None]).abs().argmin(1)

    def check(self, chain: Chain) -> None:
        chain.all_timesteps("start official")

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        var = own_variance(evidence.estimate)
        position = first_at_or_below(chain, self.index(var, chain.all_timesteps("start official")) - 1)
        position = position.clamp(max=len(chain) - 1)
        noise_variance = self.c * var.double()
        fell_back = (noise_variance >= 1).cpu()
        z = diffuse(evidence.estimate.z_hat, noise, (1 - noise_variance).clamp(min=0))
        return with_fallback(z, position, fell_back, noise)
