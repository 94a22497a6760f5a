"""ReSample: hard data consistency by optimisation, then stochastic resampling (arXiv 2307.08123, algorithm 1).

Resampling draws z ~ N((s^2 sqrt(m) z0(y) + (1 - m) z') / (s^2 + 1 - m), s^2 (1 - m) / (s^2 + 1 - m) I): the product of
N(z'; s^2), with z' from the reverse step, and of forward diffusion of z0(y) to level m. Three forms of s^2 and m have
been published. With a = alpha_bar at the step's timestep t, a' at the next timestep of the grid, where z' is, and b at
t - 1, the next of all T timesteps (b = a' only on a grid of all T):

| form    | s^2                                   | m  | source                                           |
|---------|---------------------------------------|----|--------------------------------------------------|
| `paper` | gamma (1 - a') / a (1 - a / a')       | a' | the paper's equation                             |
| `code`  | gamma (1 - a') / (1 - a) (1 - a / a') | a' | ReSample's own code, soominkwon/resample         |
| `flash` | gamma (1 - b) / a (1 - a / b)         | a  | Flash-Diffusion's code, z-fabian/flash-diffusion |

The paper's algorithm calls the timestep of z' t; taken literally, its s^2 would be that of the step after. Here, as in
the authors' code, s^2 is that of the step that leads to z'. `flash` treats z', which is at a', as a sample at a.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from workbench.core.bounds import LearningRate, Logarithm, Weight
from workbench.core.config import ADDED_LATER
from workbench.core.tensors import Images, Latents, Scalars
from workbench.solvers.base import Networks, Solver, Step, norms

Resampling = Literal["paper", "code", "flash"]

STORED = {"image_below": "image_log_snr", "latent_below": "latent_log_snr"}
LOG_SNR_BELOW = {3 / 4: -4.77, 2 / 3: -3.74, 1 / 3: -0.645, 0.3: -0.37}
"""By fraction of T: a log-SNR between the last timestep below it and the next, for latent diffusion's T = 1000
(scaled_linear from 0.0015 to 0.0195). ReSample's code has stages at 750 and 300."""

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's usual constants (arXiv 1412.6980)."""


