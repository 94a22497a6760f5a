"""Stages as jobs: of submitit's own processes here, and of a SLURM that only says what a test tells it to."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from instant_stages import Heard, Kinded, Piece, endless, lives
from wandb_runs import Kept, wait_until

from workbench.core.config import UserError
from workbench.stages.execute import cluster as cluster_module
from workbench.stages.execute.cluster import Cluster, Resources, ensure_on_cluster
from workbench.stages.provenance import read_provenance
from workbench.stages.runtime import Runtime

LOCAL = Cluster("local")
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "POLL", 0.05)
    monkeypatch.setattr(cluster_module, "ASK", 0.1)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def runtime(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("PYTHONPATH", f"{SUPPORT}:{SUPPORT.parents[1]}:{os.environ.get('PYTHONPATH', '')}")
    return Runtime(tmp_path / "runs", progress=heard, tracker=Kept())


def test_resources_are_for_all_stages_or_for_one_kind() -> None:
    given = {"cluster.minutes": 5, "cluster.train_prior.minutes": 600, "cluster.train_prior.gpus": 1}
    cluster = Cluster("local", given=given)
    assert cluster.resources("evaluate") == Resources(minutes=5)
    assert cluster.resources("train_prior") == Resources(minutes=600, gpus=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"cluster.gpu": 1},
            r"unknown field 'cluster\.gpu'; Resources has: gpus, nodes, cpus, minutes, memory_gb, partition",
        ),
        ({"cluster.piece.gpu": 1}, r"unknown field 'cluster\.gpu'; Resources has: gpus"),
        ({"cluster.minutes": 0}, r"cluster\.minutes: input should be at least 1 and at most 527040 \(got 0\)"),
        ({"cluster.cpus": "two"}, r"cluster\.cpus: input should be a valid integer"),
    ],
)
def test_unknown_resources_and_bad_values_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Cluster("local", given=given)


def test_resources_of_stages_that_there_are_not_are_refused_before_anything_is_submitted(runtime: Runtime) -> None:
    cluster = Cluster("local", given={"cluster.train.minutes": 1, "cluster.piece.minutes": 1})
    with pytest.raises(UserError, match=r"--cluster\.train: unknown stage; available: kinded, piece$"):
        ensure_on_cluster([Kinded(above=(Piece(),))], runtime, cluster=cluster)
    assert not (runtime.root / "cluster").exists()


def test_without_slurm_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no SLURM here"):
        Cluster("slurm")


def test_jobs_make_the_stages_and_where_one_fails_the_others_go_on(
    runtime: Runtime, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    first, failing = Piece(number=1), Piece(number=2, action="refuse")
    last, below = Kinded(number=3, above=(first,), action="threads"), Kinded(number=4, above=(failing,))
    late = Kinded(number=5, action="late")
    cluster = Cluster("local", "cpu", {"cluster.kinded.cpus": 3, "cluster.kinded.minutes": 1})
    updates: list[Any] = []
    with pytest.raises(UserError) as caught:
        ensure_on_cluster([last, below, late], runtime, lambda *update: updates.append(update), cluster=cluster)
    message, (log, other) = str(caught.value), [line for line in heard.lines if "failed" in line]
    assert message.startswith("piece 2: piece 2 is refused (job ")
    assert message.endswith(") (1 more failed, see above); run the same command again to resume")
    assert "piece 5: it ran out of time: increase --cluster.minutes (job " in other
    path = Path(log.rpartition("log ")[2].removesuffix(")"))
    assert path.parent.parent == runtime.root / "cluster"
    assert path.parent.stat().st_mode & 0o777 == 0o700, "what lies there is unpickled"
    assert "UserError: piece 2 is refused" in path.read_text()
    assert "... working: piece 2" in path.read_text()
    assert (last.folder(runtime) / "threads").read_text() == "3"
    assert read_provenance(last.folder(runtime))["process"] != os.getpid()
    assert not below.is_cached(runtime)
    assert (0, 3, "2 running") in updates
    assert isinstance(runtime.tracker, Kept)
    assert sorted(record.name.split()[1] for record in runtime.tracker.records.values()) == ["1", "3"]


def test_ctrl_c_ends_jobs_here_without_a_traceback(tmp_path: Path) -> None:
    process, workers = endless("jobs", tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "stopped\n"
    wait_until(lambda: not any(map(lives, workers)))


SQUEUE = """#!/bin/sh
cat {folder}/states
"""
SBATCH = """#!/bin/sh
cp $1 {folder}/submitted
echo Submitted batch job 7
"""
SCANCEL = """#!/bin/sh
echo $@ >> {folder}/cancelled
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a SLURM that takes every job and runs none; its file `states` is what squeue answers."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    scripts = {"squeue": SQUEUE, "sbatch": SBATCH, "scancel": SCANCEL, "srun": SBATCH}
    for name, script in scripts.items():
        (folder / name).write_text(script.format(folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (folder / "states").write_text("")
    return folder


def test_a_job_asks_for_its_resources(slurm: Path, runtime: Runtime) -> None:
    given = {"cluster.gpus": 1, "cluster.minutes": 90, "cluster.memory_gb": 2.5, "cluster.partition": "long"}
    with pytest.raises(UserError, match="GONE"):
        ensure_on_cluster([Piece(number=n) for n in range(3)], runtime, cluster=Cluster("slurm", given=given))
    lines = (slurm / "submitted").read_text().splitlines()
    (srun,) = [line for line in lines if line.startswith("srun ")]
    assert "--cpus-per-task=2" in srun.split()
    flags = {line.removeprefix("#SBATCH --") for line in lines}
    assert {"gpus-per-node=1", "cpus-per-task=2", "time=90", "mem=2560MB", "partition=long"} < flags
    assert {"job-name=piece", "array=0-2%3"} < flags


@pytest.mark.parametrize("state", ["CANCELLED", "TIMEOUT", "NODE_FAIL"])
def test_a_job_that_slurm_ends_is_named_with_its_state_and_log(
    state: str, slurm: Path, runtime: Runtime, heard: Heard
) -> None:
    (slurm / "states").write_text(f"6 RUNNING\n7_0 {state}\n7_1 {state}\n")
    with pytest.raises(UserError) as caught:
        ensure_on_cluster([Piece(number=n) for n in range(2)], runtime, cluster=Cluster("slurm"))
    (folder,) = (runtime.root / "cluster").iterdir()
    log = folder / "7_0_0_log.out"
    assert str(caught.value) == (
        f"piece 0: it left no result; its state is {state} (job 7_0, log {log}) (1 more failed, see above); "
        "run the same command again to resume"
    )
    assert "piece: 2 submitted (7_0 to 7_1), logs in" in heard.lines[0]


def test_jobs_are_cancelled_when_the_command_is_stopped(slurm: Path, runtime: Runtime) -> None:
    (slurm / "states").write_text("7_0 RUNNING\n7_1 PENDING\n")

    def stop(done: float, total: float, note: str = "") -> None:
        if note == "1 running, 1 pending":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_on_cluster([Piece(number=n) for n in range(2)], runtime, stop, cluster=Cluster("slurm"))
    assert (slurm / "cancelled").read_text().split() == ["7_0", "7_1"]


def test_jobs_that_slurm_does_not_take_are_one_line(slurm: Path, runtime: Runtime) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"^SLURM rejects piece jobs: .*sbatch: error: invalid partition$"):
        ensure_on_cluster([Piece()], runtime, cluster=Cluster("slurm"))
