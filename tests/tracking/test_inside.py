"""A runs folder from someone else: nothing outside it is read, uploaded or deleted, and each refusal is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb_runs import Kept, Taught, offline_runs

from workbench.stages.runtime import Runtime
from workbench.tracking import run as run_module
from workbench.tracking.contents import refuse_foreign_files
from workbench.tracking.inside import OutsideError, file_of, folder_of, offline_run_of
from workbench.tracking.publish import publish
from workbench.tracking.record import LARGEST, MARK, Mark, Record, Records


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def record(runs: Path) -> Record:
    """The record of a finished stage."""
    tracker = Kept()
    Taught().ensure(Runtime(runs, tracker=tracker))
    return tracker.records[Taught().identity].replace(project="project", group="robustness")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's that is no part of the runs folder."""
    path = tmp_path / "outside" / "secret.png"
    path.parent.mkdir()
    path.write_text("my own")
    return path


def refusal(runs: Path, *, mark: str | None = None, **fields: Any) -> str:
    """What the log says of the one record, with these fields or this mark; no run is made of it."""
    (path,) = Records(runs).paths()
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    if mark is not None:
        path.with_suffix(MARK).write_text(Mark(record="0", run=mark).model_dump_json())
    before, lines = offline_runs(runs), list[str]()
    publish(runs, lines.append, online=False)
    assert offline_runs(runs) == before
    (line,) = lines
    return line


@pytest.fixture(autouse=True)
def written(runs: Path, record: Record) -> None:
    Records(runs).write(record)


@pytest.mark.parametrize(
    "run",
    [
        "{outside}",
        "../outside",
        "stages",
        "wandb/../../outside",
        "wandb",
        ".",
        "wandb/offline-run-20260101_000000-000000000000",
        "wandb/offline-run-20260101_000000-{id}/../../../outside",
    ],
)
def test_a_mark_deletes_nothing_but_an_offline_run_of_its_own(
    run: str, runs: Path, record: Record, secret: Path
) -> None:
    run = run.replace("{outside}", str(secret.parent)).replace("{id}", record.run_id)
    (runs / "wandb" / "offline-run-20260101_000000-000000000000x").mkdir(parents=True)
    before = sorted(path for path in runs.rglob("*") if path.is_dir())
    assert "is not an offline run of" in refusal(runs, mark=run)
    assert secret.read_text() == "my own"
    assert sorted(path for path in runs.rglob("*") if path.is_dir()) == before


def test_a_mark_that_is_a_link(runs: Path, record: Record, secret: Path) -> None:
    name = f"wandb/offline-run-20260101_000000-{record.run_id}"
    (runs / "wandb").mkdir()
    (runs / name).symlink_to(secret.parent)
    with pytest.raises(OutsideError):
        offline_run_of(runs, name, record.run_id)


@pytest.mark.parametrize("folder", ["{outside}", "../outside", "stages/../../outside", "stages", "wandb-records", "/"])
def test_a_folder_that_a_record_may_not_name(folder: str, runs: Path, secret: Path) -> None:
    folder = folder.replace("{outside}", str(secret.parent))
    said = refusal(runs, folder=folder, files=["secret.png"], picture="secret.png")
    assert "lies outside the stages, studies and zoo" in said


@pytest.mark.parametrize("field", ["files", "picture"])
@pytest.mark.parametrize("name", ["{outside}", "../../../../outside/secret.png", "link.png", "linked/secret.png"])
def test_a_file_that_a_record_may_not_name(name: str, field: str, runs: Path, record: Record, secret: Path) -> None:
    name = name.replace("{outside}", str(secret))
    (runs / record.folder / "link.png").symlink_to(secret)
    (runs / record.folder / "linked").symlink_to(secret.parent)
    said = refusal(runs, **{field: [name] if field == "files" else name})
    assert "lies outside its folder" in said


