import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_study import EVALUATION, NETWORKS, source_overrides
from study_process import (
    PROJECT,
    TIMEOUT,
    assert_nothing_is_left_over,
    assert_same_results,
    begin,
    command,
    finish,
    kill,
    log_path,
    results,
    run,
    stages,
    wait_until,
)

from workbench.stages.provenance import PROVENANCE

NUM_CELLS = 26
NUM_STAGES = NUM_CELLS + 5 + 1 + 4 + 1 + 1 + 3
"""Cells, 5 severity encoders, 1 fit for `fused`, 4 latent statistics, autoencoder, prior, and 3 sets of latents."""


@pytest.fixture(scope="module")
def overrides(images: Path) -> dict[str, Any]:
    return {**source_overrides(images), **NETWORKS, **EVALUATION}


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
    said = "".join(log_path(two_at_once, number).read_text() for number in range(2))
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


def test_killed_in_the_middle_and_run_again_gives_the_same_results(
    two_at_once: Path, overrides: dict[str, Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    process = begin(runs, overrides)
    # in the middle: some cells are done, and one is being worked on
    wait_until(
        lambda: len(list(runs.glob(f"stages/evaluate/*/{PROVENANCE}"))) >= 6 and any(runs.glob("stages/*/*.partial")),
        process,
    )
    kill(process)
    made = stages(runs)
    assert len(made) < NUM_STAGES
    assert not list(runs.glob("studies/*/*/results.parquet"))
    run(runs, overrides)
    assert_same_results(results(runs), results(two_at_once))
    assert made.items() <= stages(runs).items(), "what was done is not done again"
    assert_nothing_is_left_over(runs)


def test_what_cannot_work_is_one_line(overrides: dict[str, Any], tmp_path: Path) -> None:
    words = [sys.executable, *command(tmp_path / "runs", {**overrides, "num_images": 1000})]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 2
    assert done.stderr == (
        "error: asked for 1000 test images, but the split has 20: reduce num_images, or add images\n"
    )
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
