"""What ships is noticed when one bit of it is another, and is never taken for something new."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import CommandLine

from workbench.core.config import UserError
from workbench.core.digests import DIGESTS, checked, damaged, is_foreign, require, write_digests
from workbench.experiments import settings
from workbench.experiments.reference import find_reference, reference_folders
from workbench.metrics import Absent
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.weights import zoo

PROJECT = Path(zoo.__file__).parents[2]
NUM_FLIPS = 20
FOLDERS = [*zoo.folders(), *reference_folders(), settings.PRESETS]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_the_digests_that_ship_are_those_of_the_files(folder: Path) -> None:
    """After a change on purpose: python -c "from workbench.core.digests import ...; write_digests(Path('FOLDER'))"."""
    assert damaged(folder) == []
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {DIGESTS}
    assert {line[66:] for line in (folder / DIGESTS).read_text().splitlines()} == files
    subprocess.run(["sha256sum", "--check", "--quiet", DIGESTS], cwd=folder, check=True)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of what ships, to be damaged."""
    for variable, name in (("WORKBENCH_ZOO", "zoo"), ("WORKBENCH_REFERENCE", "reference")):
        shutil.copytree(PROJECT / "data" / name, tmp_path / name)
        monkeypatch.setenv(variable, str(tmp_path / name))
    shutil.copytree(settings.PRESETS, tmp_path / "presets")
    monkeypatch.setattr(settings, "PRESETS", tmp_path / "presets")
    zoo.weights_digest.cache_clear()
    yield tmp_path
    zoo.weights_digest.cache_clear()


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    zoo.weights_digest.cache_clear()  # as in a new process


def restored(root: Path, path: Path) -> None:
    """As it ships again."""
    source = PROJECT / "workbench" / "presets" if path.is_relative_to(root / "presets") else PROJECT / "data"
    name = path.relative_to(root / "presets" if path.is_relative_to(root / "presets") else root)
    shutil.copyfile(source / name, path)
    zoo.weights_digest.cache_clear()


def read_everything(folder: Path) -> None:
    """What a study does with a reference."""
    found = find_reference(folder.parent.name, folder.name)
    assert found is not None
    for identity in found.index["cells"]:
        found.rows(identity)
        found.examples(identity)
    assert found.evidence is not None
    assert found.provenance is not None


