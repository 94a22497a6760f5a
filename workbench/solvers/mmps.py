"""MMPS: moment matching posterior sampling (arXiv 2405.13712, section 4.2), here in the latent space.

The clean latent given z_t is taken to be N(z0_hat, V), with the covariance V that Tweedie's formula gives:

    V = (1 - a) / sqrt(a)  d z0_hat / d z_t,        a = alpha_bar

With noise of variance s^2 in y, the most probable z0 given z_t and y, for Gaussians its mean, is

    z0(y) = argmin ||y - A(D(z0))||^2 / (2 s^2) + (z0 - z0_hat)^T V^-1 (z0 - z0_hat) / 2

So the measurement weighs itself: its noise against what the prior leaves open, in each direction. There is no scale to
tune. LDPS takes a step along V J^T (y - A(D(z0_hat))), with J the derivative of A(D(.)), of a length to be tuned; PiGDM
(Song et al., ICLR 2023) and `ldps_few` have r^2 I in place of V.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from workbench.core.tensors import Images, Latents, Measurements, Scalars, Variances
from workbench.solvers.base import LEAST_NOISE, Solver, Step, inner

SMALL_STEP, ROUNDING_STEP = 0.1, 3.0
"""Finite differences, in standard deviations of z0 given z_t: small, because D is curved. Where A rounds (JPEG), small
changes show no slope, or a jump: the change of the image is prolonged linearly."""
LEAST_SIGNAL = 1e-4
"""alpha_bar below which V, a quotient of two vanishing numbers, is not raised further."""


class MMPS(Solver):
    """z0(y) as above, then the reverse step from it.

    `iterations` of nonlinear conjugate gradients from z0_hat, preconditioned by V, approach z0(y). A reverse step takes
    one evaluation of the prior and, for each iteration, a backward pass through it and two evaluations of the decoder,
    one of them with gradient.
    """

    kind: Literal["mmps"] = "mmps"
    iterations: int = Field(
        3, ge=0, le=1000, description="conjugate gradient iterations per reverse step; 0: no guidance"
    )
    share: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="weight of the measurement in a step, in units of the share of the noise that the step removes, "
        "and at most 1, so that earlier starts and more steps do not fit the noise; none: 1 in every step",
    )
    direction: Literal["kept", "matched"] = Field(
        "kept",
        description="the noise with which the reverse step continues: the prior's (kept), or the noise in z given the "
        "corrected z0 (matched): the score of the posterior, exact if z0 is Gaussian and A(D(.)) linear",
    )

    def step(self, step: Step) -> Latents:
        a = step.alpha_bar.clamp(min=LEAST_SIGNAL).reshape(-1, 1, 1, 1).to(step.z)
        with torch.enable_grad():
            z = step.z.detach().requires_grad_(True)
            z0_hat, eps = step.networks.predict(z, step.time)
        noise_variance = step.measurement.noise_std.clamp(min=LEAST_NOISE).square() / self._weight(step).to(z)
        correction = self._correction(step, z, z0_hat, a, noise_variance.reshape(-1, 1, 1, 1))
        z0, eps = z0_hat.detach() + correction, eps.detach()
        if self.direction == "matched":
            eps = (step.z - a.sqrt() * z0) / (1 - a).sqrt()
        return step.reverse(z0, eps)

    def _weight(self, step: Step) -> Scalars:
        """Power of the likelihood in this step, (batch,) float64 on the CPU.

        A kept correction is in z for good, and the next step counts the same measurement again: many steps fit the
        noise. DDIM moves z by 1 - sqrt(SNR / SNR') of a correction if the noise is matched; `share` times that is the
        weight here. The last step has weight 1.
        """
        if self.share is None:
            return torch.ones_like(step.alpha_bar)
        a, a_next = step.alpha_bar, step.alpha_bar_next
        removed = 1 - (a / (1 - a) * (1 - a_next) / a_next).sqrt()
        return (self.share * removed).clamp(min=1e-6, max=1)

    @model_validator(mode="after")
    def _shares_what_is_kept(self) -> "MMPS":
        if self.share is not None and self.direction == "matched":
            raise ValueError("share is for direction=kept: matched noise counts the measurement once")
        return self

    def _correction(self, step: Step, z: Latents, z0_hat: Latents, a: Variances, noise_variance: Variances) -> Latents:
        """z0(y) - z0_hat, with z0_hat on the graph of z.

        V^-1 is never applied: a vector is held as a pair (w, V w), (2, *z.shape), and every w is a sum of pulled-back
        residuals, of which the prior's backward pass gives V w.
        """
        found = z.new_zeros(2, *z.shape)
        direction = before = None
        for i in range(self.iterations):
            with torch.enable_grad():
                z0 = (z0_hat + found[1]).detach().requires_grad_(True)
                x0 = step.networks.decode(z0)
                residual = step.residual(x0)
                (pull,) = torch.autograd.grad(residual.square().sum() / 2, z0)
            (through_prior,) = torch.autograd.grad(z0_hat, z, pull, retain_graph=i < self.iterations - 1)
            if i > 0:
                step.networks.count_backward("prior")
            residual = residual.detach()
            remaining = -torch.stack([pull, (1 - a) / a.sqrt() * through_prior]) / noise_variance - found
            if direction is None or before is None:
                direction = remaining
            else:  # Polak-Ribiere's share of the last direction, or a restart
                change = inner(remaining[0] - before[0], remaining[1])
                direction = remaining + _ratio(change, inner(*before)).clamp(min=0) * direction
            before = remaining
            slope = _slope(step, z0.detach(), x0.detach(), residual, direction[1], 1 - a)
            # the length of the least objective, with J as measured: where A rounds, its backward pass is a surrogate's
            descent = inner(slope, residual) / noise_variance - inner(found[0], direction[1])
            # V of a trained prior may have negative eigenvalues: no step along them
            of_prior = inner(*direction)
            curvature = torch.where(of_prior > 0, inner(slope, slope) / noise_variance + of_prior, 0)
            found = found + _ratio(descent, curvature) * direction
        return found[1]


def _ratio(u: Variances, v: Variances) -> Variances:
    """u / v, 0 unless v is positive."""
    return torch.where(v > 0, u / v.clamp(min=1e-30), 0)


@torch.no_grad()
def _slope(step: Step, z0: Latents, x0: Images, residual: Measurements, d: Latents, variance: Variances) -> Tensor:
    """J d at z0 by finite differences, like the residual, with x0 = D(z0).

    Args:
        variance: of z0 given z_t, in order of magnitude.
    """
    std = (variance * d[0].numel() / inner(d, d).clamp(min=1e-30)).sqrt()
    change = step.networks.decode(z0 + SMALL_STEP * std * d) - x0
    rounds = torch.as_tensor(step.networks.degradation.rounds(dict(step.measurement.params)), device=z0.device)
    size = torch.where(rounds, ROUNDING_STEP, SMALL_STEP).expand(len(z0)).reshape(-1, 1, 1, 1)
    difference = residual - step.residual(x0 + size / SMALL_STEP * change)
    return difference / (size * std).reshape(-1, *[1] * (difference.ndim - 1))
