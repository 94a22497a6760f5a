"""What is missing of a study, in the order in which it can be made, for whoever makes it elsewhere than here."""

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
    """The missing stages, each given out once when all that it stands on is made.

    What stands on a stage that is never made is never given out.

    Attributes:
        missing: the stages by their folders; with `runtime.rerun`, those that are to be looked at again too.
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
        """What can be made now and was not given out before."""
        return list(self._order.get_ready())

    def made(self, folder: Path) -> None:
        """Say that it is there: what stands on it may be ready."""
        self._order.done(folder)

    def num_there(self) -> int:
        """How many of the wanted stages are there."""
        return sum(folder.is_dir() for folder in self._wanted)


def elsewhere(runtime: Runtime) -> Runtime:
    """The runtime for another process: it says nothing, and its tracker's records are to be taken back here."""
    tracker = Collector(runtime.root) if runtime.tracker.is_recording else Tracker()
    return replace(runtime, progress=Silent(), tracker=tracker, loaded={})


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Processes begun in here never see Ctrl-C, which a terminal sends to all of them: this one ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
