"""What an offline run holds, read back from W&B's own file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from wandb_runs import LEVELS, Kept, Taught, all_of, history, offline_runs, only, read_run, summary, values

from workbench.metrics.calibration import ALL, FILE, Calibration, as_json, collect, summarise
from workbench.stages.runtime import Runtime
from workbench.tracking import run as run_module
from workbench.tracking.pictures import means
from workbench.tracking.record import Record, Records, Table


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """The record of a finished stage."""
    tracker = Kept()
    Taught().ensure(Runtime(tmp_path, tracker=tracker))
    (record,) = tracker.records.values()
    return record.replace(project="project", group="robustness", tags=("smoke", "ldps"), inputs=("other:0123456789ab",))


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Record], tuple[Path, list[Any]]]:
    """Make the run of a record; its folder, and what W&B wrote."""

    def made(record: Record) -> tuple[Path, list[Any]]:
        import wandb

        folder = run_module.make_run(record, tmp_path)
        wandb.teardown()  # until then, W&B's process may hold the last lines back
        return folder, read_run(folder)

    return made


def test_a_run_is_its_stage(record: Record, make: Callable[[Record], tuple[Path, list[Any]]]) -> None:
    _, written = make(record)
    run = only(written, "run")
    assert (run.run_id, run.run_group, run.job_type) == (record.run_id, "robustness", "taught")
    assert (run.project, run.display_name, list(run.tags)) == ("project", record.name, ["smoke", "ldps"])
    config = values(run.config.update)
    assert {name: config[name] for name in record.config} == record.config
    assert config["inputs"] == ["other:0123456789ab"]
    assert only(written, "exit").exit_code == 0


def test_the_curve_and_the_means(record: Record, make: Callable[[Record], tuple[Path, list[Any]]]) -> None:
    _, written = make(record)
    curve = [(row["_step"], row["train/loss"]) for row in history(written) if "train/loss" in row]
    assert curve == [(2, 0.75), (4, 0.25)]
    means = {name: value for name, value in summary(written).items() if name.startswith("val/")}
    assert means == {"val/psnr": 21.0, "val/fell_back": 0.5}


def test_an_image_without_quality_counts_as_the_worst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Taught, "psnr", (20.0, float("nan")))
    assert means(Taught().ensure(Runtime(tmp_path)), "val")["val/psnr"] == 10.0


def test_a_row_an_image_with_its_pictures(record: Record, make: Callable[[Record], tuple[Path, list[Any]]]) -> None:
    folder, written = make(record)
    logged = {name: value for row in history(written) for name, value in row.items()}
    (artifact,) = (a for a in all_of(written, "artifact") if a.type == "run_table")
    contents = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    table = json.loads(contents["per_image.table.json"].read_text())
    assert table["columns"] == ["image_id", "degraded", "restored", "clean", "psnr", "fell_back", "measurement_set"]
    without, with_pictures = table["data"]
    assert without == ["7", None, None, None, 20.0, True, "a"]
    assert with_pictures[0] == str(2**60 + 1), "as a number, a browser would round it"
    for name, picture in zip(table["columns"][1:4], with_pictures[1:4], strict=True):
        pixels = np.asarray(Image.open(contents[picture["path"]]))
        np.testing.assert_array_equal(pixels, np.full((4, 6), LEVELS[name], np.uint8))
    assert (folder / "files" / logged["per_image.path"]).is_file()


def test_the_artifact_is_the_stages_files_where_they_are(
    record: Record, make: Callable[[Record], tuple[Path, list[Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "LARGE", (tmp_path / record.folder / "per_image.parquet").stat().st_size)
    _, written = make(record)
    (artifact,) = (a for a in all_of(written, "artifact") if a.type == "results")
    assert (artifact.name, record.run_id in artifact.aliases) == ("taught", True)
    assert json.loads(artifact.metadata) == {"inputs": ["other:0123456789ab"]}
    entries = {entry.path: entry for entry in artifact.manifest.contents}
    assert set(entries) == set(record.files)
    stage = tmp_path / record.folder
    assert entries["metrics.csv"].local_path == str(stage / "metrics.csv"), "no copy"
    assert entries["per_image.parquet"].ref == (stage / "per_image.parquet").as_uri(), "large: only referred to"


def test_a_table_and_a_picture_of_a_study(
    record: Record, make: Callable[[Record], tuple[Path, list[Any]]], tmp_path: Path
) -> None:
    study = tmp_path / "studies" / "name" / "desk"
    study.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(study / "matrix.png")
    table = Table(columns=("encoder", "psnr"), rows=(("blur", 1.5), ("noise", float("nan"))))
    kept = Records(tmp_path)
    kept.write(record.replace(folder="studies/name/desk", files=(), table=table, picture="matrix.png"))
    (path,) = kept.paths()
    folder, written = make(kept.read(path))
    logged = {name: value for row in history(written) for name, value in row.items()}
    assert logged["picture.width"] == 6
    assert (folder / "files" / logged["picture.path"]).read_bytes() == (study / "matrix.png").read_bytes()
    found = json.loads((folder / "files" / logged["table.path"]).read_text())
    assert (found["columns"], found["data"]) == (["encoder", "psnr"], [["blur", 1.5], ["noise", None]])


def test_half_a_run_is_not_kept(record: Record, tmp_path: Path) -> None:
    (tmp_path / record.folder / "per_image.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="Parquet"):
        run_module.make_run(record, tmp_path)
    assert offline_runs(tmp_path) == []


def calibrated_stage(folder: Path) -> Calibration:
    """Leave the calibration of Gaussian errors of the predicted variance; what it is."""
    generator = torch.Generator().manual_seed(0)
    z0, noise = torch.randn(2, 64, 2, 4, 4, generator=generator)
    var_hat = torch.linspace(0.1, 0.4, 64)
    found = summarise(collect(z0 + var_hat.sqrt().reshape(-1, 1, 1, 1) * noise, z0, var_hat))
    (folder / FILE).write_text(as_json({ALL: found, "mild": found}))
    return found


def test_calibration_is_in_the_summary_a_table_and_diagrams(
    record: Record, make: Callable[[Record], tuple[Path, list[Any]]], tmp_path: Path
) -> None:
    found = calibrated_stage(tmp_path / record.folder)
    folder, written = make(record)
    kept = {name: value for name, value in summary(written).items() if name.startswith("calibration/")}
    figures = {name: kept[f"calibration/{name}"] for name in ("ence", "nll", "z2", "ks", "kurtosis")}
    assert figures == pytest.approx({name: found.figures[name].mean for name in figures}, rel=1e-5)
    logged = {name: value for row in history(written) for name, value in row.items()}
    for name in ("reliability", "pit", "qq"):
        picture = Image.open(folder / "files" / logged[f"calibration/{name}.path"])
        assert min(picture.size) > 200
        assert len(np.unique(np.asarray(picture))) > 2, "it is not blank"
    assert sum("_chart" in name and name.endswith(".path") for name in logged) == 3
    table = json.loads((folder / "files" / logged["calibration/table.path"]).read_text())
    rows = {(row[0], row[1]): row[2] for row in table["data"]}
    assert rows["mild", "kurtosis"] == pytest.approx(found.figures["kurtosis"].mean, rel=1e-5)
    assert len(rows) == len(table["data"]) == 2 * len(found.figures)


def test_half_a_calibration_leaves_no_run(record: Record, tmp_path: Path) -> None:
    (tmp_path / record.folder / FILE).write_text('{"all": {"num_images": 3}}')
    with pytest.raises(ValueError, match="not a calibration"):
        run_module.make_run(record, tmp_path)
    assert offline_runs(tmp_path) == []
