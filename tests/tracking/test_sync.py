"""Uploads, by W&B's own client to a double of its server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from safetensors.numpy import save_file
from wandb_runs import API_KEY, TIMEOUT, Taught, Weights, end, offline_runs, only, read_run, summary, wait_until
from wandb_server import wandb_server

from workbench.stages.runtime import Runtime
from workbench.tracking import upload as upload_module
from workbench.tracking.publish import Published, publish
from workbench.tracking.record import Record, Records
from workbench.tracking.tracker import Recorder, Tracker

if TYPE_CHECKING:
    from command_line import CommandLine

NOBODY = "http://127.0.0.1:9"
"""The port that discards: connections are refused at once."""


class Writing(Tracker):
    """Writes records, and starts no process."""

    is_recording: ClassVar[bool] = True

    def __init__(self, runs: Path) -> None:
        self.records = Records(runs)

    def knows(self, run_id: str) -> bool:
        return self.records.has(run_id)

    def record(self, record: Record) -> None:
        self.records.write(record.replace(project="project", group="robustness", tags=("smoke",)))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Taught:
    """A finished stage on shipped weights, and their two records."""
    monkeypatch.setenv("WORKBENCH_ZOO", str(tmp_path))
    (tmp_path / "given").mkdir()
    save_file({}, tmp_path / "given" / "weights.safetensors")
    stage = Taught(weights=Weights(source=str(tmp_path / "given")))
    stage.ensure(Runtime(tmp_path, tracker=Writing(tmp_path)))
    return stage


@pytest.fixture
def point_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Log in at an address."""

    def point(address: str) -> None:
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        monkeypatch.setenv("WANDB_BASE_URL", address)
        # a proxy would not know this machine's own addresses
        monkeypatch.setenv("no_proxy", "127.0.0.1")

    return point


