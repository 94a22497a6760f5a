"""A study on a real SLURM on this machine: a job is killed, and the same command goes on to what one process finds."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import slurm_machine
import two_ranks
from small_study import EVALUATION, NETWORKS, source_overrides, tiny_cell
from study_process import (
    assert_nothing_is_left_over,
    assert_same_results,
    begin,
    end,
    finish,
    records,
    results,
    run,
    stages,
    wait_until,
)
from users_folder import Outside

from workbench.stages.execute.cluster import Cluster, ensure_on_cluster
from workbench.stages.runtime import Runtime

ON_SLURM = {"cluster": "slurm", "cluster.cpus": 1, "cluster.minutes": 20, "cluster.evaluate.minutes": 10}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    slurm_machine.install()
    folder = tmp_path / "slurm"
    folder.mkdir(mode=0o755)
    with slurm_machine.running(folder) as config:
        monkeypatch.setenv("SLURM_CONF", str(config))
        yield


def jobs_at_work() -> dict[str, str]:
    """The ids of running jobs by their names."""
    command = ["squeue", "--array", "--noheader", "--states=running", "--format=%j %i"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split() for line in answer.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_a_study_on_slurm_survives_the_loss_of_a_job(images: Path, tmp_path: Path) -> None:
    own = {"degradation.kind": "gaussian_blur", "severity_encoder.degradation.kind": "gaussian_blur"}
    overrides: dict[str, Any] = {**source_overrides(images), **NETWORKS, **EVALUATION, **own}
    overrides["autoencoder.num_train_images"] = 16_384
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (tmp_path / name / "runs" for name in ("here", "there"))

    process = begin(there, {**overrides, **ON_SLURM})
    wait_until(lambda: any(there.glob("stages/train_autoencoder/*.partial/last.ckpt")), process)
    job = jobs_at_work()["train_autoencoder"]
    subprocess.run(["scancel", job], check=True)
    code, said = end(process, there)
    assert code == 2, said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    (log,) = there.glob(f"cluster/*/{job}_0_log.out")
    assert f"its state is CANCELLED (job {job}, log {log})" in error
    assert error.endswith("run the same command again to resume")
    assert "training" in log.read_text()
    made = stages(there)

    said = finish(begin(there, {**overrides, **ON_SLURM}), there)
    assert made.items() <= stages(there).items(), "what was done is not done again"
    resumed = [record["canonical"]["stage"] for record in records(there) if record["resumed"]]
    assert resumed == ["train_autoencoder"]
    assert_nothing_is_left_over(there)
    submitted = [line for line in said.splitlines() if " submitted (" in line]
    print(f"killed {job}; then {'; '.join(submitted)}")

    run(here, overrides)
    assert_same_results(results(there), results(here))
    assert len(stages(there)) == len(stages(here))
    processes = {record["process"] for record in records(there)}
    assert len(processes) == len(records(there)), "each stage was a job of its own"
    assert os.getpid() not in processes


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_slurms_jobs_may_import_what_their_command_does(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    outside = Outside.make(tmp_path / "mine")
    where = ("--preset", "smoke", "--runs", "runs", "--cluster", "slurm", "--cluster.cpus=1")
    said = outside.says("study", "mine.py", *where, *outside.network_flags, "--allow", "mine_networks")
    assert "train_prior: 1 submitted" in said
    made = records(outside.folder / "runs")
    assert {"train_prior", "train_severity"} < {record["canonical"]["stage"] for record in made}
    assert len({record["process"] for record in made}) == len(made), "each stage was a job of its own"


@pytest.mark.slow
def test_two_nodes_share_the_training_of_a_network(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm_machine.install()
    (tmp_path / "slurm").mkdir(mode=0o755)
    settings = {"autoencoder.batch_size": 8, "autoencoder.num_train_images": 80}
    stage = two_ranks.EveryStepAutoencoder(**dict(tiny_cell(images, **settings).autoencoder_stage()))
    cluster = {"cluster.nodes": 2, "cluster.cpus": 1}
    with slurm_machine.running(tmp_path / "slurm", num_nodes=2) as config:
        monkeypatch.setenv("SLURM_CONF", str(config))
        there = Runtime(tmp_path / "there")
        ensure_on_cluster([stage], there, cluster=Cluster("slurm", "cpu", cluster))
    assert len(list(there.root.glob("cluster/*/*_log.out"))) == 2, "one log for each node"
    curves = [
        pd.read_csv(stage.ensure(runtime) / "metrics.csv")["train/loss"]
        for runtime in (there, Runtime(tmp_path / "here"))
    ]
    pd.testing.assert_series_equal(*curves, rtol=0, atol=1e-5)
    assert len(curves[0]) == 10
