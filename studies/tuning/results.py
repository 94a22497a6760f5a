"""What `tune` found, with what follows from it: gains, the worst transfer, what matters most, and regrets."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from workbench.experiments.tune.found import Found, Tuning, read_tuning
from workbench.experiments.tune.transfer import Transfer
from workbench.metrics import Estimate
from workbench.reporting import QUANTITIES, Quantity

if TYPE_CHECKING:
    from workbench.experiments.results import StudyResults

ENOUGH = {"psnr": 0.05, "lpips": 0.002}
"""The search is as good as over when what it has found is this near to what it will find."""


class Used(NamedTuple):
    """The setting that was tuned for one task, on another."""

    source: str
    task: str
    transfer: Transfer


class Share(NamedTuple):
    """The share in [0, 1] of the variance between a task's trials that is due to a setting."""

    task: str
    path: str
    share: float


@dataclass(frozen=True)
class Searched:
    """A search of at least one task."""

    tuning: Tuning

    @property
    def tasks(self) -> dict[str, Found]:
        return self.tuning.tasks

    @property
    def quality(self) -> Quantity:
        """What was made better."""
        return QUANTITIES[self.tuning.goal.quality]

    @property
    def cost(self) -> Quantity | None:
        """What was to stay small; None where quality alone was searched for."""
        return None if self.tuning.goal.cost == "none" else QUANTITIES[self.tuning.goal.cost]

    @property
    def near(self) -> float:
        """How near to the best at last is near enough."""
        return ENOUGH[self.tuning.goal.quality]

    @cached_property
    def gains(self) -> dict[str, Estimate]:
        """By task, the quality of the chosen setting above the default's, on test images."""
        return {name: found.best.gain[self.tuning.goal.quality] for name, found in self.tasks.items()}

    @property
    def most_gained(self) -> str:
        """The task on which tuning gains most."""
        return max(self.gains, key=lambda name: self.quality.better * self.gains[name].mean)

    @property
    def num_better(self) -> int:
        """On how many tasks it gains beyond the interval."""
        return sum(gain.scaled(self.quality.better).low > 0 for gain in self.gains.values())

    @property
    def edges(self) -> list[str]:
        """The tasks whose chosen setting lies at an edge of what was searched."""
        return [name for name, found in self.tasks.items() if found.best.at_edge]

    @property
    def weightiest(self) -> Share | None:
        """The setting to which most of the quality's variance is due, over all tasks."""
        shares = [
            Share(name, path, share)
            for name, found in self.tasks.items()
            for path, share in found.importance.get(self.tuning.goal.quality, {}).items()
        ]
        return max(shares, key=lambda one: one.share, default=None)

    @property
    def worst_transfer(self) -> Used | None:
        """Where a setting loses most on a task that it was not tuned for."""
        used = [
            Used(source, task, transfer)
            for source, found in self.tasks.items()
            for task, transfer in found.transfer.items()
            if task != source
        ]
        return min(used, key=lambda one: self.quality.better * one.transfer.quality.mean, default=None)

    @cached_property
    def regrets(self) -> dict[str, list[float]]:
        """By task, how much worse than at last the best so far is after each trial; NaN before there is one.

        Trials count that cost no more than the default.
        """
        return {name: self._regrets(found) for name, found in self.tasks.items()}

    def _regrets(self, found: Found) -> list[float]:
        limit = math.inf if self.cost is None else found.points[0].validation[self.tuning.goal.cost]
        best, so_far = -math.inf, []
        for trial in found.trials:
            if trial.values is not None and (self.cost is None or trial.values[-1] <= limit):
                best = max(best, self.quality.better * trial.values[0])
            so_far.append(best)
        return [so_far[-1] - value if math.isfinite(value) else math.nan for value in so_far]

    @cached_property
    def needed(self) -> dict[str, int]:
        """By task, the trial after which the best so far is near enough to the best at last."""
        return {
            name: 1 + next((place for place, regret in enumerate(regrets) if regret <= self.near), len(regrets) - 1)
            for name, regrets in self.regrets.items()
        }


@dataclass(frozen=True)
class TuningResults:
    """The search; None before there is one, which `command` begins."""

    command: str
    searched: Searched | None


def read(results: "StudyResults") -> TuningResults:
    """What the results hold of the search."""
    tree = results.evidence.get("tuning")
    command = f"python -m workbench tune {results.name} --preset {results.preset}"
    return TuningResults(command, None if tree is None else Searched(read_tuning(tree)))
