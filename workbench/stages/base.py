"""A stage: one cached step of a study, found by its identity, locked while it runs, finished by one atomic rename.

Any number of processes may share a runs folder: `ensure_all` works on stages that no other process is working on.
`stages.cache` handles the folders.
"""

import json
import os
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from workbench.core.config import Config, UserError, digest
from workbench.core.files import PARTIAL, naming, write_whole
from workbench.core.progress import Update
from workbench.stages.cache import (
    CONFIG,
    checksums,
    damage,
    is_finished,
    lock_path,
    make_workable,
    put_in_place,
    settle,
    wait_for_one,
)
from workbench.stages.provenance import PROVENANCE, provenance, read_provenance
from workbench.stages.runtime import Runtime
from workbench.tracking.inside import is_recordable
from workbench.tracking.record import Record
from workbench.weights.zoo import weight_files, weights_digest

_identities: ContextVar[dict["Stage", str] | None] = ContextVar("identities", default=None)


@contextmanager
def remembered_identities() -> Iterator[None]:
    """Compute the identity of equal stages once.

    The cells of a study share most of their upstream stages, and an identity looks for each of them among the weights
    that ship. Outside the block nothing is remembered: those weights may change.
    """
    token = _identities.set({} if (known := _identities.get()) is None else known)
    try:
        yield
    finally:
        _identities.reset(token)


