"""Stages for tests that work in several processes: they take no time, and leave what the tests look for."""

import multiprocessing
import os
import signal
import subprocess
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
from workbench.stages.base import Stage
from workbench.stages.runtime import Runtime

if multiprocessing.parent_process() is not None:
    base.provenance = lambda runtime: {}  # without importing torch


class Piece(Stage):
    """Does what its action says, after the pieces above it."""

    name: ClassVar[str] = "piece"
    seconds_per_effort: ClassVar[float] = 1.0

    number: int = 0
    seconds: float = 1.0
    above: tuple["Piece", ...] = ()
    action: Literal["work", "raise", "refuse", "die", "threads", "inner", "meet", "stay", "late"] = "work"

    def upstream(self) -> Sequence[Stage]:
        return self.above

    def effort(self) -> float:
        return self.seconds

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


def endless(kind: str, runs: Path) -> tuple["subprocess.Popen[str]", list[int]]:
    """A process that runs `main`, and those in which its two stages are at work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "instant_stages", str(runs), kind],
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": str(Path(base.__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # where the tests run in the background, Ctrl-C is ignored, and so it would be in their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: len(list(runs.glob("at-*"))) == 2)
    return process, [int(path.name.removeprefix("at-")) for path in runs.glob("at-*")]


def lives(pid: int) -> bool:
    """Whether there is such a process, and no mere zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def main() -> None:
    """`python -m instant_stages RUNS processes|jobs`: two of them that do not end, until Ctrl-C."""
    from workbench.stages.cluster import Cluster, ensure_on_cluster
    from workbench.stages.processes import ensure_in_processes

    endless = [Piece(number=number, action="stay") for number in range(2)]
    runtime = Runtime(Path(sys.argv[1]))
    try:
        if sys.argv[2] == "processes":
            ensure_in_processes(endless, runtime, num_processes=2)
        else:
            ensure_on_cluster(endless, runtime, cluster=Cluster("local"))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


if __name__ == "__main__":
    # so that the processes find the classes under a name that they can import
    import instant_stages

    instant_stages.main()
