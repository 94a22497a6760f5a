"""Whatever happens to a study (kills, company, a full disk), the same command brings it to the same end."""

import bisect
import os
import random
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import CommandLine, Trained
from full_disk import file_size_limit
from small_study import EVALUATION, NETWORKS, source_overrides
from study_process import (
    assert_nothing_is_left_over,
    assert_same_results,
    begin,
    end,
    finish,
    finished,
    kill,
    records,
    results,
    run,
    stages,
    wait_until,
)

from workbench.stages.rows import ROWS

NUM_KILLS = 20
GOES_ON = "run the same command again to resume"


@pytest.fixture(scope="module")
def overrides(images: Path) -> dict[str, Any]:
    return {**source_overrides(images), **NETWORKS, **EVALUATION}


@pytest.fixture(scope="module")
def undisturbed(overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which one process did the study in peace."""
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    runs.mkdir()
    run(runs, overrides)
    return runs


def random_moment(runs: Path, number: int) -> tuple[int, float]:
    """A moment of the `number`th twentieth of a run: (stages finished before it, seconds since the last of them)."""
    made = records(runs)
    (page,) = runs.glob("studies/robustness/*/report/index.html")
    began, last = made[0]["started"], page.stat().st_mtime
    moment = began + (last - began) * (number + random.Random(number).random()) / NUM_KILLS
    ends = [record["started"] + record["wall_seconds"] for record in made]
    num_finished = bisect.bisect(ends, moment)
    return num_finished, moment - (ends[num_finished - 1] if num_finished else began)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(NUM_KILLS))
def test_killed_at_any_moment_and_run_again_gives_the_same_results(
    number: int, undisturbed: Path, overrides: dict[str, Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    num_finished, seconds = random_moment(undisturbed, number)
    process = begin(runs, overrides)
    wait_until(lambda: len(finished(runs)) >= num_finished and any(runs.glob("stages/*/*")), process)
    time.sleep(seconds)
    kill(process)
    assert process.returncode == -signal.SIGKILL, "the study ended before it could be killed"
    made, begun = stages(runs), [path.parent.name for path in runs.glob("stages/*/*.partial")]
    print(f"kill {number + 1}: {seconds:.2f} s after {num_finished} stages; {len(made)} finished, at work on {begun}")
    said = run(runs, overrides)
    assert_same_results(results(runs), results(undisturbed))
    assert made.items() <= stages(runs).items(), "what was done is not done again"
    assert len(stages(runs)) == len(stages(undisturbed))
    assert num_opened(said) <= len(stages(undisturbed)) - len(made)
    assert_nothing_is_left_over(runs)


def num_opened(said: str) -> int:
    """How many stages a process worked on: a bar is opened only where work begins."""
    return sum(said.count(f"... {word}") for word in ("training", "encoding", "restoring", "fitting"))


@pytest.mark.slow
def test_four_processes_share_the_work(undisturbed: Path, overrides: dict[str, Any], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    processes = [begin(runs, overrides, number) for number in range(4)]
    said = [finish(process, runs, number) for number, process in enumerate(processes)]
    assert_same_results(results(runs), results(undisturbed))
    assert_nothing_is_left_over(runs)
    made = records(runs)
    assert len(made) == len(stages(undisturbed))
    assert sum(map(num_opened, said)) == len(made), "no stage is done twice"
    share = {process.pid: [r for r in made if r["process"] == process.pid] for process in processes}
    assert all(share.values()), "each of the four did some of the stages"
    span = max(r["started"] + r["wall_seconds"] for r in made) - made[0]["started"]
    at_once = sum(r["wall_seconds"] for r in made) / span
    print(f"stages of each process: {[len(part) for part in share.values()]}, {at_once:.1f} at work on average")
    assert at_once > 1.5


@pytest.mark.slow
def test_one_command_of_several_processes_finds_the_same(
    undisturbed: Path, overrides: dict[str, Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    said = run(runs, {**overrides, "jobs": 3})
    assert_same_results(results(runs), results(undisturbed))
    assert_nothing_is_left_over(runs)
    made = records(runs)
    assert len(made) == len(stages(undisturbed)) == num_opened(said)
    assert len({record["process"] for record in made}) == 3


# what is written in turn: config.json, rows, pictures
@pytest.mark.parametrize("num_bytes", [100, 5_000])
def test_without_room_it_ends_with_one_line_and_goes_on_when_there_is(
    num_bytes: int, cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    own = trained.copy(tmp_path / "copy")
    words = ("run", "robustness", "--preset", "smoke", "--runs", own.runs, *own.flags)
    (cell,) = own.runs.glob("stages/evaluate/*/")
    expected = pd.read_parquet(cell / ROWS)
    sizes = {path.name: path.stat().st_size for path in cell.iterdir()}
    assert sizes["config.json"] > 100
    assert sizes[ROWS] > 5_000
    shutil.rmtree(cell)
    made = stages(own.runs)
    with file_size_limit(num_bytes):
        line = cli.refuses(*words)
    assert "no space left at" in line
    assert line.endswith(f"(File too large): make room and {GOES_ON}")
    assert stages(own.runs) == made
    assert cli(*words).code == 0
    assert made.items() < stages(own.runs).items()
    assert_same_results(pd.read_parquet(cell / ROWS), expected)
    assert_nothing_is_left_over(own.runs)


class Disk:
    """A file system in memory, of a size that can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, size: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self.folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder)
    disk.mount("16k")
    yield disk
    # W&B's process may still be closing its files
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_at_any_size_loses_nothing(
    disk: Disk, undisturbed: Path, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """W&B writes there too: neither must bring the other down."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    runs = tmp_path / "runs"
    runs.symlink_to(disk.folder)
    counts, made = [], stages(runs)
    for size in ("16k", "200k", "800k", "1600k", "2400k", "32m"):
        disk.remount(f"size={size}")
        code, said = end(begin(runs, overrides), runs)
        assert made.items() <= stages(runs).items(), "what was done is not done again"
        made = stages(runs)
        counts.append(len(made))
        if code == 0:
            break
        assert code == 2, said[-3000:]
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "no space left at" in line
        assert line.endswith(f"(No space left on device): make room and {GOES_ON}")
    print(f"stages after each size: {counts}")
    assert code == 0, said
    assert len(set(counts)) >= 4, "the disk was full at several places"
    assert_same_results(results(runs), results(undisturbed))
    assert_nothing_is_left_over(disk.folder)


def test_a_disk_that_is_read_only_is_one_line(disk: Disk, cli: CommandLine, trained: Trained) -> None:
    disk.remount("size=16m")
    own = trained.copy(disk.folder)
    disk.remount("ro")
    for verb in ("study", "run"):
        line = cli.refuses(verb, "robustness", "--preset", "smoke", "--runs", own.runs, *own.flags)
        assert line == f"the runs folder {own.runs} is not writable (Read-only file system): choose another with --runs"


def test_a_read_only_runs_folder_is_one_line(cli: CommandLine, read_only: Path) -> None:
    line = cli.refuses("study", "robustness", "--preset", "smoke", "--runs", read_only)
    assert line == f"the runs folder {read_only} is not writable (Permission denied): choose another with --runs"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_training_it_says_how_to_go_on(
    number: signal.Signals, code: int, overrides: dict[str, Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    process = begin(runs, {**overrides, "autoencoder.num_train_images": 100_000}, verb="run")
    wait_until(lambda: any(runs.glob("stages/train_autoencoder/*.partial/last.ckpt")), process)
    process.send_signal(number)
    found, said = end(process, runs)
    assert found == code
    assert said.endswith("stopped; run the same command again to resume\n")
    assert "Traceback" not in said
    (checkpoint,) = runs.glob("stages/train_autoencoder/*.partial/last.ckpt")
    assert zipfile.ZipFile(checkpoint).testzip() is None