class ReSample(Solver):
    """The unconditional reverse step; every k-th step is combined with a z0 that explains y.

    There are three stages by log-SNR, ln(a / (1 - a)): none up to `image_log_snr`, where z0_hat has little information
    yet; above it, z0(y) = E(x) with x = argmin ||y - A(x)||, from D(z0_hat); above `latent_log_snr`, where details
    matter, z0(y) = argmin ||y - A(D(z))||, from z0_hat. Each optimisation ends, per image, when the residual is at the
    noise level. Then z' is resampled between itself and z0(y) at its noise level (`resampled`).

    Published for 256 px: 500 DDIM steps, every 10th, gamma 40 (of the form `code`). Halve a learning rate for [-1, 1]
    images to use it on [0, 1], because Adam's steps are lengths. The defaults are for chains of few steps: there,
    consistency is imposed at every other step, and has more weight.

    ReSample's own code does more than its algorithm, which is not included here: a step of DPS at every timestep, five
    steps ahead before z0_hat is read, and a final optimisation of the latent at the end of the chain.
    """

    kind: Literal["resample"] = "resample"
    every: int = Field(
        2,
        ge=1,
        le=100_000,
        description="impose consistency when a multiple of this many steps is left, including the current one",
    )
    image_log_snr: Logarithm = Field(-3.74, description="log-SNR above which consistency is imposed on images")
    latent_log_snr: Logarithm = Field(-0.645, description="log-SNR above which consistency is imposed on latents")
    gamma: float = Field(400.0, ge=0, le=1e9, description="trust of resampling in the consistent z0")
    tau: Weight = Field(1.0, description="residual at which an image stops, in standard deviations of its noise")
    image_learning_rate: LearningRate = Field(2e-2, description="learning rate of Adam on [0, 1] images")
    latent_learning_rate: LearningRate = Field(2e-2, description="learning rate of Adam on latents of unit variance")
    max_iterations: int = Field(
        20, ge=1, le=100_000, description="maximum number of Adam iterations per step and image"
    )
    correct_last: bool = Field(
        False,
        description="count from the last step, so that the last step imposes consistency: a multiple of `every` is "
        "left after it",
        json_schema_extra=ADDED_LATER,
    )
    resampling: Resampling = Field(
        "paper", description="which of the published means and variances resampling uses", json_schema_extra=ADDED_LATER
    )
    proximity: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the squared distance from z0_hat beside the squared residual, as published: for images "
        "on [-1, 1]",
        json_schema_extra=ADDED_LATER,
    )

    draws_noise: ClassVar[bool] = True

    @model_validator(mode="after")
    def _in_order(self) -> "ReSample":
        if self.latent_log_snr < self.image_log_snr:
            raise ValueError(
                f"latent_log_snr ({self.latent_log_snr:g}) must not be below image_log_snr ({self.image_log_snr:g})"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _stages_by_log_snr(cls, tree: Any) -> Any:
        """Convert older results, which store the stages as fractions of T."""
        if not isinstance(tree, Mapping) or not STORED.keys() & tree.keys():
            return tree
        tree = dict(tree)
        for old, new in STORED.items():
            if (part := tree.pop(old, None)) is not None:
                if part not in LOG_SNR_BELOW:
                    raise ValueError(f"{old} = {part!r}, as in older results, is now a log-SNR: set {new}")
                tree[new] = LOG_SNR_BELOW[part]
        return tree

    def canonical(self) -> dict[str, Any]:
        """With stages as fractions of T if this gives the same, as in the first stored results."""
        tree = super().canonical()
        parts = {log_snr: part for part, log_snr in LOG_SNR_BELOW.items()}
        for old, new in STORED.items():
            if tree[new] in parts:
                tree[old] = parts[tree.pop(new)]
        return tree

    def step(self, step: Step) -> Latents:
        with torch.no_grad():
            z0_hat, eps = step.networks.predict(step.z, step.time)
        advanced = step.reverse(z0_hat, eps)
        log_snr = step.chain.snr.log()[step.position]
        due = (len(step.chain) - step.position - int(self.correct_last)) % self.every == 0
        stages = {
            self._through_images: due & (log_snr > self.image_log_snr) & (log_snr <= self.latent_log_snr),
            self._through_latents: due & (log_snr > self.latent_log_snr),
        }
        for consistent, chosen in stages.items():
            if bool(chosen.any()):
                index = chosen.nonzero().flatten()
                on_device = index.to(advanced.device)
                part = step.take(index)
                z0 = consistent(part, z0_hat[on_device])
                advanced[on_device] = resampled(part, advanced[on_device], z0, self.gamma, self.resampling)
        return advanced

    def _through_images(self, step: Step, z0_hat: Latents) -> Latents:
        with torch.no_grad():
            x0_hat = step.networks.decode(z0_hat)
        x = least_residual(
            step,
            x0_hat,
            lambda _, x: x,
            self.tau,
            self.image_learning_rate,
            self.max_iterations,
            proximity=self.proximity,  # both terms shrink by 4 from [-1, 1] to [0, 1]
        )
        with torch.no_grad():
            return step.networks.encode(x)

    def _through_latents(self, step: Step, z0_hat: Latents) -> Latents:
        return least_residual(
            step,
            z0_hat,
            Networks.decode,
            self.tau,
            self.latent_learning_rate,
            self.max_iterations,
            proximity=self.proximity / 4,  # only the residual shrinks
        )


def least_residual(
    step: Step,
    start: Tensor,
    image_of: Callable[[Networks, Tensor], Images],
    tau: float,
    learning_rate: float,
    max_iterations: int,
    *,
    proximity: float = 0.0,
) -> Tensor:
    """argmin over v of ||y - A(image_of(v))||^2 + proximity ||v - start||^2, per image, by Adam from `start`.

    An image stops, and costs nothing more, when the root mean square of its residual over observed entries is at most
    tau times its noise_std: the rest is noise.

    Args:
        start: (batch, ...): latents or images.
        image_of: the image that v represents; called with the networks, which charge the images still in progress.

    Returns:
        v of each image where it stopped, like `start`.
    """
    found = start.clone()
    target = tau * step.measurement.noise_std * step.measurement.num_observed().sqrt()
    working = torch.arange(len(start))
    v, mean, square = start, torch.zeros_like(start), torch.zeros_like(start)
    for iteration in range(1, max_iterations + 1):
        with torch.enable_grad():
            v = v.detach().requires_grad_(True)
            residual = step.residual(image_of(step.networks, v))
            (gradient,) = torch.autograd.grad(residual.square().sum() / 2, v)
        v = v.detach()
        if proximity:
            gradient = gradient + proximity * (v - start)
        stays = norms(residual.detach()) > target
        if not bool(stays.all()):
            stays = stays.cpu()
            found[working[~stays].to(v.device)] = v[(~stays).to(v.device)]
            left = stays.nonzero().flatten()
            if len(left) == 0:
                return found
            step, working = step.take(left), working[left]
            kept = left.to(v.device)
            v, start, mean, square = (t[kept] for t in (v, start, mean, square))
            gradient, target = gradient[kept], target[kept]
        mean = BETA_1 * mean + (1 - BETA_1) * gradient
        square = BETA_2 * square + (1 - BETA_2) * gradient.square()
        unbiased = mean / (1 - BETA_1**iteration), square / (1 - BETA_2**iteration)
        v = v - learning_rate * unbiased[0] / (unbiased[1].sqrt() + EPSILON)
    found[working.to(v.device)] = v
    return found


def resampled(step: Step, advanced: Latents, z0: Latents, gamma: float, form: Resampling = "paper") -> Latents:
    """Stochastic resampling between z' (`advanced`) and z0, by one of the forms at the top of this file.

    With r = s^2 / (1 - m) it is N((r sqrt(m) z0 + z') / (r + 1), (1 - m) r / (r + 1) I), which is defined at m = 1 too.
    At the clean end `paper` and `code` are a mean of z0 and z', without noise; `flash` adds noise there as well, unless
    t = 0, where it is z'.
    """
    if step.solver_noise is None:
        raise ValueError("stochastic resampling needs step.solver_noise")
    r, m = ratio(step.alpha_bar, _lower(step) if form == "flash" else step.alpha_bar_next, gamma, form)
    signal, rest, spread = (
        c.to(advanced) for c in (r * m.sqrt() / (r + 1), 1 / (r + 1), ((1 - m) * r / (r + 1)).sqrt())
    )
    return signal * z0 + rest * advanced + spread * step.solver_noise


def ratio(alpha_bar: Scalars, lower: Scalars, gamma: float, form: Resampling) -> tuple[Tensor, Tensor]:
    """(s^2 / (1 - m), m), each (batch, 1, 1, 1), float64.

    Args:
        lower: a'; for `flash`, b.
    """
    a, a_next = (level.reshape(-1, 1, 1, 1) for level in (alpha_bar, lower))
    match form:
        case "paper":
            return gamma / a * (1 - a / a_next), a_next
        case "code":
            return gamma / (1 - a) * (1 - a / a_next), a_next
        case "flash":
            return gamma * (1 - a_next) / a * (1 - a / a_next) / (1 - a), a


def _lower(step: Step) -> Scalars:
    """b, alpha_bar one timestep of all T further, which is 1 after timestep 0."""
    levels = step.chain.all_timesteps("resampling=flash")
    return torch.cat([torch.ones(1, dtype=torch.float64), levels])[step.time.long()]
