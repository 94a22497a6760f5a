"""What a study does for W&B: it writes records, and waits for nothing."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from markupsafe import Markup
from synthetic_robustness import make_results
from wandb_runs import TIMEOUT, Kept, Taught, Weights, end, offline_runs, only, read_run, wait_until

from workbench.cli.session import open_runtime
from workbench.experiments.study import Study
from workbench.reporting.publish import publish
from workbench.stages.runtime import Runtime
from workbench.tracking import __main__ as process_module
from workbench.tracking import tracker as tracker_module
from workbench.tracking import turn as turn_module
from workbench.tracking.record import Records, Table
from workbench.tracking.tracker import Recorder
from workbench.tracking.turn import take_turn

if TYPE_CHECKING:
    from command_line import CommandLine


@contextmanager
def recording(runs: Path, lines: list[str]) -> Iterator[Recorder]:
    """A study's tracker, and its process gone afterwards."""
    tracker = Recorder(runs, "robustness", ("smoke",), lines.append)
    try:
        yield tracker
        tracker.close()
        if tracker.process is not None:
            tracker.process.wait(TIMEOUT)
    finally:
        if tracker.process is not None:
            end(tracker.process)


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a shell script where the process that talks to W&B would be."""
    path = folder / "stand-in"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(tracker_module.sys, "executable", str(path))


def test_a_stage_is_recorded_when_it_is_made_and_when_it_is_made_anew(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "cat >/dev/null", monkeypatch)
    stage = Taught()
    with recording(tmp_path, lines) as tracker:
        runtime = Runtime(tmp_path, tracker=tracker)
        monkeypatch.setattr(Taught, "fails", True)
        with pytest.raises(KeyboardInterrupt):
            stage.ensure(runtime)
        assert tracker.num_recorded == 0, "what is not finished is no run"
        monkeypatch.setattr(Taught, "fails", False)
        stage.ensure(runtime)
        stage.ensure(runtime)
        assert tracker.num_recorded == 1, "what is cached is not recorded again"
        (path,) = Records(tmp_path).paths()
        first = Records(tmp_path).read(path)
        assert (first.run_id, first.job_type, first.group) == (stage.identity, "taught", "robustness")
        assert (first.artifact, first.artifact_type) == ("taught", "results")
        assert first.config == stage.canonical()
        assert first.folder == f"stages/taught/{stage.identity}"
        assert set(first.files) == {p.name for p in stage.folder(runtime).iterdir()}
        assert first.tags == ("robustness", "smoke")
        (stage.folder(runtime) / "per_image.parquet").write_bytes(b"damaged")
        monkeypatch.setattr(Taught, "psnr", (1.0, 2.0))
        monkeypatch.setattr("workbench.stages.cache._checked", set())
        stage.ensure(Runtime(tmp_path, tracker=tracker, rerun=True))
        assert tracker.num_recorded == 2
        assert Records(tmp_path).read(path).contents != first.contents


@pytest.mark.parametrize("in_zoo", [True, False])
def test_what_it_used_is_recorded_with_it_once(tmp_path: Path, in_zoo: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import save_file

    from workbench.weights.zoo import weight_files

    monkeypatch.setenv("WORKBENCH_ZOO", str(tmp_path) if in_zoo else str(tmp_path / "zoo"))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "README.md").write_text("no weights")
    save_file({}, tmp_path / "given" / "weights.safetensors")
    weights = Weights(source=str(tmp_path / "given"))
    tracker, runtime = Kept(), Runtime(tmp_path / "runs")
    cached = Taught(weights=weights)
    cached.ensure(runtime)
    cached.ensure(Runtime(runtime.root, tracker=tracker))
    assert list(tracker.records) == [weights.identity, cached.identity], "made while W&B was disabled"
    given, made = tracker.records.values()
    assert given.folder == str(tmp_path / "given")
    assert [path.name for path in weight_files(tmp_path / "given")] == ["weights.safetensors"]
    assert given.files == (("weights.safetensors",) if in_zoo else ()), "a user's own weights are not uploaded"
    assert given.artifact_type == "model"
    assert made.inputs == (f"weights:{weights.identity}",)


def test_the_kinds_in_a_config_are_tags(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "cat >/dev/null", monkeypatch)
    kept = Kept()
    Taught().ensure(Runtime(tmp_path, tracker=kept))
    (record,) = kept.records.values()
    config = {"solver": {"kind": "ldps"}, "encoder": {"degradation": {"kind": "jpeg"}}, "split": "test"}
    with recording(tmp_path, lines) as tracker:
        tracker.record(record.replace(config=config))
    (path,) = Records(tmp_path).paths()
    assert Records(tmp_path).read(path).tags == ("robustness", "smoke", "ldps", "jpeg")


def test_a_study_is_recorded_with_its_table_and_what_it_is_made_of(tmp_path: Path) -> None:
    results = make_results(3)
    tracker = Kept()
    *computed, _ = sorted(results.examples)
    Taught().ensure(Runtime(tmp_path, tracker=tracker))
    (any_record,) = tracker.records.values()
    tracker.records = dict.fromkeys(computed, any_record)
    definition = Study(cell=Taught(), axes={}, main_figure=lambda _: SimpleNamespace(html=Markup, png=lambda: b"png"))
    publish(definition, results, tmp_path / "study", Runtime(tmp_path, tracker=tracker))
    record = tracker.records[results.identity]
    assert (record.run_id, record.job_type, record.folder) == (results.identity, "study", "study")
    assert record.inputs == tuple(f"taught:{cell}" for cell in computed), "W&B has no artifact of what ships"
    assert "commit" not in record.config, "to report again elsewhere is no other run"
    assert (tmp_path / record.folder / str(record.picture)).read_bytes() == b"png"
    assert record.table is not None
    columns = record.table.columns
    assert columns[:4] == ("encoder", "degradation", "num_images", "psnr")
    rows = {tuple(row[:2]): dict(zip(columns, row, strict=True)) for row in record.table.rows}
    assert len(rows) == len(record.table.rows) == 20
    for cell, frame in results.frame.groupby(["encoder", "degradation"]):
        assert rows[cell]["num_images"] == 3
        assert rows[cell]["psnr"] == pytest.approx(frame["psnr"].mean())


@pytest.mark.parametrize("script", ["exit 1", "sleep 600", "exec /no/such/file"])
def test_a_process_that_fails_or_hangs_is_not_waited_for(
    script: str, tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, script, monkeypatch)
    tracker = Recorder(tmp_path, "robustness", (), lines.append)
    started = time.monotonic()
    try:
        for learning_rate in (0.1, 0.2, 0.3):
            Taught(learning_rate=learning_rate).ensure(Runtime(tmp_path, tracker=tracker))
        tracker.close()
        assert time.monotonic() - started < 10
        assert len(Records(tmp_path).paths()) == 3
        assert lines[0].startswith("W&B: 3 runs, ")
        assert lines[1].endswith(f"upload: python -m workbench sync --runs {tmp_path}")
    finally:
        assert tracker.process is not None
        end(tracker.process)


def test_no_process_can_be_started(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module.sys, "executable", str(tmp_path / "gone"))
    tracker = Recorder(tmp_path, "robustness", (), lines.append)
    Taught().ensure(Runtime(tmp_path, tracker=tracker))
    tracker.close()
    assert len(Records(tmp_path).paths()) == 1


def test_a_record_that_cannot_be_written_is_said(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording(tmp_path, lines) as tracker:
        stage = Taught()
        (tmp_path / "wandb-records").mkdir()
        (tmp_path / "wandb-records" / f"{stage.identity}.json.partial").mkdir()
        stage.ensure(Runtime(tmp_path, tracker=tracker))
    assert lines == [f"W&B: no record of {stage.label} {stage.identity} (Is a directory)"]


def test_the_process_makes_the_runs_of_this_study_and_of_one_that_was_killed(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    killed, going = Taught(learning_rate=0.1), Taught(learning_rate=0.2)
    tracker = Recorder(tmp_path, "robustness", (), [].append)
    killed.ensure(Runtime(tmp_path, tracker=tracker))
    assert tracker.process is not None
    end(tracker.process)
    for _ in range(2):
        with recording(tmp_path, lines) as tracker:
            going.ensure(Runtime(tmp_path, tracker=tracker))
    assert tracker.process is None, "all is made: there is nothing to start a process for"
    runs = [only(read_run(folder), "run") for folder in offline_runs(tmp_path)]
    assert sorted(run.run_id for run in runs) == sorted([killed.identity, going.identity])
    assert {run.run_group for run in runs} == {"robustness"}
    assert len(lines) == 2, "the second time, all is cached"
    assert not Records(tmp_path).problem.exists()


def test_the_process_gives_way_to_the_study(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with recording(tmp_path, lines) as tracker:
        assert tracker.process is None, "nothing is recorded yet"
        Taught().ensure(Runtime(tmp_path, tracker=tracker))
        assert tracker.process is not None
        pid = tracker.process.pid
        wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 19)
        assert os.getpgid(pid) != os.getpgid(0), "Ctrl-C is not meant for it"
        assert os.getsid(pid) == os.getsid(0), "priorities hold within a session"


def test_of_twenty_studies_at_once_one_starts_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    stand_in(tmp_path, f"echo >>{started}; cat >/dev/null", monkeypatch)
    studies = [Recorder(tmp_path, f"study {i}", (), lambda _: None) for i in range(20)]
    try:
        for i, study in enumerate(studies):
            Taught(learning_rate=i + 1).ensure(Runtime(tmp_path, tracker=study))
        for study in studies[1:]:
            study.close()
        assert [study.process is not None for study in studies] == [True] + 19 * [False]
        assert len(Records(tmp_path).paths()) == 20, "each leaves its records"
        studies[0].close()
        assert studies[0].process is not None
        studies[0].process.wait(TIMEOUT)
        assert started.read_text() == "\n"
        later = Recorder(tmp_path, "later", (), lambda _: None)
        studies.append(later)
        later.close()
        assert later.process is not None, "the one that ended has not looked at them all"
    finally:
        for study in studies:
            if study.process is not None:
                end(study.process)


def test_further_processes_end_before_they_load_anything(tmp_path: Path) -> None:
    (tmp_path / "wandb-records").mkdir()
    leave(tmp_path, "0123456789ab")
    script = f"""
