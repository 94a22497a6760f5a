"""A stage: one cached step of a study, found by its identity, locked while it works, done by one atomic rename.

runs/stages/<stage>/<identity>/   config.json  provenance.json  and the stage's own files
runs/stages/<stage>/<identity>.partial/   work in progress, or what a killed run left to go on from
runs/stages/<stage>/<identity>.lock   held by the process that is at work; the kernel frees it when that process dies

Any number of processes may share a runs folder: `ensure_all` works on what no other process is working on.
"""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from filelock import FileLock, Timeout

from workbench import __version__
from workbench.bounds import MAX_BATCH
from workbench.config import Config, UserError, digest, require_range
from workbench.files import PARTIAL, flush, naming, remove, write_whole
from workbench.foreign import FOREIGN
from workbench.progress import Progress, Silent, Update
from workbench.tracking.inside import is_recordable
from workbench.tracking.record import Record
from workbench.tracking.tracker import Tracker
from workbench.zoo import weight_files, weights_digest

CONFIG, PROVENANCE = "config.json", "provenance.json"
SCRATCH = ("*.ckpt", f"*{PARTIAL}")
"""Names of the files that only a killed run needs to go on from; a finished stage is without them."""
REPLACED = ".replaced"
"""Ends the name of an outdated or damaged folder while a better one takes its place."""
POLL = 0.1
"""Seconds between two looks at what other processes are working on."""

if TYPE_CHECKING:
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")


@dataclass(frozen=True)
class Runtime:
    """Where and how stages run; nothing here may change a result.

    Attributes:
        root: the runs folder.
        device: a torch device.
        batch_size: images that the engine works on at once.
        rerun: recompute cache entries that are damaged or outdated, instead of stopping at them or using them.
        progress: shows what is going on.
        tracker: takes a record of every stage, for W&B.
        loaded: what stages share, such as networks, by stage identity, so that each is read once.
    """

    root: Path
    device: str = "cpu"
    batch_size: int = 64
    rerun: bool = False
    progress: Progress = field(default_factory=Silent)
    tracker: Tracker = field(default_factory=Tracker)
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        require_range("the batch size", self.batch_size, 1, MAX_BATCH)

    def require_writable(self) -> None:
        """Make the runs folder if it is not there, and refuse one that nothing can be written to. Raises UserError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):  # without a name where the system can: a kill leaves nothing
                pass
        except OSError as error:
            raise UserError(
                f"the runs folder {self.root} is not writable ({error.strerror}); name another by --runs"
            ) from None

    def place(self, network: Network) -> Network:
        """Move a network to the device, as `place` does."""
        return place(network, self.device)


def place(network: Network, device: str) -> Network:
    """Move a network to a device, its weights in the order in which it runs fastest.

    Convolutions prefer channels last; on a CPU, group norms lose more by that order than convolutions gain.
    """
    import torch

    grouped = device == "cpu" and any(isinstance(module, torch.nn.GroupNorm) for module in network.modules())
    return network.to(device).to(memory_format=torch.contiguous_format if grouped else torch.channels_last)


def choose_device(name: str) -> str:
    """The torch device of that name; "auto": a GPU if there is one.

    Raises:
        UserError: if it cannot be used.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(f"device {name!r} cannot be used: {reason}") from None
    return name


