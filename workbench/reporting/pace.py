"""Estimates of the remaining time of stages, from finished stages on this machine."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from workbench.core.config import UserError
from workbench.stages.base import Stage
from workbench.stages.provenance import PROVENANCE
from workbench.stages.runtime import Runtime

LONG = 30.0
"""Seconds, at the nominal rate, above which a run is informative for longer ones: start-up dominates shorter runs."""
MUCH_SHORTER = 10
"""A run of a smaller fraction of the work is not informative for a stage, unless it was long."""
ALIKE = 4.0
"""Networks and images whose costs differ by at most this factor take precedence."""


@dataclass(frozen=True)
class _Run:
    """A finished stage: its wall time, its work (effort times relative cost), and its relative cost.

    If it ran with a part of the threads, next to others, only that share of its time counts.
    """

    seconds: float
    work: float
    cost: float


class Pace:
    """Estimates for this machine.

    Args:
        runtime: its runs folder has the finished stages.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._runs = functools.cache(self._read)

    def seconds(self, stage: Stage) -> float:
        """Estimated seconds of a stage, from finished ones of its kind that were long enough or similar.

        If there are none, its nominal rate is used.
        """
        cost = _cost(stage)
        work, nominal = stage.effort() * cost, stage.seconds_per_effort
        runs = [r for r in self._runs(stage.name) if r.work * nominal >= LONG or r.work * MUCH_SHORTER >= work]
        runs = [r for r in runs if 1 / ALIKE <= r.cost / cost <= ALIKE] or runs
        # the ratio of totals: long runs have more weight
        rate = sum(r.seconds for r in runs) / sum(r.work for r in runs) if runs else nominal
        return rate * work

    def _read(self, name: str) -> list[_Run]:
        found = (_run(path) for path in (self.runtime.root / "stages" / name).glob(f"*/{PROVENANCE}"))
        return [run for run in found if run is not None]


def _run(path: Path) -> _Run | None:
    """None if the stage was not computed in one go, or cannot be read (reported where it is used)."""
    try:
        record = json.loads(path.read_text())
        cost = float(record.get("relative_cost", 1.0))
        seconds = float(record["wall_seconds"]) * _share(record.get("device"), record.get("threads"))
        run = _Run(seconds, float(record["effort"]) * cost, cost)
        return None if record["resumed"] or not (run.work > 0 and cost > 0 and run.seconds >= 0) else run
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _share(device: object, threads: object) -> float:
    """The fraction of this machine's threads that computed a stage; 1 if unknown, or on a GPU."""
    import torch

    if not isinstance(threads, int) or not str(device).startswith("CPU"):
        return 1.0
    return min(1.0, threads / torch.get_num_threads())


def _cost(stage: Stage) -> float:
    try:
        return stage.relative_cost()
    except UserError:  # reported when the stage runs
        return 1.0