@pytest.mark.parametrize("name", run_module.READ)
def test_a_file_that_is_always_read_may_be_no_link(name: str, runs: Path, record: Record, secret: Path) -> None:
    (runs / record.folder / name).unlink(missing_ok=True)
    (runs / record.folder / name).symlink_to(secret)
    assert "lies outside its folder" in refusal(runs, files=["config.json"])


def test_a_project_is_no_path_and_a_name_one_line(runs: Path) -> None:
    assert refusal(runs, project="another/project", name="two\nlines").startswith("two lines: UsageError: ")


def test_a_stage_folder_that_is_a_link(runs: Path, record: Record, secret: Path) -> None:
    (runs / "stages" / "linked").symlink_to(secret.parent)
    with pytest.raises(OutsideError):
        folder_of(runs, "stages/linked")
    with pytest.raises(OutsideError):
        file_of(folder_of(runs, record.folder), "\0")


def test_an_offline_run_that_would_upload_a_file_from_outside(runs: Path, record: Record, secret: Path) -> None:
    publish(runs, print, online=False)
    (run,) = offline_runs(runs)
    refuse_foreign_files(run, runs)
    with pytest.raises(OutsideError, match=r"names '/.*', which lies outside the runs folder and the zoo"):
        refuse_foreign_files(run, runs / "another")
    (log,) = run.glob("*.wandb")
    sound = log.read_bytes()
    log.write_bytes(b"something else")
    with pytest.raises(OutsideError, match=r"is not a W&B log"):
        refuse_foreign_files(run, runs)
    log.write_bytes(sound)
    (run / "files" / "link").symlink_to(secret)
    with pytest.raises(OutsideError, match="is a link"):
        refuse_foreign_files(run, runs)


HOSTILE: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "binary": lambda tree: bytes(range(256)),
    "empty": lambda tree: b"",
    "deep": lambda tree: 100_000 * b"[",
    "a list": lambda tree: b"[1]",
    "huge": lambda tree: (LARGEST + 1) * b" ",
    "a number of 5000 digits": lambda tree: json.dumps(tree).replace('"val"', "9" * 5000).encode(),
    "another's name": lambda tree: json.dumps({**tree, "run_id": 12 * "0"}).encode(),
    "a path for an id": lambda tree: json.dumps({**tree, "run_id": "../../outside"}).encode(),
    "a path for an artifact": lambda tree: json.dumps({**tree, "artifact": "../outside"}).encode(),
    "a path for an input": lambda tree: json.dumps({**tree, "inputs": ["../outside:0"]}).encode(),
    "a large value": lambda tree: json.dumps({**tree, "run_id": 10_000 * "a"}).encode(),
    "a number for a list": lambda tree: json.dumps({**tree, "files": 3}).encode(),
    "lacking": lambda tree: b"{}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_record_that_cannot_be_one_is_a_line(kind: str, runs: Path) -> None:
    (path,) = Records(runs).paths()
    path.write_bytes(HOSTILE[kind](json.loads(path.read_text())))
    lines: list[str] = []
    publish(runs, lines.append, online=False)
    (line,) = lines
    assert "is skipped: " in line
    assert "\n" not in line
    assert len(line) < 1000


@pytest.mark.parametrize("kind", ["binary", "deep", "empty", "a list", "huge", "lacking"])
def test_a_mark_that_cannot_be_one_is_none(kind: str, runs: Path, record: Record) -> None:
    path = Records(runs).paths()[0].with_suffix(MARK)
    path.write_bytes(HOSTILE[kind]({}))
    assert Records(runs).mark_of(record) is None


@pytest.mark.parametrize("curve", ["step,x\ninf,1\n", "step,x\n1,2,3\n"])
def test_a_curve_that_cannot_be_one_is_a_line(curve: str, runs: Path, record: Record) -> None:
    (runs / record.folder / "metrics.csv").write_text(curve)
    assert record.name in refusal(runs)