def test_a_flipped_bit_in_what_ships_is_noticed_where_it_is_used_and_by_the_doctor(mine: Path) -> None:
    generator = np.random.default_rng(0)
    pair, small = mine / "zoo" / "fashion_mnist_32_tiny", mine / "reference" / "tuning" / "desk"

    def weights() -> None:
        zoo.find({"no such": "recipe"})
        zoo.made_by(pair / "severity_encoder", {})
        parts = ("autoencoder", "unet", "scheduler", "severity_encoder", "severity_statistics")
        zoo.weights_digest(*(pair / part for part in parts))

    uses: dict[Path, Any] = dict.fromkeys(zoo.weight_files(pair), weights)
    uses |= {path: lambda: read_everything(small) for path in small.glob("*.*") if path.name != DIGESTS}
    uses |= {path: lambda: settings.load_settings("zoo_vq") for path in (mine / "presets").glob("zoo_vq.json")}
    assert len(uses) == 9 + 5 + 1
    paths = list(uses)
    for number in range(max(NUM_FLIPS, 2 * len(paths))):
        path = paths[number % len(paths)]
        flip(path, int(generator.integers(8 * path.stat().st_size)))
        with pytest.raises(UserError) as error:
            uses[path]()
        assert f"{path} is damaged" in str(error.value)
        assert f"git checkout -- {path}" in str(error.value)
        assert "\n" not in str(error.value)
        folder = next(folder for folder in path.parents if (folder / DIGESTS).is_file())
        assert damaged(folder) == [path]
        restored(mine, path)
        uses[path]()


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: flip(path, 300)])
@pytest.mark.parametrize(
    "name",
    [
        "recipe.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_damaged_weights_are_not_taken_for_none_or_for_new_ones(
    mine: Path, name: str, harm: Any, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("nothing may be computed")

    monkeypatch.setattr(Stage, "_work", refused)
    path = mine / "zoo" / "fashion_mnist_32_tiny" / name
    harm(path)
    said = cli.refuses("study", "robustness", "--preset", "smoke", "--runs", mine / "runs", "--no-reference")
    assert f"{path} is damaged" in said
    assert "git checkout" in said


def test_a_severity_encoder_that_lost_its_recipe_is_not_trained_again(mine: Path) -> None:
    encoder = Evaluate().replace({"severity_encoder.degradation.kind": "mixture", "severity_encoder.source": "auto"})
    (mine / "zoo" / "fashion_mnist_32_tiny" / "severity_encoder" / "recipe.json").unlink()
    stage = encoder.severity_stage()
    assert stage is not None
    with pytest.raises(UserError, match=r"severity_encoder/recipe\.json is damaged"):
        stage.shipped()


def test_a_file_that_did_not_ship_is_not_part_of_the_identity(mine: Path) -> None:
    pair = mine / "zoo" / "fashion_mnist_32_tiny"
    (pair / "unet" / "notes.txt").write_text("mine")
    zoo.weights_digest(pair / "unet")
    zoo.weights_digest.cache_clear()
    (pair / "unet" / "._config.json").write_text("{}")
    with pytest.raises(UserError, match=r"_config\.json did not ship with the weights in its folder: move it away"):
        zoo.weights_digest(pair / "unet")


@pytest.mark.parametrize("content", [b"", b"no digests", b"\xff\xfe", b"abc  recipe.json\n"])
def test_damaged_digests_are_named_themselves(mine: Path, content: bytes) -> None:
    folder = mine / "zoo" / "fashion_mnist_32_tiny"
    (folder / DIGESTS).write_bytes(content)
    with pytest.raises(
        UserError, match=rf"{DIGESTS} is damaged \(it has no valid digests\): restore from version control"
    ):
        zoo.find({"prior": {}})
    assert damaged(folder) == [folder / DIGESTS]


def test_a_reference_that_lost_its_cells_is_damaged_and_not_absent(mine: Path) -> None:
    (mine / "reference" / "tuning" / "desk" / "cells.json").unlink()
    found = find_reference("tuning", "desk")
    assert found is not None
    with pytest.raises(UserError, match=r"cells\.json is damaged.*No such file"):
        found.index  # noqa: B018


def test_a_folder_without_digests_is_read_as_it_is(mine: Path) -> None:
    for path in mine.rglob(DIGESTS):
        path.unlink()
    pair = mine / "zoo" / "fashion_mnist_32_tiny"
    before = zoo.weights_digest(pair / "unet")
    zoo.weights_digest.cache_clear()
    flip(pair / "unet" / "config.json", 0)
    assert zoo.weights_digest(pair / "unet") != before
    assert damaged(pair) == []
    require(pair / "unet" / "config.json")
    assert not is_foreign(pair / "unet" / "other.json")
    assert checked(pair / "recipe.json") == (pair / "recipe.json").read_bytes()


@pytest.mark.parametrize("name", ["rows.parquet", "examples.npz", "cells.json", "evidence.json", "provenance.json"])
def test_any_damage_of_a_reference_without_digests_is_one_line_or_harmless(mine: Path, name: str) -> None:
    """Their readers have no error in common: zlib, zipfile, Arrow, Unicode."""
    folder = mine / "reference" / "tuning" / "desk"
    (folder / DIGESTS).unlink()
    generator, content = np.random.default_rng(0), (folder / name).read_bytes()
    for _ in range(8):
        flip(folder / name, int(generator.integers(8 * len(content))))
        with contextlib.suppress(UserError):
            read_everything(folder)
        (folder / name).write_bytes(content)


def test_digests_of_some_files_leave_those_of_others(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    write_digests(tmp_path, ["a", "b"])
    assert not is_foreign(tmp_path / "a")
    assert is_foreign(tmp_path / "c")
    (tmp_path / "b").write_text("other")
    (tmp_path / "c").write_text("other")
    write_digests(tmp_path, ["c"])
    assert damaged(tmp_path) == [tmp_path / "b"]
    write_digests(tmp_path)
    assert damaged(tmp_path) == []


def test_the_doctor_looks_at_every_file(mine: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.metrics.load_lpips", lambda _: Absent("not here"))
    runs = mine / "runs"
    said = cli("doctor", "--verify", "--runs", runs)
    assert said.code == 0, said.err
    assert "fashion_mnist_32_tiny: 13 files as they shipped" in said.out
    picture = mine / "zoo" / "fashion_mnist_32_vq" / "samples.png"
    flip(picture, 1000)
    (mine / "reference" / "tuning" / "desk" / DIGESTS).unlink()
    stage = runs / "stages" / "evaluate" / "0123456789ab"
    stage.mkdir(parents=True)
    said = cli("doctor", "--verify", "--runs", runs)
    assert said.code == 2
    mend = f"1 files that ship are damaged: restore from version control (git checkout -- {picture})"
    again = f"{stage}: provenance.json cannot be read (--rerun recomputes it)"
    assert said.err == f"error: {mend}; {again}\n"
    assert "evaluate: 0 of 1 as they were computed" in said.out
    assert f"desk: no {DIGESTS}, nothing to check" in said.out
