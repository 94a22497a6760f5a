"""Latent diffusion posterior sampling: LDPS (arXiv 2307.00619, section 3.1; DPS in latent space, arXiv 2209.14687)."""

from typing import Literal

import torch
from pydantic import Field

from workbench.solvers.base import Solver, Step
from workbench.tensors import Latents


class LDPS(Solver):
    """z <- z' - guidance_scale * grad_z ||y - A(D(z0_hat(z)))||_2.

    z' is the unconditional reverse step. The norm is not squared, is taken per image over observed entries, and on
    [0, 1] images: published values, for [-1, 1], are to be doubled.
    """

    kind: Literal["ldps"] = "ldps"
    guidance_scale: float = Field(2.0, ge=0, description="step size, for residuals on [0, 1] images")

    def step(self, step: Step) -> Latents:
        with torch.enable_grad():
            z = step.z.detach().requires_grad_(True)
            z0_hat, eps = step.networks.predict(z, step.timestep)
            # a sum over images: each image's gradient is its own
            (gradient,) = torch.autograd.grad(step.residual_norm(z0_hat).sum(), z)
        return step.reverse(z0_hat.detach(), eps.detach()) - self.guidance_scale * gradient
