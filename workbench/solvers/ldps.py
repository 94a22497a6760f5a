"""Latent diffusion posterior sampling: LDPS (arXiv 2307.00619, section 3.1; DPS in latent space, arXiv 2209.14687)."""

from typing import Literal

from pydantic import Field

from workbench.core.bounds import Weight
from workbench.core.tensors import Latents, Scalars
from workbench.solvers.base import Guided, Step


class LDPS(Guided):
    """z <- z' - guidance_scale * grad_z ||y - A(D(z0_hat(z)))||_2.

    z' is the unconditional reverse step. The norm is not squared, and is taken per image over observed entries of [0,
    1]
    images: double published values, which are for [-1, 1].
    """

    kind: Literal["ldps"] = "ldps"
    guidance_scale: Weight = Field(2.0, description="step size, for residuals on [0, 1] images")

    def energy(self, step: Step, z: Latents, z0_hat: Latents) -> Scalars:
        return self.guidance_scale * step.residual_norm(z0_hat)
