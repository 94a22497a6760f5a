"""A stage: one cached step of a study, found by its identity, locked while it works, done by one atomic rename.

runs/stages/<stage>/<identity>/   config.json  provenance.json  and the stage's own files
runs/stages/<stage>/<identity>.partial/   work in progress, or what a killed run left to go on from
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from filelock import FileLock

from workbench import __version__
from workbench.config import Config, UserError
from workbench.progress import Progress, Silent
from workbench.tracking import Tracker

PROVENANCE = "provenance.json"


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
        tracker: logs stages to W&B.
        loaded: networks that cells share, by stage identity, so that each is read once.
    """

    root: Path
    device: str = "cpu"
    batch_size: int = 64
    rerun: bool = False
    progress: Progress = field(default_factory=Silent)
    tracker: Tracker = field(default_factory=Tracker)
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        probe = self.root / f".writable-{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"the runs folder {self.root} is not writable ({error.strerror}); name another by --runs"
            ) from None
        if self.batch_size < 1:
            raise UserError(f"the batch size must be at least 1, got {self.batch_size}")

    def place(self, network: Network) -> Network:
        """Move a network to the device, its weights in channels-last order: convolutions run 10 to 20 % faster so."""
        import torch

        return network.to(self.device).to(memory_format=torch.channels_last)


class Stage(Config):
    """A frozen description of a piece of work, and the method that does it."""

    name: ClassVar[str]
    """The folder under runs/stages."""
    version: ClassVar[int] = 1
    """Raise it when the same config comes to mean another result."""
    seconds_per_effort: ClassVar[float]
    """Nominal rate on two cores, for the first estimate of what is left."""

    def upstream(self) -> Sequence["Stage"]:
        """The stages whose artifacts this one reads."""
        return ()

    @abstractmethod
    def work(self, folder: Path, runtime: Runtime) -> None:
        """Do it, writing into `folder`. A folder that a killed run left is given again, to go on from."""

    @abstractmethod
    def effort(self) -> float:
        """How much work it is, in a unit of the stage's own (images seen)."""

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
            from workbench.zoo import weights_digest

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
        target = self.folder(runtime)
        if self.shipped() is not None:
            return target
        if target.is_dir() and not self._is_damaged(target, runtime):
            return target
        for stage in self.upstream():
            stage.ensure(runtime)
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if target.is_dir():
                problem = self._problem(target, runtime)
                if problem is None:  # another process was faster
                    return target
                runtime.progress.say(f"recomputing {self.label} {self.identity}: {problem}")
                shutil.rmtree(target)
            self._make(target, runtime)
        return target

    def _make(self, target: Path, runtime: Runtime) -> None:
        partial = target.with_suffix(".partial")
        resumed = partial.is_dir()
        partial.mkdir(exist_ok=True)
        started = time.time()
        (partial / "config.json").write_text(json.dumps(self.model_dump(mode="json"), indent=2))
        with runtime.tracker.run(self.name, f"{self.label} {self.identity}", self.canonical(), self.identity) as log:
            self.work(partial, runtime)
            log.finish_stage(partial)
        record = provenance(runtime) | {"wall_seconds": round(time.time() - started, 2), "resumed": resumed}
        record |= {"effort": self.effort()}
        record |= {"identity": self.identity, "canonical": self.canonical(), "files": _checksums(partial)}
        (partial / PROVENANCE).write_text(json.dumps(record, indent=2))
        partial.replace(target)

    def outdated(self, folder: Path) -> str | None:
        """Why a sound artifact should be made again when the user asks for it; None: there is no reason."""
        return None

    def _problem(self, target: Path, runtime: Runtime) -> str | None:
        """What speaks against using the artifact, in words."""
        return damage(target) or (self.outdated(target) if runtime.rerun else None)

    def _is_damaged(self, target: Path, runtime: Runtime) -> bool:
        """Whether the files are not those that were written; an error unless `runtime.rerun` is set."""
        problem = self._problem(target, runtime)
        if problem is not None and not runtime.rerun:
            raise UserError(
                f"the cached {self.label} in {target} is damaged: {problem}; add --rerun to compute it again"
            )
        return problem is not None


def read_provenance(folder: Path) -> dict[str, Any]:
    """The provenance of a finished stage; {} for shipped weights."""
    path = folder / PROVENANCE
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return record


_checked: set[Path] = set()


def damage(folder: Path) -> str | None:
    """What is wrong with a finished stage's files, in words; None if nothing is. Checked once a process."""
    if folder in _checked:
        return None
    try:
        expected = dict(read_provenance(folder)["files"])
    except (KeyError, TypeError, ValueError):
        return f"{PROVENANCE} cannot be read"
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _checksum(path) != checksum:
            return f"{name} was changed or cut"
    _checked.add(folder)
    return None


def _checksums(folder: Path) -> dict[str, str]:
    """Of every file but the provenance, which a run killed before its last rename may have left here."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / PROVENANCE)
    return {str(p.relative_to(folder)): _checksum(p) for p in files}


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
