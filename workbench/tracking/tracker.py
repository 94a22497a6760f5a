"""The interface of stages and studies to W&B: a place for records."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from workbench.tracking.record import Record, Records
from workbench.tracking.turn import take_turn

PROJECT = "severity-workbench"


class Tracker:
    """Stores nothing: for tests, and if W&B is disabled."""

    is_recording: ClassVar[bool] = False

    def knows(self, run_id: str) -> bool:
        """Whether there is a record of this run."""
        return False

    def record(self, record: Record) -> None:
        """Store a record of a run, unless the same one exists."""

    def take(self) -> list[Record]:
        """Return the records collected for another process, once."""
        return []

    def close(self) -> None:
        """Print where the runs are."""


class Collector(Tracker):
    """Collects records in a worker process, for the study's own process to write."""

    is_recording: ClassVar[bool] = True

    def __init__(self, runs: Path) -> None:
        self.written = Records(runs)
        self.collected: dict[str, Record] = {}

    def knows(self, run_id: str) -> bool:
        return run_id in self.collected or self.written.has(run_id)

    def record(self, record: Record) -> None:
        self.collected[record.run_id] = record

    def take(self) -> list[Record]:
        taken, self.collected = list(self.collected.values()), {}
        return taken


class Recorder(Tracker):
    """Writes records, and starts the process that creates W&B runs from them, unless another study's is running.

    Args:
        runs: the runs folder.
        group: the study's name.
        tags: for every run.
        say: tells the user.
    """

    is_recording: ClassVar[bool] = True

    def __init__(self, runs: Path, group: str, tags: tuple[str, ...], say: Callable[[str], None]) -> None:
        self.records = Records(runs)
        self.group, self.tags, self.say = group, tags, say
        self.num_recorded = 0
        self.process: subprocess.Popen[bytes] | None = None

    def knows(self, run_id: str) -> bool:
        return self.records.has(run_id)

    def record(self, record: Record) -> None:
        tags = dict.fromkeys([self.group, *self.tags, *_kinds(record.config)])
        project = os.environ.get("WANDB_PROJECT") or PROJECT
        record = record.replace(project=project, group=self.group, tags=tuple(tags))
        try:
            if self.records.holds(record):
                return
            self.records.write(record)
        except OSError as error:
            self.say(f"W&B: no record of {record.name} ({error.strerror})")
            return
        self.num_recorded += 1
        if self.process is None:
            self.process = _start(self.records)

    def close(self) -> None:
        # the process of another, or of a killed, study may have ended before these records were written
        if (self.process is None or self.process.poll() is not None) and self.records.are_new():
            self.process = _start(self.records)
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        if self.num_recorded:
            runs = self.records.runs
            self.say(
                f"W&B: {self.num_recorded} runs, created in the background in {runs / 'wandb'} "
                f"(log: {self.records.log})"
            )
            self.say(f"  view: wandb leet {runs / 'wandb'}    upload: python -m workbench sync --runs {runs}")
        if problem := self.records.why_not_uploaded():
            self.say(f"W&B: {problem}")


def _start(records: Records) -> "subprocess.Popen[bytes] | None":
    """The process that creates runs from the records; it ends by itself after its standard input, the study, does.

    None if one exists, or none can be started; the records are then left to the existing or the next one.
    """
    turn = take_turn(records.runs)
    if turn is None:
        return None
    try:
        records.problem.unlink(missing_ok=True)
        with records.open_log() as log:
            return subprocess.Popen(
                [sys.executable, "-m", "workbench.tracking", str(records.runs), str(turn)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[turn],
                # Ctrl-C must not reach it. But no new session: Linux gives each session the same share of the
                # processor, however nice its processes are.
                process_group=0,
            )
    except OSError:
        return None
    finally:
        os.close(turn)  # the process has it


def _kinds(tree: dict[str, Any]) -> Iterator[str]:
    """The `kind` of every member of a family in a config."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _kinds(value)
        elif name == "kind":
            yield str(value)
