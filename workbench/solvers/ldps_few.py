"""LDPS for few steps: data consistency by conjugate gradients through the decoder, at every step of a short grid.

LDPS (arXiv 2307.00619; DPS, arXiv 2209.14687) adds one short gradient step through the prior to each of many reverse
steps. With few steps, each must do more. Here z0_hat is replaced by the most probable clean latent given z_t and y,
under z0 | z_t ~ N(z0_hat, r^2 I). For latents of unit variance, r^2 is about 1 - alpha_bar (exactly, if z0 ~ N(0, I)).
This replaces the prior's Jacobian in LDPS's gradient: d z0_hat / d z = sqrt(a) / (1 - a) Cov(z0 | z_t), the
derivative of Tweedie's formula.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from workbench.core.bounds import Depth
from workbench.core.tensors import Latents, Variances
from workbench.solvers.base import LEAST_NOISE, Solver, Step, inner


class LDPSFew(Solver):
    """z0(y) = argmin ||y - A(D(z0))||^2 / (2 noise_std^2) + ||z0 - z0_hat||^2 / (2 r^2), then the reverse step from it.

    r^2 = guidance_scale * (1 - alpha_bar), so guidance follows the remaining noise, not the number of steps, and the
    scale needs no tuning for another grid. `decoder_steps` of conjugate gradients approach the minimum, each with a
    step length per image computed from the decoder's own slope. A reverse step takes one evaluation of the prior
    without gradient, and 2 of the decoder per decoder step, one of them with gradient.
    """

    kind: Literal["ldps_few"] = "ldps_few"
    guidance_scale: float = Field(1.0, gt=0, le=1e6, description="variance of z0 given z, in units of 1 - alpha_bar")
    decoder_steps: Depth = Field(2, description="conjugate gradient steps through the decoder per reverse step")
    direction: Literal["kept", "matched"] = Field(
        "kept",
        description="the noise with which the reverse step continues: the prior's, so that z moves with z0 by all of "
        "the correction (kept), or the noise in z given the corrected z0 (matched): the conditional probability flow, "
        "exact in the limit of many steps if z0 is Gaussian",
    )

    def step(self, step: Step) -> Latents:
        with torch.no_grad():
            z0_hat, eps = step.networks.predict(step.z, step.time)
        a = step.alpha_bar.reshape(-1, 1, 1, 1)
        z0 = most_probable(step, z0_hat, (self.guidance_scale * (1 - a)).to(z0_hat), self.decoder_steps)
        if self.direction == "matched":
            eps = (step.z - a.sqrt().to(z0) * z0) / (1 - a).sqrt().to(z0)
        return step.reverse(z0, eps)


def most_probable(step: Step, z0_hat: Latents, variance: Variances, num_steps: int) -> Latents:
    """argmin over z of ||y - A(D(z))||^2 / (2 noise_std^2) + ||z - z0_hat||^2 / (2 variance), per image.

    Nonlinear conjugate gradients (Polak-Ribiere+) from z0_hat, each with the step length that is exact if A and D are
    linear; then latents of n elements need at most n steps.

    Args:
        variance: variance of z0 around z0_hat, (batch, 1, 1, 1).
    """
    noise_variance = step.measurement.noise_std.clamp(min=LEAST_NOISE).square().reshape(-1, 1, 1, 1)
    z, last = z0_hat, None
    for _ in range(num_steps):
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            residual = step.residual(step.networks.decode(z))
            (pull,) = torch.autograd.grad(residual.square().sum() / 2, z)
        z, residual = z.detach(), residual.detach()
        gradient = pull / noise_variance + (z - z0_hat) / variance
        direction = -gradient
        if last is not None:
            direction = direction + last.conjugacy(gradient) * last.direction
        last = _Conjugate(gradient, direction)
        with torch.no_grad():
            # over one standard deviation of z0: if A rounds (JPEG), a smaller step shows no slope
            size = (variance * direction[0].numel() / inner(direction, direction).clamp(min=1e-30)).sqrt()
            moved = step.residual(step.networks.decode(z + size * direction))
        # slope of the residual along the direction, and of the gradient: the curvature
        slope = (moved - residual) / size.reshape(-1, *[1] * (residual.ndim - 1))
        curvature = inner(slope, slope) / noise_variance + inner(direction, direction) / variance
        z = z - inner(gradient, direction) / curvature.clamp(min=1e-30) * direction
    return z


@dataclass(frozen=True)
class _Conjugate:
    """Gradient and direction of the last conjugate gradient step."""

    gradient: Latents
    direction: Latents

    def conjugacy(self, gradient: Latents) -> Variances:
        """Polak-Ribiere's share of the last direction in the next, 0 if it would be negative (a restart)."""
        change = inner(gradient, gradient - self.gradient)
        return (change / inner(self.gradient, self.gradient).clamp(min=1e-30)).clamp(min=0)
