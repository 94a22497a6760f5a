"""Controls for a matched start: what does adapting to each image gain, at equal mean cost?

A matched start differs from one timestep for all images in two ways: it only adds the noise that z_hat lacks, and it
starts earlier for harder images. Each control removes one of these and spends the same mean FLOPs on the same images,
over all networks. Equalizing the cost does not use the ground truth; anything that does is fitted on validation images.

- `timestep`: one timestep for all images, with the noise of CCDF (arXiv 2112.05146).
- `missing_noise`: one timestep for all images, each with the noise that it lacks: isolates the amount of noise.
- `permuted`: matched to the variance of another image: the same starts, assigned at random.
- `known_severity`: matched to the mean error variance at the image's true severity (known only in studies), estimated
  on validation images.

The gain of adapting is that of the matched start over the best of `timestep`, `permuted` and `known_severity`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, field_validator

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.tensors import Latents, Scalars
from workbench.diffusion import Chain, diffuse
from workbench.severity.start.base import Start, StartRule, all_from
from workbench.severity.start.budget import Budget, Costs, Outcomes
from workbench.severity.start.snr_match import SNRMatch
from workbench.severity.variance import Evidence, Need, Variance

Control = Literal["timestep", "missing_noise", "permuted", "known_severity"]
CONTROL_NAMES: Mapping[Control, str] = {
    "timestep": "one timestep",
    "missing_noise": "one timestep, missing noise",
    "permuted": "permuted variances",
    "known_severity": "known severity",
}
MAX_OFFSET_DB = 60.0
"""Maximum of a start rule's `offset_db`, in either direction."""


class EqualCost(StartRule):
    """A control for `of`: a start that does not adapt in the same way, at the same mean cost."""

    kind: Literal["equal_cost"] = "equal_cost"
    control: Control = Field("timestep", description="the control: what is removed from the matched start")
    of: SNRMatch = Field(SNRMatch(), description="the matched start")
    num_val_images: int = Field(128, ge=2, le=10**6, description="number of validation images for known_severity")

    @field_validator("of")
    @classmethod
    def _plain(cls, of: SNRMatch) -> SNRMatch:
        if of.channel != "forward" or Need.RECALIBRATION in of.needs:
            raise ValueError(
                "controls only support a start with channel=forward, white noise and no recalibration or risk"
            )
        return of

    @property
    def label(self) -> str:
        """The control in words."""
        return CONTROL_NAMES[self.control]

    @property
    def needs(self) -> Need:
        """All needs of the matched start if its own variance is used; else only an encoder if there is one."""
        return self.of.needs if self.control == "missing_noise" else self.of.needs & Need.VAR_HAT

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        raise UserError("start.kind=equal_cost needs the cost of the matched start: use it in studies")


@dataclass(frozen=True)
class Spending:
    """A control with its budget; chooses starts like a start rule."""

    control: EqualCost
    budget: Budget

    @property
    def needs(self) -> Need:
        """The control's."""
        return self.control.needs

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        """Choose the start of each image."""
        rule, budget = self.control.of, self.budget
        if self.control.control == "timestep":
            a = chain.alpha_bar[budget.position].expand(len(noise))
            return all_from(diffuse(evidence.estimate.z_hat, noise, a), budget.position)
        if self.control.control == "missing_noise":
            return rule.begin(rule.source(evidence), evidence, chain, noise, position=budget.position)
        dealt = Variance(budget.variance_of(evidence.measurement).to(noise))
        return rule.replace(offset_db=budget.offset_db).begin(dealt, evidence, chain, noise)


def spend(control: EqualCost, costs: Costs, chain: Chain, own: Outcomes, val: Outcomes | None, seed: int) -> Budget:
    """Compute the budget of a control, to the nearest step.

    Args:
        own: outcomes of the matched start on the images to restore.
        val: outcomes on validation images; for `known_severity`.
        seed: keys the permutation.
    """
    wanted = costs.steps(costs.matched if control.control == "missing_noise" else costs.plain)
    match control.control:
        case "timestep" | "missing_noise":
            return Budget(position=len(chain) - min(max(1, round(wanted)), len(chain)))
        case "permuted":
            order = torch.randperm(len(own.ids), generator=randomness.generator(seed, "permuted"))
            dealt = dict(zip(own.ids.tolist(), own.variance[order].tolist(), strict=True))
            return Budget(offset_db=_offset(control.of, wanted, chain, own.variance), variances=dealt)
        case "known_severity":
            assert val is not None
            looked_up = _by_severity(val.severity, val.true_variance)
            assumed = torch.tensor(looked_up(own.severity.tolist()))
            return Budget(offset_db=_offset(control.of, wanted, chain, assumed), by_severity=looked_up)


def _offset(rule: SNRMatch, wanted: float, chain: Chain, variances: Scalars) -> float:
    """The smallest offset in dB, replacing the rule's own, with the wanted mean NFE."""

    def mean_nfe(offset_db: float) -> float:
        shifted = rule.replace(offset_db=offset_db)
        position = shifted.position(variances.double()[:, None], chain).clamp(min=0)
        return float((len(chain) - position).double().mean())

    low, high = -MAX_OFFSET_DB, MAX_OFFSET_DB
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if mean_nfe(middle) >= wanted - 1e-6 else (middle, high)
    return high


def _by_severity(severities: Scalars, variances: Scalars) -> Callable[[Sequence[float]], Sequence[float]]:
    """The mean of log variance as a monotone function of severity, linear between images and constant outside."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    order = severities.argsort()
    levels, logs = severities[order].double().numpy(), variances[order].double().log().numpy()
    rises = bool(np.corrcoef(levels, logs)[0, 1] >= 0)
    levels, place, counts = np.unique(levels, return_inverse=True, return_counts=True)
    logs = np.bincount(place, logs) / counts  # the mean of images at the same level
    means = isotonic_regression(logs, weights=counts, increasing=rises).x
    return lambda wanted: np.exp(np.interp(wanted, levels, means)).tolist()
