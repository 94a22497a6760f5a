"""PSLD: posterior sampling with latent diffusion (arXiv 2307.00619, section 3.2, algorithm 1)."""

from typing import ClassVar, Literal

from pydantic import Field

from workbench.core.bounds import Weight
from workbench.core.tensors import Latents, Scalars
from workbench.solvers.base import Guided, Step, norms


class PSLD(Guided):
    """z <- z' - grad_z (guidance_scale * ||y - A(D(z0_hat))||_2 + weight * ||z0_hat - E(x)||_2).

    z' is the unconditional reverse step, z0_hat = z0_hat(z), and x = A^T y + D(z0_hat) - A^T A(D(z0_hat)) is the
    decoded image in which the part seen by A is replaced by the measurement ("gluing"). A must be linear.

    Neither norm is squared. The first is on [0, 1] images: double published values of its scale, which are for [-1, 1].
    The second is on latents of unit variance: its weight is as published. The authors' scripts for latent diffusion on
    256 px faces have omega = 0.1 (here guidance_scale = 0.2) and gamma = 0.1 (here weight) for all of their operators;
    in these scripts, too, neither norm is squared.
    """

    kind: Literal["psld"] = "psld"
    guidance_scale: Weight = Field(2.0, description="step size, for residuals on [0, 1] images")
    weight: Weight = Field(0.1, description="weight of the distance of z0_hat from the glued image's latent")

    linear_only: ClassVar[bool] = True

    def energy(self, step: Step, z: Latents, z0_hat: Latents) -> Scalars:
        x0_hat = step.networks.decode(z0_hat)
        residual = step.residual(x0_hat)
        # A^T y - A^T A x0_hat = A^T (y - A x0_hat); unobserved entries are zero in the residual
        glued = x0_hat + step.networks.adjoint(residual, step.measurement)
        distance = norms(z0_hat - step.networks.encode(glued))
        return self.guidance_scale * norms(residual) + self.weight * distance
