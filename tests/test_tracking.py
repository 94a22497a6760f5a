import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from synthetic_study import make_results

from workbench import tracking
from workbench.config import UserError
from workbench.reporting.publish import publish
from workbench.stages.base import Runtime, Stage
from workbench.study import Study
from workbench.tracking import CURVE, PER_IMAGE, WandbTracker, wandb_mode

NOBODY = "http://127.0.0.1:9"
"""The port that discards: connections are refused at once."""
API_KEY = "0" * 40
BLOCK = 32768
HEADER = 7


@pytest.fixture(autouse=True)
def logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A user without settings or credentials, and W&B's process ended after each test."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield
    import wandb

    wandb.teardown()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def tracker(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> WandbTracker:
    monkeypatch.setenv("WANDB_MODE", "offline")
    return WandbTracker(tmp_path, "robustness", lines.append)


def read_run(folder: Path) -> list[Any]:
    """The records of an offline run, in W&B's own messages (a LevelDB log: blocks of 32 KiB, chunks of four kinds)."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    # the process that writes may hold the last records back until it ends
    wandb.teardown()
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    records, position, payload = [], HEADER, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        payload += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # whole, or the last of several
            records.append(wandb_internal_pb2.Record.FromString(payload))
            payload = b""
    return records


def only(records: list[Any], kind: str) -> Any:
    (found,) = (getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind)
    return found


def values(items: Any) -> dict[str, Any]:
    """W&B's updates by name, nested names joined by dots."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(records: list[Any]) -> list[dict[str, Any]]:
    return [values(record.history.item) for record in records if record.WhichOneof("record_type") == "history"]


def summary(records: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            found |= values(record.summary.update)
    return found


class Taught(Stage):
    """Leaves a curve and rows, as training and evaluation do."""

    name: ClassVar[str] = "taught"
    seconds_per_effort: ClassVar[float] = 1.0
    fails: ClassVar[bool] = False

    learning_rate: float = 0.5
    split: str = "val"

    def effort(self) -> float:
        return 1.0

    def work(self, folder: Path, runtime: Runtime) -> None:
        (folder / CURVE).write_text("step,train/loss\n2.0,0.75\n4.0,0.25\n")
        rows = {"image_id": [7, 8], "psnr": [20.0, 22.0], "fell_back": [True, False], "measurement_set": ["a", "a"]}
        pd.DataFrame(rows).to_parquet(folder / PER_IMAGE)
        if self.fails:
            raise KeyboardInterrupt


def test_a_stage_is_an_offline_run_that_can_be_read_back(
    tmp_path: Path, tracker: WandbTracker, lines: list[str]
) -> None:
    stage = Taught()
    stage.ensure(Runtime(tmp_path, tracker=tracker))
    stage.ensure(Runtime(tmp_path, tracker=tracker))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert tracker.folders == [folder], "what is cached is not logged again"
    records = read_run(folder)
    run = only(records, "run")
    assert (run.run_id, run.run_group, run.job_type) == (stage.identity, "robustness", "taught")
    assert run.project == tracking.PROJECT
    assert stage.identity in run.display_name
    config = values(run.config.update)
    assert {name: config[name] for name in stage.canonical()} == stage.canonical()
    assert [(row["_step"], row["train/loss"]) for row in history(records)] == [(2, 0.75), (4, 0.25)]
    assert summary(records)["val/psnr"] == 21.0
    assert not {"val/image_id", "val/measurement_set"} & set(summary(records))
    assert only(records, "exit").exit_code == 0
    tracker.close(lines.append)
    assert f"wandb leet {folder}" in lines[-1]
    assert f"wandb sync {folder.parent}/" in lines[-1]


def test_a_stage_that_fails_is_a_failed_run(
    tmp_path: Path, tracker: WandbTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Taught, "fails", True)
    with pytest.raises(KeyboardInterrupt):
        Taught().ensure(Runtime(tmp_path, tracker=tracker))
    records = read_run(tracker.folders[0])
    assert only(records, "exit").exit_code == 1
    assert history(records) == []
    monkeypatch.setattr(Taught, "fails", False)
    Taught().ensure(Runtime(tmp_path, tracker=tracker))
    assert len(history(read_run(tracker.folders[1]))) == 2


def test_a_study_is_a_run_with_the_matrix_as_table_and_picture(tmp_path: Path, tracker: WandbTracker) -> None:
    from PIL import Image

    def picture(_: Any) -> bytes:
        path = tmp_path / "picture.png"
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)
        return path.read_bytes()

    results = make_results(3)
    definition = Study(cell=Taught(), axes={}, picture=picture)
    publish(definition, results, tmp_path / "study", Runtime(tmp_path, tracker=tracker))
    (folder,) = tracker.folders
    records = read_run(folder)
    run = only(records, "run")
    assert (run.run_group, run.job_type, run.run_id) == ("robustness", "study", results.identity)
    assert values(run.config.update)["data_fingerprint"] == results.provenance["data_fingerprint"]
    logged = {name: value for row in history(records) for name, value in row.items()}
    assert logged["matrix_image.width"] == 6
    assert (folder / "files" / logged["matrix_image.path"]).read_bytes() == picture(None)
    table = json.loads((folder / "files" / logged["matrix.path"]).read_text())
    columns = table["columns"]
    assert columns[:4] == ["encoder", "degradation", "num_images", "psnr"]
    rows = {tuple(row[:2]): dict(zip(columns, row, strict=True)) for row in table["data"]}
    assert len(rows) == len(table["data"]) == 20
    for cell, frame in results.frame.groupby(["encoder", "degradation"]):
        assert rows[cell]["num_images"] == 3
        assert rows[cell]["psnr"] == pytest.approx(frame["psnr"].mean())


def test_disabled_writes_nothing(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = WandbTracker(tmp_path, "robustness", lines.append)
    Taught().ensure(Runtime(tmp_path, tracker=tracker))
    publish(Study(cell=Taught(), axes={}), make_results(2), tmp_path / "study", Runtime(tmp_path, tracker=tracker))
    tracker.close(lines.append)
    assert not (tmp_path / "wandb").exists()
    assert lines == []


def goes_on_offline(tmp_path: Path, lines: list[str]) -> float:
    """Seconds that two stages take when W&B is online in name only."""
    tracker = WandbTracker(tmp_path, "robustness", lines.append)
    assert tracker.mode == "online"
    started = time.monotonic()
    for learning_rate in (0.1, 0.2):
        Taught(learning_rate=learning_rate).ensure(Runtime(tmp_path, tracker=tracker))
    spent = time.monotonic() - started
    assert len(lines) == 1
    assert lines[0].startswith("W&B (online) does not answer: ")
    assert lines[0].endswith("going on offline")
    assert "\n" not in lines[0]
    assert len(tracker.folders) == 2
    for folder in tracker.folders:
        assert folder.name.startswith("offline-run-")
        assert len(history(read_run(folder))) == 2
    tracker.close(lines.append)
    assert "2 runs, offline" in lines[1]
    return spent


def test_where_the_server_does_not_answer_it_goes_on_offline(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    monkeypatch.setenv("WANDB_BASE_URL", NOBODY)
    monkeypatch.setattr(tracking, "TIMEOUT", 2)
    assert goes_on_offline(tmp_path, lines) < 20


def test_with_a_key_that_cannot_be_one_it_goes_on_offline(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "no-key")
    monkeypatch.setenv("WANDB_BASE_URL", NOBODY)
    goes_on_offline(tmp_path, lines)


def log_in(home: Path, host: str) -> None:
    path = home / ".netrc"
    path.write_text(f"machine {host}\n  login user\n  password {API_KEY}\n")
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("environment", "host", "mode"),
    [
        ({}, None, "offline"),
        ({}, "api.wandb.ai", "online"),
        ({}, "wandb.example.org", "offline"),
        ({"WANDB_BASE_URL": "https://wandb.example.org/"}, "wandb.example.org", "online"),
        ({"WANDB_API_KEY": API_KEY}, None, "online"),
        ({"WANDB_API_KEY": API_KEY, "WANDB_MODE": "offline"}, "api.wandb.ai", "offline"),
        ({"WANDB_MODE": "online"}, None, "online"),
        ({"WANDB_MODE": "disabled"}, "api.wandb.ai", "disabled"),
        ({"WANDB_MODE": "dryrun"}, None, "offline"),
        ({"WANDB_MODE": "run"}, None, "online"),
        ({"WANDB_MODE": ""}, None, "offline"),
    ],
)
def test_the_mode_is_offline_unless_logged_in_or_told_otherwise(
    environment: dict[str, str], host: str | None, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if host is not None:
        log_in(tmp_path / "home", host)
    assert wandb_mode() == mode


def test_an_unknown_mode_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "oflfine")
    with pytest.raises(UserError, match=r"WANDB_MODE is 'oflfine'.*online, offline or disabled"):
        wandb_mode()


@pytest.mark.parametrize("harm", [lambda path: path.write_text("machine"), Path.mkdir])
def test_a_damaged_netrc_is_nobodys_login(harm: Callable[[Path], Any], tmp_path: Path) -> None:
    harm(tmp_path / "home" / ".netrc")
    assert wandb_mode() == "offline"
