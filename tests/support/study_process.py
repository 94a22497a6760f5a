"""A study at smoke in processes of their own: robustness, unless another is named."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from small_study import flags
from warm_python import WarmProcess

from workbench.experiments import study as study_module
from workbench.stages.provenance import PROVENANCE

PROJECT = Path(study_module.__file__).parents[2]
TIMEOUT = 300


def command(runs: Path, overrides: dict[str, Any], verb: str = "study", name: str = "robustness") -> list[str]:
    words = ["-m", "workbench", verb, name, "--preset", "smoke", "--runs", str(runs)]
    return [*words, "--device", "cpu", *flags(overrides)]


def log_path(runs: Path, number: int = 0) -> Path:
    """What a process says, beside the runs folder."""
    return runs.with_name(f"{runs.name}-{number}.log")


def begin(
    runs: Path, overrides: dict[str, Any], number: int = 0, verb: str = "study", name: str = "robustness"
) -> WarmProcess:
    return WarmProcess(command(runs, overrides, verb, name), log_path(runs, number))


def end(process: WarmProcess, runs: Path, number: int = 0) -> tuple[int, str]:
    """(exit code, what it said)."""
    return process.wait(timeout=TIMEOUT), log_path(runs, number).read_text()


def finish(process: WarmProcess, runs: Path, number: int = 0) -> str:
    code, said = end(process, runs, number)
    assert code == 0, said[-3000:]
    return said


def run(runs: Path, overrides: dict[str, Any], name: str = "robustness") -> str:
    return finish(begin(runs, overrides, name=name), runs)


def wait_until(reached: Callable[[], bool], process: WarmProcess) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not reached():
        assert process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill(process: WarmProcess) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=TIMEOUT)


def results(runs: Path) -> pd.DataFrame:
    (path,) = runs.glob("studies/robustness/*/results.parquet")
    return pd.read_parquet(path)


def finished(runs: Path) -> list[Path]:
    """The provenance of every finished stage."""
    return [path for path in runs.glob(f"stages/*/*/{PROVENANCE}") if path.parent.suffix == ""]


def records(runs: Path) -> list[dict[str, Any]]:
    """What the provenance of every finished stage says, in the order in which they were begun."""
    return sorted((json.loads(path.read_text()) for path in finished(runs)), key=lambda record: record["started"])


def stages(runs: Path) -> dict[str, tuple[int, int]]:
    """Every finished stage, and what would change if it were done again."""
    marks = {str(path.relative_to(runs)): path.stat() for path in finished(runs)}
    return {name: (mark.st_ino, mark.st_mtime_ns) for name, mark in marks.items()}


def assert_same_results(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Every column of every image is the same to the last bit, but for the time that it took.

    Not only up to rounding: every draw is keyed by what it is for, a training goes on from all of its state, and both
    runs use as many threads (the order of sums depends on their number).
    """
    times = ["seconds", "start_seconds"]
    pd.testing.assert_frame_equal(found.drop(columns=times), expected.drop(columns=times), check_exact=True)


def assert_nothing_is_left_over(runs: Path) -> None:
    assert not list(runs.glob("**/*.partial"))
    assert not list(runs.glob("**/*.ckpt"))