class Stage(Config):
    """A frozen description of a piece of work, and the method that does it."""

    name: ClassVar[str]
    """Name of the folder under runs/stages."""
    version: ClassVar[int] = 1
    """Increase it if the same config gives a different result than before."""
    artifact_type: ClassVar[str] = "results"
    """Type of the W&B artifact: model, latents, results."""
    seconds_per_effort: ClassVar[float]
    """Nominal rate on two cores, for a first estimate of the remaining time."""
    is_timing: ClassVar[bool] = False
    """Whether the result is a timing: then nothing else should run at the same time."""

    def upstream(self) -> Sequence["Stage"]:
        """The stages whose artifacts this one reads."""
        return ()

    @abstractmethod
    def work(self, folder: Path, runtime: Runtime) -> None:
        """Do the work, writing into `folder`. After a kill, the same folder is passed again, to resume from."""

    @abstractmethod
    def effort(self) -> float:
        """The amount of work, in a unit of the stage's own (images processed)."""

    def relative_cost(self) -> float:
        """The cost of a unit of effort, relative to the default networks on 32 px images."""
        return 1.0

    def enough(self) -> bool:
        """Whether there are images enough for it; a report does without support that lacks them."""
        return True

    def check(self) -> None:
        """Raise UserError, before any expensive computation, if the stage cannot work."""

    @property
    def trains(self) -> bool:
        """Whether several devices and machines can share the work as ranks of a training."""
        return False

    def check_devices(self, number: int) -> None:
        """Raise UserError if the stage's training cannot be shared by so many devices."""

    def shipped(self) -> Path | None:
        """A folder of shipped or given weights that replaces the work; None: do the work."""
        return None

    def shipped_parts(self, folder: Path) -> tuple[Path, ...]:
        """The subfolders of a shipped folder that this stage reads: other parts' weights are not in its identity."""
        return (folder,)

    @property
    def identity(self) -> str:
        known = _identities.get()
        if known is None:
            return super().identity
        if self not in known:
            known[self] = super().identity
        return known[self]

    @property
    def label(self) -> str:
        """A short description for the user."""
        return self.name

    def canonical(self) -> dict[str, Any]:
        """Fields, version and upstream stages; for given weights, only their contents."""
        if (folder := self.shipped()) is not None:
            return {"stage": self.name, "weights": weights_digest(*self.shipped_parts(folder))}
        upstream = [stage.identity for stage in self.upstream()]
        return {"stage": self.name, "version": self.version, "upstream": upstream, **super().canonical()}

    def folder(self, runtime: Runtime) -> Path:
        """The folder of the artifact, whether or not it exists."""
        return self.shipped() or runtime.root / "stages" / self.name / self.identity

    def is_cached(self, runtime: Runtime) -> bool:
        """Whether the artifact exists."""
        return self.folder(runtime).is_dir()

    def missing(self, runtime: Runtime) -> list["Stage"]:
        """The missing stages that this stage needs, itself included, upstream first, without repetition."""
        if self.is_cached(runtime):
            return []
        todo: dict[str, Stage] = {}
        for stage in (*self.upstream(), self):
            for needed in stage.missing(runtime) if stage is not self else [self]:
                todo.setdefault(f"{needed.name}/{needed.identity}", needed)
        return list(todo.values())

    def ensure(self, runtime: Runtime) -> Path:
        """The artifact's folder; the artifact is computed now if it is missing.

        Raises:
            UserError: if the artifact is damaged and `runtime.rerun` is not set.
        """
        ensure_all([self], runtime)
        return self.folder(runtime)

    def attempt(self, runtime: Runtime) -> list["Stage"]:
        """Compute the missing stages, as far as no other process is working on them.

        Returns:
            The stages that other processes are working on and that block this one; empty if the artifact exists.
        """
        target = self.folder(runtime)
        if (given := self.shipped()) is not None:
            weights_digest(*self.shipped_parts(given))  # rejects damaged ones
            return []
        if os.path.lexists(target) and self._to_be_mended(target, runtime) is None:
            if not runtime.tracker.knows(target.name):  # computed while W&B was disabled
                self.track(runtime)
            return []
        # try all of them, even if one blocks: others may have work
        busy = [other for stage in self.upstream() for other in stage.attempt(runtime)]
        if busy:
            return busy
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # do not wait: there may be other work, see ensure_all
            lock = FileLock(lock_path(target)).acquire(timeout=0)
        except Timeout:
            return [self]
        with lock:
            settle(target)
            if os.path.lexists(target):
                problem = self._to_be_mended(target, runtime)
                if problem is None:  # another process was faster
                    return []
                runtime.progress.say(f"recomputing {self.label} {self.identity}: {problem}")
            self._make(target, runtime)
            self.track(runtime, again=True)
        return []

    def _make(self, target: Path, runtime: Runtime) -> None:
        partial = target.with_suffix(PARTIAL)
        # a run killed just before its last rename has left only that to do
        if not is_finished(partial):
            self._work(partial, runtime)
        put_in_place(partial, target)

    def _work(self, partial: Path, runtime: Runtime) -> None:
        """Do the work, then write its provenance, which marks it as complete."""
        resumed = partial.is_dir() and not partial.is_symlink()
        make_workable(partial)
        cost, started = self.relative_cost(), time.time()
        write_whole(partial / CONFIG, json.dumps(self.model_dump(mode="json"), indent=2))
        with naming(partial):
            self.work(partial, runtime)
        record = provenance(runtime) | {"wall_seconds": round(time.time() - started, 2), "resumed": resumed}
        record |= {"started": round(started, 2), "process": os.getpid(), "effort": self.effort()}
        record |= {"relative_cost": cost}
        record |= {"identity": self.identity, "canonical": self.canonical(), "files": checksums(partial)}
        write_whole(partial / PROVENANCE, json.dumps(record, indent=2))

    def track(self, runtime: Runtime, *, again: bool = False) -> str | None:
        """Write a record for W&B of this stage and those upstream: once, or again if the stage was recomputed.

        Returns:
            The name of its artifact; None if there is no record of it.
        """
        if not runtime.tracker.is_recording:
            return None
        canonical, shipped = self.canonical(), self.shipped()
        identity = digest(canonical)
        if not again and runtime.tracker.knows(identity):
            return f"{self.name}:{identity}"
        folder = shipped or runtime.root / "stages" / self.name / identity
        if not folder.is_dir():  # upstream of a cached stage, and deleted since
            return None
        if shipped is not None:
            weights = [path for part in self.shipped_parts(folder) for path in weight_files(part)]
            # weights from other sources are only recorded by their digest
            are_here = is_recordable(runtime.root, folder)
            files, contents = [str(path.relative_to(folder)) for path in weights if are_here], identity
        else:
            checksums = read_provenance(folder)["files"]
            files, contents = [PROVENANCE, *checksums], digest(checksums)
        upstream = () if shipped is not None else self.upstream()
        record = Record(
            run_id=identity,
            job_type=self.name,
            name=f"{self.label} {identity}",
            config=canonical,
            inputs=tuple(name for stage in upstream if (name := stage.track(runtime)) is not None),
            folder=str(folder.relative_to(runtime.root) if folder.is_relative_to(runtime.root) else folder.resolve()),
            files=tuple(files),
            contents=contents,
            artifact=self.name,
            artifact_type=self.artifact_type,
        )
        runtime.tracker.record(record)
        return f"{self.name}:{identity}"

    def outdated(self, folder: Path) -> str | None:
        """Why an intact artifact should be recomputed with --rerun; None if it should not."""
        return None

    def _to_be_mended(self, target: Path, runtime: Runtime) -> str | None:
        """The problem of the artifact, in words; raises an error unless `runtime.rerun` is set."""
        problem = damage(target) or (self.outdated(target) if runtime.rerun else None)
        if problem is not None and not runtime.rerun:
            raise UserError(f"the cached {self.label} in {target} is damaged: {problem}; add --rerun to recompute it")
        return problem


def ensure_all(stages: Sequence[Stage], runtime: Runtime, update: Update | None = None) -> None:
    """Compute all missing artifacts, starting with those that no other process is working on.

    Args:
        update: called with the number of `stages` that exist.

    Raises:
        UserError: if an artifact is damaged and `runtime.rerun` is not set.
    """
    tell = update or (lambda done, total, note="": None)
    left, waited = list(stages), False
    while left:
        still_left: list[Stage] = []
        busy: dict[Path, Stage] = {}
        for number, stage in enumerate(left):
            tell(len(stages) - len(left) + number - len(still_left), len(stages), stage.label)
            if others := stage.attempt(runtime):
                still_left.append(stage)
                busy |= {other.folder(runtime): other for other in others}
        left = still_left
        if left:
            note = f"waiting for another process: {next(iter(busy.values())).label}"
            if not waited:
                runtime.progress.say(note)
            waited = True
            tell(len(stages) - len(left), len(stages), note)
            wait_for_one(busy)
    tell(len(stages), len(stages))