import sys
from workbench.tracking.__main__ import main
sys.argv[1:] = [{str(tmp_path)!r}]
main()
(memory,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(memory.split()[1], *sys.modules)
"""
    turn, started = take_turn(tmp_path), time.monotonic()
    assert turn is not None
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(20)]
    try:
        for process in processes:
            assert process.wait(TIMEOUT) == 0
            assert process.stdout is not None
            kib, *loaded = process.stdout.read().split()
            assert int(kib) < 40 * 1024, "with wandb and pandas it is half a gigabyte"
            assert not {"wandb", "pandas", "numpy", "pydantic"} & set(loaded)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        os.close(turn)
    assert time.monotonic() - started < 30, "each takes a tenth of a second"


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The looks of the process at records, with nothing made of them."""
    found: list[str] = []
    (tmp_path / "wandb-records").mkdir()
    monkeypatch.setattr(process_module, "_publish", lambda runs: found.append(Records(runs).written()))
    monkeypatch.setattr(process_module, "PAUSE", 0.01)
    monkeypatch.setattr(process_module, "PAUSE_AFTER", 0.0)
    return found


def leave(runs: Path, name: str) -> None:
    (runs / "wandb-records" / f"{name}.json").write_text("{}")


def test_it_looks_now_and_then_and_when_the_study_ends(
    tmp_path: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, turn = threading.Event(), take_turn(tmp_path)
    assert turn is not None
    worker = threading.Thread(target=process_module._publish_all, args=(tmp_path, turn, ended))
    worker.start()
    wait_until(lambda: len(looks) > 2)
    assert take_turn(tmp_path) is None
    monkeypatch.setattr(process_module, "PAUSE", 60.0)
    ended.set()
    worker.join(TIMEOUT)
    assert not worker.is_alive()
    assert not Records(tmp_path).are_new()
    assert take_turn(tmp_path) is not None


@pytest.mark.parametrize("late", ["while it looks", "when it gives its turn up"])
def test_what_another_study_leaves_at_the_last_moment_is_made(
    late: str, tmp_path: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, "early")

    def publish(runs: Path) -> None:
        looks.append(Records(runs).written())
        if late == "while it looks" and len(looks) == 1:
            leave(tmp_path, "late")

    def give_up(turn: int) -> None:
        if late != "while it looks" and len(looks) == 1:
            leave(tmp_path, "late")
        turn_module.give_up(turn)

    monkeypatch.setattr(process_module, "_publish", publish)
    monkeypatch.setattr(process_module, "give_up", give_up)
    ended, turn = threading.Event(), take_turn(tmp_path)
    assert turn is not None
    ended.set()
    process_module._publish_all(tmp_path, turn, ended)
    assert looks[-1] == Records(tmp_path).written()
    assert len(looks) == 2
    assert not Records(tmp_path).are_new()


def test_its_time_after_the_study_is_limited(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from workbench.tracking import __main__ as process
process.AFTER_STUDY = 1
process._publish = lambda runs: time.sleep(600)
sys.argv[1:] = [{str(tmp_path)!r}]
process.main()
"""
    (tmp_path / "wandb-records").mkdir()
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert b"minutes after the study; the next study continues" in done.stdout


def test_it_ends_with_a_study_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from workbench.stages.runtime import Runtime
from workbench.tracking.record import Record
from workbench.tracking.tracker import Recorder
from workbench.tracking.turn import take_turn
tracker = Recorder(Path({str(tmp_path)!r}), "robustness", (), print)
names = dict.fromkeys(("job_type", "name", "folder", "artifact", "artifact_type"), "a")
tracker.record(Record(run_id="{12 * "0"}", config={{}}, **names))
print(tracker.process.pid, flush=True)
time.sleep(600)
"""
    environment = {**os.environ, "WANDB_MODE": "offline"}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) as study:
        assert study.stdout is not None
        process = int(study.stdout.readline())
        study.kill()
    wait_until(lambda: not Path(f"/proc/{process}").exists() or " Z " in Path(f"/proc/{process}/stat").read_text())
    assert take_turn(tmp_path) is not None


def test_a_study_does_not_load_wandb(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from workbench.cli.session import open_runtime
from wandb_runs import Taught
with open_runtime(Path({str(tmp_path)!r}), "cpu", 1, False, "robustness") as runtime:
    Taught().ensure(runtime)
assert "wandb" not in sys.modules
"""
    environment = {**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Records(tmp_path).paths()) == 1
    wait_until(lambda: len(list((tmp_path / "wandb-records").glob("*.logged"))) == 1)


def test_disabled_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with open_runtime(tmp_path / "runs", "cpu", 1, False, "robustness") as runtime:
        Taught().ensure(runtime)
        publish(Study(cell=Taught(), axes={}), make_results(2), runtime.root / "study", runtime)
    assert not (runtime.root / "wandb").exists()
    assert not (runtime.root / "wandb-records").exists()


def test_a_record_is_told_from_another(tmp_path: Path) -> None:
    records = Records(tmp_path)
    kept = Kept()
    Taught().ensure(Runtime(tmp_path, tracker=kept))
    record = kept.records[Taught().identity].replace(table=Table(columns=("psnr",), rows=((float("nan"),),)))
    assert not records.holds(record)
    records.write(record)
    assert records.holds(record)
    assert not records.holds(record.replace(contents="other"))


def test_what_others_left_in_the_place_of_its_files_is_no_error(tmp_path: Path, lines: list[str]) -> None:
    folder = tmp_path / "wandb-records"
    folder.mkdir()
    for name in (".looked", "problem.txt", "0123456789ab.json"):
        (folder / name).write_bytes(bytes(range(128, 256)) + b"\nmore")
    (folder / ".turn").symlink_to(tmp_path / "elsewhere")
    Recorder(tmp_path, "robustness", (), lines.append).close()
    (line,) = lines
    assert line.startswith("W&B: ")
    assert "more" not in line
    assert not (tmp_path / "elsewhere").exists()


def test_the_log_is_no_link_to_another_file(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "wandb-records").mkdir()
    (tmp_path / "mine").write_text("my own")
    Records(tmp_path).log.symlink_to(tmp_path / "mine")
    tracker = Recorder(tmp_path, "robustness", (), lines.append)
    Taught().ensure(Runtime(tmp_path, tracker=tracker))
    assert tracker.process is None
    assert (tmp_path / "mine").read_text() == "my own"


def test_a_pipe_in_the_place_of_the_log_is_not_waited_for(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "wandb-records").mkdir()
    os.mkfifo(Records(tmp_path).log)
    tracker = Recorder(tmp_path, "robustness", (), lines.append)
    Taught().ensure(Runtime(tmp_path, tracker=tracker))
    tracker.close()
    assert tracker.process is None


def test_records_are_files(tmp_path: Path) -> None:
    records = Records(tmp_path)
    kept = Kept()
    Taught().ensure(Runtime(tmp_path, tracker=kept))
    records.write(kept.records[Taught().identity])
    (found,) = records.paths()
    before = records.written()
    os.mkfifo(records.folder / "aaaaaaaaaaaa.json")
    (records.folder / "bbbbbbbbbbbb.json").symlink_to("nowhere")
    (records.folder / "cccccccccccc.json").mkdir()
    assert records.paths() == [found]
    assert records.written() == before


@pytest.mark.parametrize("verb", ["show", "report", "compare"])
def test_what_computes_nothing_starts_no_process(
    verb: str, tmp_path: Path, cli: "CommandLine", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "_start", lambda records: pytest.fail("a process is started"))
    opened: list[str | None] = []

    def watched(*arguments: Any, **how: Any) -> Any:
        opened.append(how["group"])
        return open_runtime(*arguments, **how)

    monkeypatch.setattr("workbench.cli.session.open_runtime", watched)
    cli(verb, "severity", "--preset", "smoke", "--runs", tmp_path / "runs")
    assert opened == [None], "no group: nothing is recorded"
    assert not (tmp_path / "runs" / "wandb-records").exists()
