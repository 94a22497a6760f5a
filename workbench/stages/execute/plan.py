"""The missing stages of a study in an order of execution, for processes and clusters."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path

from workbench.core.progress import Silent
from workbench.stages.base import Stage, remembered_identities
from workbench.stages.runtime import Runtime
from workbench.tracking.tracker import Collector, Tracker


class Plan:
    """The missing stages; each is handed out once, when all its dependencies exist.

    Dependents of a stage that fails are never handed out.

    Attributes:
        missing: the stages by their folders; with `runtime.rerun`, also those to be checked again.
    """

    @remembered_identities()
    def __init__(self, stages: Sequence[Stage], runtime: Runtime) -> None:
        self._wanted = [stage.folder(runtime) for stage in stages]
        self.missing: dict[Path, Stage] = {}
        for stage in stages:
            for needed in stage.missing(runtime) or ([stage] if runtime.rerun else []):
                self.missing.setdefault(needed.folder(runtime), needed)
        self._order: TopologicalSorter[Path] = TopologicalSorter()
        for folder, stage in self.missing.items():
            above = (upstream.folder(runtime) for upstream in stage.upstream())
            self._order.add(folder, *(other for other in above if other in self.missing))
        self._order.prepare()

    def ready(self) -> list[Path]:
        """The stages that can be computed now and were not handed out before."""
        return list(self._order.get_ready())

    def made(self, folder: Path) -> None:
        """Mark a stage as computed: its dependents may be ready."""
        self._order.done(folder)

    def num_there(self) -> int:
        """Number of requested stages that exist."""
        return sum(folder.is_dir() for folder in self._wanted)


def elsewhere(runtime: Runtime) -> Runtime:
    """The runtime for another process: silent, with a tracker whose records are taken back here."""
    tracker = Collector(runtime.root) if runtime.tracker.is_recording else Tracker()
    return replace(runtime, progress=Silent(), tracker=tracker, loaded={})


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Processes started in this context ignore Ctrl-C, which a terminal sends to all: this process ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
