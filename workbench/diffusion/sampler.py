"""The reverse step shared by all solvers: DDPM and DDIM on a chain of noise levels."""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from workbench.core.config import ADDED_LATER, UserError
from workbench.core.families import Member, Open
from workbench.core.tensors import Latents, Scalars
from workbench.diffusion.noise_levels import Chain, DDPMLevels, NoiseLevels
from workbench.diffusion.noise_levels.ddpm import leading_timesteps


class DDIM(Member):
    """DDIM (arXiv 2010.02502, eq. 12 and 16): eta 0 is deterministic, eta 1 is DDPM's posterior variance."""

    kind: Literal["ddim"] = "ddim"
    num_steps: int = Field(
        1000, ge=1, le=100_000, description="number of steps of the chain, from pure noise to the clean end"
    )
    eta: float = Field(0.0, ge=0, le=1, description="fraction of DDPM's noise that a step adds")
    clean_end: bool = Field(
        True,
        description="end without noise, or at the level of timestep 0, like latent diffusion's own DDIM (diffusers' "
        "set_alpha_to_one=False)",
        json_schema_extra=ADDED_LATER,
    )

    spacing: Literal["trailing", "leading"] = Field(
        "trailing",
        description="which timesteps a shorter chain keeps, as diffusers names them: trailing: from the last one on; "
        "leading: from the first one on, as latent diffusion and Stable Diffusion do, so that no chain begins at pure "
        "noise",
        json_schema_extra=ADDED_LATER,
    )
    steps_offset: int = Field(
        0,
        ge=0,
        le=100,
        description="added to the timesteps of spacing=leading; Stable Diffusion: 1",
        json_schema_extra=ADDED_LATER,
    )

    @model_validator(mode="after")
    def _offset_of_leading(self) -> "DDIM":
        if self.steps_offset and self.spacing != "leading":
            raise ValueError("steps_offset applies to spacing=leading only")
        return self

    def chain(self, levels: NoiseLevels, latent_shape: tuple[int, ...]) -> Chain:
        """The noise levels of a chain for latents of (channel, height, width)."""
        channels, height, width = latent_shape
        if self.spacing == "leading":
            if not isinstance(levels, DDPMLevels):
                raise UserError("sampler.spacing=leading needs a prior with timesteps, such as Stable Diffusion's")
            return levels.chain_at(
                leading_timesteps(levels.num_timesteps, self.num_steps, self.steps_offset), self.clean_end
            )
        return levels.chain(self.num_steps, (channels, height, width), self.clean_end)

    def step(
        self, z0_hat: Latents, eps: Latents, alpha_bar: Scalars, alpha_bar_next: Scalars, noise: Latents
    ) -> Latents:
        """One step from noise level alpha_bar to the next lower one, per image.

        z_next = sqrt(a') z0_hat + sqrt(1 - a' - sigma^2) eps + sigma noise, with
        sigma = eta sqrt((1 - a') / (1 - a)) sqrt(1 - a / a').

        Args:
            z0_hat, eps: the prior's estimates at the current level.
            alpha_bar, alpha_bar_next: a and a', (batch,); a' = 1 is the clean end, where the step returns z0_hat.
            noise: standard normal, used if eta > 0.
        """
        a, a_next = (level.double().reshape(-1, 1, 1, 1) for level in (alpha_bar, alpha_bar_next))
        sigma = self.eta * ((1 - a_next) / (1 - a)).sqrt() * (1 - a / a_next).clamp(min=0).sqrt()
        direction = (1 - a_next - sigma.square()).clamp(min=0).sqrt()
        signal, direction, sigma = (c.to(z0_hat) for c in (a_next.sqrt(), direction, sigma))
        return signal * z0_hat + direction * eps + sigma * noise


class DDPM(DDIM):
    """DDPM's ancestral sampling with its posterior variance (arXiv 2006.11239, eq. 7): DDIM with eta = 1."""

    kind: Literal["ddpm"] = "ddpm"  # type: ignore[assignment]
    eta: Literal[1] = Field(1, description="all of DDPM's noise")


Sampler = Annotated[DDIM | DDPM, Field(discriminator="kind"), Open(DDIM)]


def diffuse(z0: Latents, eps: Latents, alpha_bar: Scalars) -> Latents:
    """z_t = sqrt(alpha_bar) z0 + sqrt(1 - alpha_bar) eps, with alpha_bar per image, (batch,)."""
    a = alpha_bar.double().reshape(-1, 1, 1, 1)
    return a.sqrt().to(z0) * z0 + (1 - a).sqrt().to(z0) * eps


def noise_for(z: Latents, generators: list[torch.Generator]) -> Latents:
    """Standard normal noise like z, image i's from generator i."""
    return torch.stack([torch.randn(z.shape[1:], generator=g) for g in generators]).to(z)
