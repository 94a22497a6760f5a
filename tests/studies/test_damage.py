"""Whatever a file of a finished study becomes, the next command says so in one line, or has mended it."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from small_study import EVALUATION, NETWORKS, flags, source_overrides, write_images

from workbench.experiments import study as study_module
from workbench.experiments.study import Preset, Study
from workbench.stages import cache
from workbench.stages.measure.evaluate import Evaluate
from workbench.weights import zoo


def garbage(path: Path) -> None:
    path.write_bytes(b"\x93\xff\x00garbage" * 20)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def json_of_something_else(path: Path) -> None:
    path.write_text('{"tasks": [], "files": {}, "a": 1}')


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "in the way").mkdir(parents=True)


def a_link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


HARMS = [garbage, empty, json_of_something_else, a_folder, a_link_to_nowhere, Path.unlink]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder for runs, and the overrides of a study of one small cell."""
    root = tmp_path_factory.mktemp("damage")
    source = write_images(root / "images.npy")
    networks = {"autoencoder.source": "train", "prior.source": "train", "autoencoder.num_train_images": 128}
    return root, flags({**source_overrides(source), **NETWORKS, **EVALUATION, **networks})


@pytest.fixture
def study(words: tuple[Path, list[str]], cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls the command, as in a new process; gives (exit code, what it said), and refuses tracebacks."""
    _, overrides = words
    definition, text = study_module.load_study("robustness")
    one = Study(cell=Evaluate(), axes={"seed": (0,)}, presets={"smoke": Preset()}, report=definition.report[:0])
    for module in ("experiments.study", "experiments.run", "reporting.overview"):
        monkeypatch.setattr(f"workbench.{module}.load_study", lambda _: (one, text), raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("workbench.tracking.tracker._start", lambda _: None)

    def call(runs: Path, *more: str, verb: str = "study") -> tuple[int, str]:
        cache._checked.clear()
        zoo.weights_digest.cache_clear()
        said = cli(verb, "robustness", "--preset=smoke", f"--runs={runs}", *more, *overrides)
        assert "Traceback" not in said.out + said.err
        assert said.code in (0, 2), said.err
        if said.code:
            assert said.err.startswith("error: ")
            assert said.err.count("\n") == 1, said.err
        return said.code, said.err + said.out

    return call


@pytest.fixture
def finished(words: tuple[Path, list[str]], study: Any, tmp_path: Path) -> Path:
    """A copy of a runs folder in which the study is done, to be damaged."""
    runs = words[0] / "runs"
    if not runs.is_dir():
        code, said = study(runs)
        assert code == 0, said
    shutil.copytree(runs, tmp_path / "runs")
    return tmp_path / "runs"


def files_of(runs: Path) -> list[Path]:
    """Every file that the command reads or writes again: those of the cell, the study and the records for W&B."""
    folders = (*(runs / "stages" / "evaluate").glob("*/"), runs / "studies", runs / "wandb-records")
    found = (path for folder in folders for path in folder.rglob("*"))
    return [path for path in found if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize("shift", [0, *(pytest.param(shift, marks=pytest.mark.slow) for shift in range(1, len(HARMS)))])
def test_every_damaged_file_is_named_or_mended(
    finished: Path, words: tuple[Path, list[str]], study: Any, shift: int
) -> None:
    """Each file by one harm, another with each shift."""
    paths = files_of(finished)
    assert {"results.parquet", "cells.json", "index.html", "summary.json", "provenance.json"} <= {p.name for p in paths}
    for number, path in enumerate(paths):
        harm = HARMS[(number + shift) % len(HARMS)]
        shutil.rmtree(finished)
        shutil.copytree(words[0] / "runs", finished)
        harm(path)
        code, said = study(finished)
        if code:
            assert path.name in said, said
        # a stage's files are computed again when asked; a folder in a file's way is for its owner to move
        code, said = study(finished, "--rerun")
        assert code == 0 or (harm is a_folder and f"{path} is in the way" in said), said
        if code == 0 and "wandb-records" not in path.parts:  # of those, only what cannot be recorded is said
            assert not os.path.lexists(path) or path.is_file()
