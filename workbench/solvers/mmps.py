"""MMPS: moment matching posterior sampling (arXiv 2405.13712, section 4.2), here in the latent space.

The clean latent given z_t is taken to be N(z0_hat, V), with V the covariance that Tweedie's formula gives:

    V = (1 - a) / sqrt(a)  d z0_hat / d z_t,        a = alpha_bar

and A(D(.)) to be linear around z0_hat, with derivative J. Then, with noise of variance s^2 in y,

    E[z0 | z_t, y] = z0_hat + (V^-1 + J^T J / s^2)^-1 J^T (y - A(D(z0_hat))) / s^2

So the data term weighs itself: by the noise of the measurement against what the prior does not know yet, in each
direction. There is no scale to tune. LDPS takes a step along V J^T (y - A(D(z0_hat))), of a length to be tuned; PiGDM
and `ldps_few` replace V by r^2 I.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.core.tensors import Images, Latents, Measurements, Variances
from workbench.solvers.base import LEAST_NOISE, Solver, Step, inner

SMALL_STEP, ROUNDING_STEP = 0.1, 3.0
"""Finite differences, in standard deviations of z0 given z_t: small, because D is curved. Where A rounds (JPEG), small
changes show no slope, or a jump: the change of the image is prolonged linearly."""


class MMPS(Solver):
    """z0(y) = E[z0 | z_t, y] as above, then the reverse step from it.

    `iterations` of conjugate gradients, preconditioned by V, approach z0(y). A reverse step takes one evaluation of the
    prior with gradient and one of the decoder and, for each iteration, one more of the decoder and, after the first,
    another backward pass through both.
    """

    kind: Literal["mmps"] = "mmps"
    iterations: int = Field(
        3, ge=0, le=1000, description="conjugate gradient iterations per reverse step; 0: no guidance"
    )
    direction: Literal["kept", "matched"] = Field(
        "kept",
        description="the noise with which the reverse step continues: the prior's (kept), or the noise in z given the "
        "corrected z0 (matched): the score of the posterior, exact if z0 is Gaussian and A(D(.)) linear",
    )

    def step(self, step: Step) -> Latents:
        a = step.alpha_bar.reshape(-1, 1, 1, 1).to(step.z)
        with torch.enable_grad():
            z = step.z.detach().requires_grad_(True)
            z0_hat, eps = step.networks.predict(z, step.time)
            x0_hat = step.networks.decode(z0_hat)
            residual = step.residual(x0_hat)
        around = _Linearized(step, z, z0_hat, x0_hat, residual, a)
        z0, eps = z0_hat.detach() + around.correction(self.iterations), eps.detach()
        if self.direction == "matched":
            eps = (step.z - a.sqrt() * z0) / (1 - a).sqrt()
        return step.reverse(z0, eps)


@dataclass(frozen=True)
class _Linearized:
    """The problem around z0_hat: N(z0_hat, V) for z0, and the residual y - A(D(z0_hat)) - J (z0 - z0_hat).

    Attributes:
        z, z0_hat, x0_hat, residual: on one graph.
        alpha_bar: a, (batch, 1, 1, 1).
    """

    step: Step
    z: Latents
    z0_hat: Latents
    x0_hat: Images
    residual: Measurements
    alpha_bar: Variances

    def correction(self, num_iterations: int) -> Latents:
        """(V^-1 + J^T J / s^2)^-1 J^T residual / s^2 by preconditioned conjugate gradients.

        V^-1 is never applied: each vector is held as a pair (w, V w), and only J^T makes new ones.
        """
        noise_variance = self.step.measurement.noise_std.clamp(min=LEAST_NOISE).square().reshape(-1, 1, 1, 1)
        found = torch.zeros_like(self.z)
        remaining = self.pulled_back(self.residual.detach()) / noise_variance
        direction, power = remaining, inner(*remaining)
        for i in range(num_iterations):
            last = i == num_iterations - 1
            slope = self.pushed_forward(direction[1])
            curvature = inner(slope, slope) / noise_variance + inner(*direction)
            length = power.clamp(min=0) / curvature.clamp(min=1e-30)  # V of a trained prior may have negative values
            found = found + length * direction[1]
            if not last:
                self.step.networks.count_backward("prior", "decoder")
                remaining = remaining - length * (direction + self.pulled_back(slope) / noise_variance)
                before, power = power, inner(*remaining)
                direction = remaining + (power / before.clamp(min=1e-30)).clamp(min=0) * direction
        return found

    def pulled_back(self, w: Measurements) -> Tensor:
        """The pair (J^T w, V J^T w), (2, *z.shape)."""
        inputs = (self.z0_hat, self.z)
        of_z0_hat, of_z = torch.autograd.grad(self.residual, inputs, -w, retain_graph=True)
        return torch.stack([of_z0_hat, (1 - self.alpha_bar) / self.alpha_bar.sqrt() * of_z])

    @torch.no_grad()
    def pushed_forward(self, d: Latents) -> Measurements:
        """J d by finite differences."""
        networks, x0_hat = self.step.networks, self.x0_hat.detach()
        std = ((1 - self.alpha_bar) * d[0].numel() / inner(d, d).clamp(min=1e-30)).sqrt()
        change = networks.decode(self.z0_hat.detach() + SMALL_STEP * std * d) - x0_hat
        size = ROUNDING_STEP if networks.degradation.surrogate_gradient else SMALL_STEP
        difference = self.residual.detach() - self.step.residual(x0_hat + size / SMALL_STEP * change)
        return difference / (size * std).reshape(-1, *[1] * (difference.ndim - 1))
