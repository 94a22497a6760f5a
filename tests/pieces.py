"""Stages for tests that work in several processes: they take no time, and leave what the tests look for."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from wandb_runs import wait_until

from workbench.config import UserError
from workbench.progress import Silent
from workbench.stages import base
from workbench.stages.base import Runtime, Stage

if multiprocessing.parent_process() is not None:
    base.provenance = lambda runtime: {}  # without importing torch


class Piece(Stage):
    """Does what its action says, after the pieces above it."""

    name: ClassVar[str] = "piece"
    seconds_per_effort: ClassVar[float] = 1.0

    number: int = 0
    above: tuple["Piece", ...] = ()
    action: Literal["work", "raise", "refuse", "die", "threads", "inner", "meet", "stay", "late"] = "work"

    def upstream(self) -> Sequence[Stage]:
        return self.above

    def effort(self) -> float:
        return 1.0

    @property
    def label(self) -> str:
        return f"piece {self.number}"

    def work(self, folder: Path, runtime: Runtime) -> None:
        with runtime.progress.task(f"working: {self.label}") as update:
            update(1, 2, "half")
        (runtime.root / f"at-{os.getpid()}").touch()
        assert all(piece.is_cached(runtime) for piece in self.above)
        match self.action:
            case "raise":
                raise RuntimeError(f"{self.label} on purpose")
            case "refuse":
                raise UserError(f"{self.label} is refused")
            case "die":
                os._exit(9)
            case "threads":
                import torch

                (folder / "threads").write_text(str(torch.get_num_threads()))
            case "inner":
                Piece(number=self.number + 1).ensure(runtime)
            case "meet":
                (runtime.root / f"meeting-{self.number}").touch()
                wait_until(lambda: len(list(runtime.root.glob("meeting-*"))) == 2)
            case "late":
                os.kill(os.getpid(), signal.SIGUSR2)  # as SLURM does when the time is nearly up
            case "stay":
                time.sleep(3600)


class Kinded(Piece):
    """A piece of another name."""

    name: ClassVar[str] = "kinded"


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.updates: list[tuple[Any, ...]] = []

    @contextmanager
    def task(self, description: str):
        self.lines.append(f"begin {description}")
        yield lambda *update: self.updates.append(update)
        self.lines.append(f"end {description}")

    def say(self, line: str) -> None:
        self.lines.append(line)


def main() -> None:
    """`python -m pieces RUNS`: two processes that do not end."""
    from workbench.stages.processes import ensure_in_processes

    endless = [Piece(number=number, action="stay") for number in range(2)]
    ensure_in_processes(endless, Runtime(Path(sys.argv[1])), num_processes=2)


if __name__ == "__main__":
    # so that the processes find the classes under a name that they can import
    import pieces

    pieces.main()
