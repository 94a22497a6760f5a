"""GML-DPS: LDPS with attraction to fixed points of the autoencoder (arXiv 2307.00619, section 3.1, eq. 6)."""

from typing import Literal

from pydantic import Field

from workbench.core.bounds import Weight
from workbench.core.tensors import Latents, Scalars
from workbench.solvers.base import Guided, Step, norms


class GMLDPS(Guided):
    """z <- z' - grad_z (guidance_scale * ||y - A(D(z0_hat))||_2 + weight * ||z0_hat - E(D(z0_hat))||_2).

    z' is the unconditional reverse step and z0_hat = z0_hat(z). The second term makes z0_hat a fixed point of decoding
    and encoding ("goodness modified latents"). Neither norm is squared. The first is on [0, 1] images: double published
    values of its scale, which are for [-1, 1]. The second is on latents of unit variance: its weight is as published.

    The authors of Flash-Diffusion publish a weight of 0.05, with scales of 3 (blur) and 10 (inpainting), here 6 and 20.
    """

    kind: Literal["gml_dps"] = "gml_dps"
    guidance_scale: Weight = Field(2.0, description="step size, for residuals on [0, 1] images")
    weight: Weight = Field(0.1, description="weight of the distance of z0_hat from E(D(z0_hat)), on latents")

    def energy(self, step: Step, z: Latents, z0_hat: Latents) -> Scalars:
        x0_hat = step.networks.decode(z0_hat)
        distance = norms(z0_hat - step.networks.encode(x0_hat))
        return self.guidance_scale * norms(step.residual(x0_hat)) + self.weight * distance
