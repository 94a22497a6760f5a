"""What `tune` found, with what follows from it: gains, the worst transfer, what matters most, and regrets."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.experiments.objective import Objective
from workbench.experiments.results import StudyResults
from workbench.experiments.tune.found import Found, Tuning, read_tuning
from workbench.experiments.tune.transfer import Transfer
from workbench.metrics import Estimate
from workbench.reporting import QUANTITIES, Quantity

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
class TuningResults:
    """What the search found; without tasks before there is one, which `command` begins."""

    tuning: Tuning
    command: str

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
        return QUANTITIES.get(self.tuning.goal.cost)

    @property
    def near(self) -> float:
        """How near to the best at last is near enough."""
        return ENOUGH[self.tuning.goal.quality]

    @property
    def gains(self) -> dict[str, Estimate]:
        """By task, the quality of the chosen setting above the default's, on test images."""
        return {name: found.best.gain[self.tuning.goal.quality] for name, found in self.tasks.items()}

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
    def regrets(self) -> dict[str, NDArray[np.float64]]:
        """By task, how much worse than at last the best so far is after each trial, of which the first is the default.

        Trials that cost more than the default do not count.
        """
        regrets = {}
        for name, found in self.tasks.items():
            limit = math.inf if self.cost is None else found.points[0].validation[self.tuning.goal.cost]
            values = [
                self.quality.better * trial.values[0]
                if trial.values is not None and (self.cost is None or trial.values[-1] <= limit)
                else -math.inf
                for trial in found.trials
            ]
            best = np.maximum.accumulate(values)
            regrets[name] = best[-1] - best
        return regrets

    @property
    def needed(self) -> dict[str, int]:
        """By task, the trial after which the best so far is near enough to the best at last."""
        return {name: 1 + int(np.argmax(regrets <= self.near)) for name, regrets in self.regrets.items()}


def read(results: StudyResults) -> TuningResults:
    """What the results hold of the search."""
    tree = results.evidence.get("tuning")
    command = f"python -m workbench tune {results.name} --preset {results.preset}"
    return TuningResults(read_tuning(tree) if tree else Tuning(Objective(), 0, "", {}), command)
