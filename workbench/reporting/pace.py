"""How long the stages that are left will take, from those that were finished here."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from workbench.config import UserError
from workbench.stages.base import Stage
from workbench.stages.provenance import PROVENANCE
from workbench.stages.runtime import Runtime

LONG = 30.0
"""Seconds at the nominal rate from which a run tells of longer ones: in less, starting up takes most of the time."""
MUCH_SHORTER = 10
"""A run of a smaller part of the work than one in so many tells nothing of it, unless it was long."""
ALIKE = 4.0
"""Networks and images whose costs differ by no more than this factor are taken before others."""


@dataclass(frozen=True)
class _Run:
    """A finished stage: its wall time, its work (effort times relative cost), and its relative cost.

    One that was made by a part of the threads was made beside others: of its time, its share counts.
    """

    seconds: float
    work: float
    cost: float


class Pace:
    """Estimates on this machine.

    Args:
        runtime: whose runs folder holds what was finished.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._runs = functools.cache(self._read)

    def seconds(self, stage: Stage) -> float:
        """How long a stage will take: at the rate of finished ones of its kind here that were long enough or alike.

        Where there are none, at its nominal rate.
        """
        cost = _cost(stage)
        work, nominal = stage.effort() * cost, stage.seconds_per_effort
        runs = [r for r in self._runs(stage.name) if r.work * nominal >= LONG or r.work * MUCH_SHORTER >= work]
        runs = [r for r in runs if 1 / ALIKE <= r.cost / cost <= ALIKE] or runs
        # of the totals: what is long counts for more
        rate = sum(r.seconds for r in runs) / sum(r.work for r in runs) if runs else nominal
        return rate * work

    def _read(self, name: str) -> list[_Run]:
        found = (_run(path) for path in (self.runtime.root / "stages" / name).glob(f"*/{PROVENANCE}"))
        return [run for run in found if run is not None]


def _run(path: Path) -> _Run | None:
    """None: it was not made in one go, or cannot be read, which is said where it is used."""
    try:
        record = json.loads(path.read_text())
        cost = float(record.get("relative_cost", 1.0))
        seconds = float(record["wall_seconds"]) * _share(record.get("device"), record.get("threads"))
        run = _Run(seconds, float(record["effort"]) * cost, cost)
        return None if record["resumed"] or not (run.work > 0 and cost > 0 and run.seconds >= 0) else run
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _share(device: object, threads: object) -> float:
    """The part of this machine's threads that made a stage; 1 where that is not known, or a GPU made it."""
    import torch

    if not isinstance(threads, int) or not str(device).startswith("CPU"):
        return 1.0
    return min(1.0, threads / torch.get_num_threads())


def _cost(stage: Stage) -> float:
    try:
        return stage.relative_cost()
    except UserError:  # it says why when it is to be made
        return 1.0