def test_runs_artifacts_and_lineage_arrive_once(
    stage: Taught, tmp_path: Path, cli: "CommandLine", point_to: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stage.weights is not None
    monkeypatch.setenv("WANDB_MODE", "offline")  # how studies run here; `sync` is asked to upload
    monkeypatch.chdir(tmp_path / "home")
    with wandb_server() as server:
        point_to(server.address)
        said = cli("sync", "--runs", tmp_path)
        assert (said.code, said.err) == (0, "")
        assert said.out.splitlines()[-1] == "W&B: 2 runs uploaded"
        run = server.runs[stage.identity]
        assert (run["project"], run["groupName"], run["jobType"], run["tags"]) == (
            "project",
            "robustness",
            "taught",
            ["smoke"],
        )
        assert json.loads(run["config"])["learning_rate"]["value"] == 0.5
        lines = server.streams[stage.identity]["wandb-history.jsonl"].values()
        curve = [(row["_step"], row["train/loss"]) for row in map(json.loads, lines) if "train/loss" in row]
        assert curve == [(2, 0.75), (4, 0.25)]
        results = server.artifact_id(f"taught:{stage.identity}")
        given = server.artifact_id(f"weights:{stage.weights.identity}")
        weights = (tmp_path / "given" / "weights.safetensors").read_bytes()
        assert server.files[f"{given}/weights.safetensors"] == weights
        rows = (stage.folder(Runtime(tmp_path)) / "per_image.parquet").read_bytes()
        assert server.files[f"{results}/per_image.parquet"] == rows
        assert server.used == [(stage.identity, given)]
        assert not (tmp_path / "home" / "wandb").exists(), "W&B's own logs lie below the runs"
        server.runs.clear()
        said = cli("sync", "--runs", tmp_path)
        assert (said.code, said.out) == (0, "nothing to upload: all runs are at W&B\n")
        assert server.runs == {}


def test_a_key_that_is_rejected_is_one_line_and_costs_nothing(
    stage: Taught, tmp_path: Path, cli: "CommandLine", point_to: Callable[[str], None]
) -> None:
    with wandb_server(rejects=True) as server:
        point_to(server.address)
        said = cli("sync", "--runs", tmp_path)
    assert said.code == 1
    assert said.err.startswith("error: W&B rejects the key (")
    assert said.err.count("\n") == 1
    assert len(offline_runs(tmp_path)) == 2
    assert all(not mark.uploaded for mark in map(Records(tmp_path).mark_of, read_all(tmp_path)) if mark is not None)


def test_a_study_says_that_the_key_is_rejected_and_goes_on(
    tmp_path: Path, lines: list[str], point_to: Callable[[str], None]
) -> None:
    with wandb_server(rejects=True) as server:
        point_to(server.address)
        tracker = Recorder(tmp_path, "robustness", (), lines.append)
        Taught().ensure(Runtime(tmp_path, tracker=tracker))
        assert tracker.process is not None
        try:
            wait_until(Records(tmp_path).problem.exists)
            tracker.close()
            tracker.process.wait(TIMEOUT)
        finally:
            end(tracker.process)
    assert len(lines) == 3
    assert lines[2].startswith("W&B: W&B rejects the key (")
    assert lines[2].endswith(f"upload later: python -m workbench sync --runs {tmp_path}")


@pytest.mark.parametrize("silent", [True, False])
def test_a_server_that_does_not_answer_is_one_line(
    silent: bool,
    stage: Taught,
    tmp_path: Path,
    cli: "CommandLine",
    point_to: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload_module, "ANSWER_SECONDS", 0.5)
    with wandb_server(silent=True) as server:
        point_to(server.address if silent else NOBODY)
        said = cli("sync", "--runs", tmp_path)
    assert said.code == 1
    assert said.err.startswith("error: W&B at http://127.0.0.1:")
    assert "does not answer" in said.err
    assert said.err.count("\n") == 1


def test_without_a_key_it_says_how_to_get_one(stage: Taught, tmp_path: Path, cli: "CommandLine") -> None:
    assert "run `wandb login`" in cli.refuses("sync", "--runs", tmp_path)


def test_a_key_that_cannot_be_one(
    stage: Taught, tmp_path: Path, cli: "CommandLine", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "no-key")
    said = cli("sync", "--runs", tmp_path)
    assert said.code == 1
    assert "40+ characters" in said.err


def test_nothing_to_upload(tmp_path: Path, cli: "CommandLine") -> None:
    said = cli("sync", "--runs", tmp_path)
    assert (said.code, said.out) == (0, f"nothing to upload: there are no records for W&B in {tmp_path}\n")


def test_another_process_is_at_it(
    stage: Taught, tmp_path: Path, cli: "CommandLine", monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.core.files import locked
    from workbench.tracking import sync as sync_module

    monkeypatch.setattr(sync_module, "PATIENCE", 0.1)
    with locked(tmp_path / "wandb-records"):
        said = cli("sync", "--runs", tmp_path)
    assert said.code == 1
    assert "another process" in said.err


def test_an_upload_that_takes_too_long_is_left(
    stage: Taught, tmp_path: Path, lines: list[str], point_to: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_module, "UPLOAD_SECONDS", 0.01)
    with wandb_server() as server:
        point_to(server.address)
        with pytest.raises(upload_module.UploadError, match="the upload of 2 runs to W&B took longer"):
            publish(tmp_path, lines.append, online=True)


def test_what_was_uploaded_by_hand_is_not_uploaded_again(
    stage: Taught, tmp_path: Path, lines: list[str], point_to: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, lines.append, online=False)
    by_hand = offline_runs(tmp_path)
    with wandb_server() as server:
        point_to(server.address)
        upload_module.upload(by_hand, Records(tmp_path))
        monkeypatch.setattr(upload_module.subprocess, "run", never)
        assert publish(tmp_path, lines.append, online=True) == Published(uploaded=2)
        assert len(server.used) == 1, "only which artifacts it used was missing"


def test_a_run_whose_artifact_is_missing_waits_for_it(
    stage: Taught, tmp_path: Path, lines: list[str], point_to: Callable[[str], None]
) -> None:
    publish(tmp_path, lines.append, online=False)
    with wandb_server() as server:
        point_to(server.address)
        upload_module.upload(offline_runs(tmp_path), Records(tmp_path))
        given = server.artifacts.pop(str(server.artifact_id(f"weights:{stage.weights and stage.weights.identity}")))
        assert publish(tmp_path, lines.append, online=True) == Published(uploaded=1, left=1)
        assert "W&B has no artifact weights:" in lines[-1]
        server.artifacts["again"] = given
        assert publish(tmp_path, lines.append, online=True) == Published(uploaded=1)
        assert server.used == [(stage.identity, "again")]


def test_a_stage_that_was_made_anew_replaces_its_run(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, tracker = Taught(), Writing(tmp_path)
    stage.ensure(Runtime(tmp_path, tracker=tracker))
    publish(tmp_path, lines.append, online=False)
    (first,) = offline_runs(tmp_path)
    publish(tmp_path, lines.append, online=False)
    assert offline_runs(tmp_path) == [first]
    (stage.folder(Runtime(tmp_path)) / "per_image.parquet").write_bytes(b"damaged")
    monkeypatch.setattr(Taught, "psnr", (1.0, 2.0))
    monkeypatch.setattr("workbench.stages.cache._checked", set())
    stage.ensure(Runtime(tmp_path, tracker=tracker, rerun=True))
    publish(tmp_path, lines.append, online=False)
    (second,) = offline_runs(tmp_path)
    assert only(read_run(second), "run").run_id == stage.identity
    assert summary(read_run(second))["val/psnr"] == 1.5


def test_one_bad_record_does_not_stop_the_others(tmp_path: Path, lines: list[str]) -> None:
    bad, good, deleted = (Taught(learning_rate=rate) for rate in (0.1, 0.2, 0.3))
    runtime = Runtime(tmp_path, tracker=Writing(tmp_path))
    for stage in (bad, good, deleted):
        stage.ensure(runtime)
    (bad.folder(runtime) / "per_image.parquet").write_bytes(b"no parquet")
    deleted.folder(runtime).rename(tmp_path / "elsewhere")
    (tmp_path / "wandb-records" / "0.json").write_text('{"of": "another version"}')
    publish(tmp_path, lines.append, online=False)
    assert [only(read_run(folder), "run").run_id for folder in offline_runs(tmp_path)] == [good.identity]
    assert len(lines) == 2
    assert "0.json is skipped" in lines[0]
    assert lines[1].startswith(f"{bad.label} {bad.identity}: ")


def test_a_curve_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    bad, good = (Taught(learning_rate=rate) for rate in (0.1, 0.2))
    runtime = Runtime(tmp_path, tracker=Writing(tmp_path))
    for stage in (bad, good):
        stage.ensure(runtime)
    (bad.folder(runtime) / "metrics.csv").write_text(f"step,loss\n1,{'9' * 200_000}\n")
    publish(tmp_path, lines.append, online=False)
    assert [only(read_run(folder), "run").run_id for folder in offline_runs(tmp_path)] == [good.identity]
    (line,) = lines
    assert "field larger than field limit" in line
    assert "Traceback" not in "".join(capfd.readouterr())


def read_all(runs: Path) -> list[Record]:
    records = Records(runs)
    return [records.read(path) for path in records.paths()]


def never(*_: object, **__: object) -> None:
    raise AssertionError("there is nothing to upload")
