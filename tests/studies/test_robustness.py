import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pair import EVALUATION, NETWORKS, flags, source_overrides

from workbench import study as study_module
from workbench.stages.base import PROVENANCE

PROJECT = Path(study_module.__file__).parents[1]
NUM_CELLS = 20
NUM_STAGES = NUM_CELLS + 5 + 1 + 1 + 2
"""Cells, severity encoders, the autoencoder, the prior, and the latents that each of the two kinds trains on."""
TIMEOUT = 300


@pytest.fixture(scope="module")
def overrides(images: Path) -> dict[str, Any]:
    return {**source_overrides(images), **NETWORKS, **EVALUATION}


def command(runs: Path, overrides: dict[str, Any]) -> list[str]:
    words = [sys.executable, "-m", "workbench", "study", "robustness", "--preset", "smoke", "--runs", str(runs)]
    return [*words, "--device", "cpu", *flags(overrides)]


def begin(runs: Path, overrides: dict[str, Any], number: int = 0) -> "subprocess.Popen[str]":
    """The study in a process of its own, which says what it says into a file beside the runs folder."""
    with runs.with_name(f"{runs.name}-{number}.log").open("w") as log:
        words = command(runs, overrides)
        return subprocess.Popen(words, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT, text=True)


def finish(process: "subprocess.Popen[str]", runs: Path, number: int = 0) -> str:
    code = process.wait(timeout=TIMEOUT)
    said = runs.with_name(f"{runs.name}-{number}.log").read_text()
    assert code == 0, said[-3000:]
    return said


def run(runs: Path, overrides: dict[str, Any]) -> str:
    return finish(begin(runs, overrides), runs)


def results(runs: Path) -> pd.DataFrame:
    (path,) = runs.glob("studies/robustness/*/results.parquet")
    return pd.read_parquet(path)


def stages(runs: Path) -> dict[str, tuple[int, int]]:
    """Every finished stage, and what would change if it were done again."""
    finished = (p for p in runs.glob(f"stages/*/*/{PROVENANCE}") if p.parent.suffix != ".partial")
    marks = {str(p.relative_to(runs)): p.stat() for p in finished}
    return {name: (mark.st_ino, mark.st_mtime_ns) for name, mark in marks.items()}


def assert_same_results(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Every column of every image is the same to the last bit, but for the time that it took."""
    pd.testing.assert_frame_equal(found.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True)


def assert_nothing_is_left_over(runs: Path) -> None:
    assert not list(runs.glob("**/*.partial"))


@pytest.fixture(scope="module")
def two_at_once(overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which two processes did the study at the same time."""
    runs = tmp_path_factory.mktemp("robustness") / "runs"
    runs.mkdir()
    processes = [begin(runs, overrides, number) for number in range(2)]
    for number, process in enumerate(processes):
        finish(process, runs, number)
    return runs


def test_two_processes_at_once_both_succeed_and_do_no_stage_twice(two_at_once: Path) -> None:
    frame = results(two_at_once)
    assert len(frame) == NUM_CELLS * EVALUATION["num_images"]
    assert frame["cell"].nunique() == NUM_CELLS
    assert (frame.groupby("degradation")["measurement_set"].nunique() == 1).all()
    assert frame.groupby("degradation")["psnr"].nunique().min() > EVALUATION["num_images"], "encoders differ"
    assert_nothing_is_left_over(two_at_once)
    made = stages(two_at_once)
    assert len(made) == NUM_STAGES
    said = "".join(two_at_once.with_name(f"runs-{number}.log").read_text() for number in range(2))
    # a bar is opened only where work begins
    assert said.count("... training autoencoder") == said.count("... training prior") == 1
    assert said.count("... training severity encoder") == 5
    assert said.count("... restoring") == NUM_CELLS


def test_the_same_command_again_does_nothing_again(two_at_once: Path, overrides: dict[str, Any]) -> None:
    made, frame = stages(two_at_once), results(two_at_once)
    said = run(two_at_once, overrides)
    assert f"{NUM_CELLS} cells, {NUM_CELLS} cached" in said
    assert stages(two_at_once) == made
    pd.testing.assert_frame_equal(results(two_at_once), frame, check_exact=True)


def test_the_study_reports(two_at_once: Path) -> None:
    (page,) = two_at_once.glob("studies/robustness/*/report/index.html")
    text = page.read_text()
    for words in ("severity encoder", "LPIPS", "--data.kind=npy", "motion blur"):
        assert words in text


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=TIMEOUT)


def test_killed_in_the_middle_and_run_again_gives_the_same_results(
    two_at_once: Path, overrides: dict[str, Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    process = begin(runs, overrides)
    # in the middle: some cells are done, and one is being worked on
    deadline = time.monotonic() + TIMEOUT
    while len(list(runs.glob(f"stages/evaluate/*/{PROVENANCE}"))) < 6 or not list(runs.glob("stages/*/*.partial")):
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    kill(process)
    made = stages(runs)
    assert len(made) < NUM_STAGES
    assert not list(runs.glob("studies/*/*/results.parquet"))
    run(runs, overrides)
    assert_same_results(results(runs), results(two_at_once))
    assert made.items() <= stages(runs).items(), "what was done is not done again"
    assert_nothing_is_left_over(runs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_moment_and_run_again_gives_the_same_results(
    seed: int, two_at_once: Path, overrides: dict[str, Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    draw = random.Random(seed)
    for _ in range(2):
        process = begin(runs, overrides)
        try:
            process.wait(timeout=draw.uniform(2, 20))
        except subprocess.TimeoutExpired:
            kill(process)
    run(runs, overrides)
    assert_same_results(results(runs), results(two_at_once))


def test_what_cannot_work_is_one_line(overrides: dict[str, Any], tmp_path: Path) -> None:
    words = command(tmp_path / "runs", {**overrides, "num_images": 1000})
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 2
    assert done.stderr == "error: asks for 1000 test images, the split holds 20\n"
    assert not (tmp_path / "runs" / "stages").exists()


@pytest.mark.shared
def test_the_study_runs_on_colour_photographs(shared: Path, tmp_path: Path) -> None:
    source = {"data.kind": "npy", "data.path": str(shared / "data" / "cifar10_32.npy")}
    runs = tmp_path / "runs"
    runs.mkdir()
    run(runs, {**source, **NETWORKS, "num_images": 4})
    frame = results(runs)
    assert len(frame) == NUM_CELLS * 4
    assert frame["psnr"].between(0, 60).all()
    assert (frame["psnr_ceiling"] > 10).all()


def test_environment_keeps_wandb_out(two_at_once: Path) -> None:
    assert os.environ["WANDB_MODE"] == "disabled"
    assert not (two_at_once / "wandb").exists()