class Stage(Config):
    """A frozen description of a piece of work, and the method that does it."""

    name: ClassVar[str]
    """The folder under runs/stages."""
    version: ClassVar[int] = 1
    """Raise it when the same config comes to mean another result."""
    artifact_type: ClassVar[str] = "results"
    """What W&B calls the artifact: model, latents, results."""
    seconds_per_effort: ClassVar[float]
    """Nominal rate on two cores, for the first estimate of what is left."""
    is_timing: ClassVar[bool] = False
    """Whether seconds are what it is about: nothing else should run beside it."""

    def upstream(self) -> Sequence["Stage"]:
        """The stages whose artifacts this one reads."""
        return ()

    @abstractmethod
    def work(self, folder: Path, runtime: Runtime) -> None:
        """Do it, writing into `folder`. A folder that a killed run left is given again, to go on from."""

    @abstractmethod
    def effort(self) -> float:
        """How much work it is, in a unit of the stage's own (images seen)."""

    def relative_cost(self) -> float:
        """What a unit of effort costs, as a multiple of what it does with the default networks on 32 px images."""
        return 1.0

    def check(self) -> None:
        """Refuse what cannot work, before compute is spent. Raises UserError."""

    def shipped(self) -> Path | None:
        """A folder of shipped or given weights that stands in for the work; None: do it."""
        return None

    def shipped_parts(self, folder: Path) -> tuple[Path, ...]:
        """The folders below a shipped one that this stage reads: another part's weights are not its identity."""
        return (folder,)

    @property
    def label(self) -> str:
        """A few words for people."""
        return self.name

    def canonical(self) -> dict[str, Any]:
        """Fields, version and what stands upstream; for given weights, their contents alone."""
        if (folder := self.shipped()) is not None:
            return {"stage": self.name, "weights": weights_digest(*self.shipped_parts(folder))}
        upstream = [stage.identity for stage in self.upstream()]
        return {"stage": self.name, "version": self.version, "upstream": upstream, **super().canonical()}

    def folder(self, runtime: Runtime) -> Path:
        """Where the artifact is, or will be."""
        return self.shipped() or runtime.root / "stages" / self.name / self.identity

    def is_cached(self, runtime: Runtime) -> bool:
        """Whether the artifact is there."""
        return self.folder(runtime).is_dir()

    def missing(self, runtime: Runtime) -> list["Stage"]:
        """What would have to be done for this stage, upstream first, without repetition."""
        if self.is_cached(runtime):
            return []
        todo: dict[str, Stage] = {}
        for stage in (*self.upstream(), self):
            for needed in stage.missing(runtime) if stage is not self else [self]:
                todo.setdefault(f"{needed.name}/{needed.identity}", needed)
        return list(todo.values())

    def ensure(self, runtime: Runtime) -> Path:
        """The artifact's folder, made now if it is not there.

        Raises:
            UserError: if the artifact is damaged and `runtime.rerun` is not set.
        """
        ensure_all([self], runtime)
        return self.folder(runtime)

    def attempt(self, runtime: Runtime) -> list["Stage"]:
        """Make what is missing as far as no other process is working on it.

        Returns:
            The stages that others are working on and that stand in the way; none: the artifact is there.
        """
        target = self.folder(runtime)
        if (given := self.shipped()) is not None:
            weights_digest(*self.shipped_parts(given))  # refuses those that are damaged
            return []
        if os.path.lexists(target) and self._to_be_mended(target, runtime) is None:
            if not runtime.tracker.knows(target.name):  # made while W&B was disabled
                self.track(runtime)
            return []
        # all of them, even where one is in the way: there is work in the others
        busy = [other for stage in self.upstream() for other in stage.attempt(runtime)]
        if busy:
            return busy
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(_lock_path(target)).acquire(timeout=0)
        except Timeout:
            return [self]
        with lock:
            _settle(target)
            if os.path.lexists(target):
                problem = self._to_be_mended(target, runtime)
                if problem is None:  # another process was faster
                    return []
                runtime.progress.say(f"recomputing {self.label} {self.identity}: {problem}")
            self._make(target, runtime)
            self.track(runtime, again=True)
        return []

    def _make(self, target: Path, runtime: Runtime) -> None:
        partial, replaced = target.with_suffix(PARTIAL), target.with_suffix(REPLACED)
        if partial.is_symlink():  # none of ours: what it leads to would be worked in, and scratch deleted there
            partial.unlink()
        # a run killed just before its last rename has left all there is to do but that
        if not _is_finished(partial):
            self._work(partial, runtime)
        for path in _scratch(partial):
            remove(path)
        if os.path.lexists(target):  # outdated or damaged: it stood there until now, when there is something better
            target.replace(replaced)
        partial.replace(target)
        with suppress(OSError):  # the next run tries again
            remove(replaced)

    def _work(self, partial: Path, runtime: Runtime) -> None:
        """Do the work and write its provenance, the mark that nothing is missing."""
        if not partial.is_dir():
            remove(partial)
        resumed = partial.is_dir()
        partial.mkdir(exist_ok=True)
        for path in list(partial.rglob("*")):
            if not (path.is_dir() or path.is_file()) or path.is_symlink():
                path.unlink()  # none of ours: what a link leads to would be written over, a pipe be waited for
        cost, started = self.relative_cost(), time.time()
        write_whole(partial / CONFIG, json.dumps(self.model_dump(mode="json"), indent=2))
        with naming(partial):
            self.work(partial, runtime)
        record = provenance(runtime) | {"wall_seconds": round(time.time() - started, 2), "resumed": resumed}
        record |= {"started": round(started, 2), "process": os.getpid(), "effort": self.effort()}
        record |= {"relative_cost": cost}
        record |= {"identity": self.identity, "canonical": self.canonical(), "files": _checksums(partial)}
        write_whole(partial / PROVENANCE, json.dumps(record, indent=2))

    def track(self, runtime: Runtime, *, again: bool = False) -> str | None:
        """Leave a record for W&B of this stage and of those upstream: once, or again of one that was made again.

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
        if not folder.is_dir():  # upstream of what is cached, and deleted since
            return None
        if shipped is not None:
            weights = [path for part in self.shipped_parts(folder) for path in weight_files(part)]
            # weights that are given from elsewhere are recorded by their digest alone
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
        """Why a sound artifact should be made again when the user asks for it; None: there is no reason."""
        return None

    def _to_be_mended(self, target: Path, runtime: Runtime) -> str | None:
        """What speaks against using the artifact, in words; an error unless `runtime.rerun` is set."""
        problem = damage(target) or (self.outdated(target) if runtime.rerun else None)
        if problem is not None and not runtime.rerun:
            raise UserError(
                f"the cached {self.label} in {target} is damaged: {problem}; add --rerun to compute it again"
            )
        return problem


def ensure_all(stages: Sequence[Stage], runtime: Runtime, update: Update | None = None) -> None:
    """Make all artifacts that are missing, those first that no other process is working on.

    Args:
        update: told how many of `stages` are there.

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
            _wait_for_one(busy)
    tell(len(stages), len(stages))


def _wait_for_one(targets: Iterable[Path]) -> None:
    """Until no process is working on one of these artifacts: it is there, or its process has died."""
    while not any(_is_free(target) for target in targets):
        time.sleep(POLL)


def _is_free(target: Path) -> bool:
    try:
        with FileLock(_lock_path(target)).acquire(timeout=0):
            return True
    except Timeout:
        return False


def unfinished(root: Path) -> list[Path]:
    """Folders of work that was begun, not finished, and that no process is working on, below a runs folder."""
    return sorted(path for path in root.glob(f"stages/*/*{PARTIAL}") if _is_free(path))


def _settle(target: Path) -> None:
    """Clean up after a run that was killed between its last two renames, or could not delete what it had replaced.

    What was replaced is removed where there is something better, a finished one or one about to take its name; else it
    has its name again.
    """
    replaced = target.with_suffix(REPLACED)
    if not os.path.lexists(replaced):
        return
    if os.path.lexists(target) or _is_finished(target.with_suffix(PARTIAL)):
        remove(replaced)
    else:
        replaced.replace(target)


def _is_finished(partial: Path) -> bool:
    return partial.is_dir() and _damage(partial) is None


def _lock_path(target: Path) -> Path:
    return target.with_suffix(".lock")


def read_provenance(folder: Path) -> dict[str, Any]:
    """The provenance of a finished stage; {} for shipped weights.

    Raises:
        UserError: if it cannot be read.
    """
    path = folder / PROVENANCE
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_bytes())
    except FOREIGN as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): --rerun computes its folder again") from None
    if not isinstance(record, dict):
        raise UserError(f"{path} holds no JSON object: --rerun computes its folder again")
    return record


_checked: set[Path] = set()


def damage(folder: Path) -> str | None:
    """What is wrong with a finished stage's files, in words; None if nothing is. Checked once a process."""
    if folder in _checked:
        return None
    problem = _damage(folder)
    if problem is None:
        _checked.add(folder)
    return problem


def _damage(folder: Path) -> str | None:
    if not folder.is_dir():
        return "it is no folder"
    try:
        expected = dict(read_provenance(folder)["files"])
    except (KeyError, TypeError, ValueError):
        return f"{PROVENANCE} cannot be read"
    if CONFIG not in expected:  # every stage has one
        return f"{PROVENANCE} was changed or cut"
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is no file" if os.path.lexists(path) else f"{name} is missing"
        try:
            if _checksum(path) != checksum:
                return f"{name} was changed or cut"
        except OSError as error:  # such as a bad sector
            return f"{name} cannot be read ({error.strerror})"
    return None


def _checksums(folder: Path) -> dict[str, str]:
    """Of every file that stays, each put on the disk, but the provenance, which an earlier run may have left here."""
    passing = {folder / PROVENANCE, *_scratch(folder)}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in passing)
    for path in files:
        flush(path)
    return {str(p.relative_to(folder)): _checksum(p) for p in files}


def _scratch(folder: Path) -> list[Path]:
    return [path for pattern in SCRATCH for path in folder.rglob(pattern)]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def provenance(runtime: Runtime) -> dict[str, Any]:
    """How a result was made: commit, versions, device, threads."""
    import importlib.metadata

    import torch

    packages = ("torch", "torchvision", "diffusers", "deepinv", "lightning", "torchmetrics", "numpy")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {name: importlib.metadata.version(name) for name in packages}
        | {"python": platform.python_version(), "workbench": __version__},
        "device": torch.cuda.get_device_name(runtime.device)
        if runtime.device.startswith("cuda")
        else f"CPU {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parents[2]
    try:
        answer = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
