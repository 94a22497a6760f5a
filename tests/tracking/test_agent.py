"""Sweeps by W&B's own agent and scheduler: processes that talk to a double of the server, as they are installed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from analytic_study import analytic_study
from wandb_runs import API_KEY
from wandb_server import ENTITY, WandbServer, wandb_server

from workbench.core.config import parse_overrides
from workbench.experiments import study as study_module
from workbench.experiments.objective import means_of, on_validation
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    from command_line import CommandLine, Trained

PROJECT = Path(study_module.__file__).parents[2]
TIMEOUT = 300


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server that the user is logged in at."""
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        # a proxy would not know this machine's own addresses
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server


@pytest.fixture
def started_by_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What an agent says to the process that it starts: the run's id, the sweep, and start.offset_db = 1.5."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"wandb_version": 1, "start.offset_db": {"value": 1.5}}))
    settings = {"SWEEP_ID": "sweep", "RUN_ID": "mine", "SWEEP_PARAM_PATH": str(path), "DIR": str(tmp_path)}
    for name, value in settings.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setattr("workbench.experiments.study.load_study", lambda _: (analytic_study(), ""))


def run_wandb(verb: str, folder: Path, runs: Path, sweep: str) -> str:
    """Run `wandb agent`, or `wandb sweep-scheduler`, to its end; what it and the runs said."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "wandb", verb, sweep],
        cwd=folder,
        env={**os.environ, "WORKBENCH_RUNS": str(runs), "PATH": path, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.stdout


def last(server: WandbServer, run_id: str, stream: str) -> dict[str, Any]:
    """The last line of a run's stream that the server was sent."""
    lines = server.streams[run_id][stream]
    found: dict[str, Any] = json.loads(lines[max(lines)])
    return found


def test_wandbs_own_agent_runs_trials_of_the_sweep(
    trained: "Trained", cli: "CommandLine", tmp_path: Path, server: WandbServer
) -> None:
    """Two runs with settings of the server's choice, each the stage that `tune` would make of them."""
    flags = [flag for flag in trained.flags if "num_steps" not in flag]
    said = cli("sweep", "tuning", "--preset", "smoke", "--runs", trained.runs, "--create", *flags)
    assert said.code == 0, said.err
    # before these lines may stand one on the images, if they were not read before in this process
    file, agent = said.out.splitlines()[-2:]
    assert agent.split() == ["wandb", "agent", f"{ENTITY}/severity-workbench/sweep-0"]
    config = yaml.safe_load(Path(file).read_text())
    assert yaml.safe_load(server.sweeps["sweep-0"]) == config
    start = {"start.variance": "encoder", "start.channel": "mmse"}
    fixed = {**start, "solver.guidance_scale": 0.75, "sampler.eta": 0.5}
    trials: dict[str, dict[str, Any]] = {
        "early": {"start.offset_db": 5.5, "sampler.num_steps": 50.0, **fixed},  # W&B draws integers as floats too
        "late": {"start.offset_db": -3.0, "sampler.num_steps": 30, **fixed},
    }
    assert all(set(settings) == set(config["parameters"]) for settings in trials.values())
    server.trials |= trials
    said_by_all = run_wandb("agent", tmp_path, trained.runs, agent.split()[-1])
    ((task,),) = [study_module.load_study("tuning")[0].tasks("smoke", parse_overrides(flags))]
    runtime = Runtime(trained.runs)
    metric = config["metric"]["name"]
    for run_id, settings in trials.items():
        assert server.runs[run_id]["sweep"] == "sweep-0", said_by_all
        assert (server.runs[run_id]["project"], server.runs[run_id]["jobType"]) == ("severity-workbench", "sweep")
        sent = json.loads(server.runs[run_id]["config"])
        assert {path: sent[path]["value"] for path in settings} == settings
        trial = on_validation(task.cell, settings, task.cell.num_images)  # type: ignore[arg-type]
        assert trial.is_cached(runtime), said_by_all
        expected = means_of(trial, runtime)["psnr"]
        summary = last(server, run_id, "wandb-summary.json")
        assert summary[metric] == expected
        assert summary["cell"] == trial.identity
        assert last(server, run_id, "wandb-history.jsonl")[metric] == expected
    values = {last(server, run_id, "wandb-summary.json")[metric] for run_id in trials}
    assert len(values) == 2
    assert set(server.runs) == set(trials), "a trial is one run"
    assert server.exits == dict.fromkeys(trials, 0)


def test_wandbs_own_scheduler_searches_with_optuna(cli: "CommandLine", tmp_path: Path, server: WandbServer) -> None:
    said = cli("sweep", "tuning", "--preset", "smoke", "--method=optuna", "--cost=nfe", "--create", "--runs", tmp_path)
    assert said.code == 0, said.err
    agent, scheduler = said.out.splitlines()[-2:]
    address = f"{ENTITY}/severity-workbench/sweep-0"
    assert (agent.split(), scheduler.split()) == (["wandb", "agent", address], ["wandb", "sweep-scheduler", address])
    said_by_it = run_wandb("sweep-scheduler", tmp_path, tmp_path, address)
    assert "the sweep is FINISHED" in said_by_it
    search = study_module.load_study("tuning")[0].search
    assert server.proposed, said_by_it
    for settings in server.proposed:
        assert set(settings) == set(search)
        assert all(search[path]._contains(search[path].to_internal_repr(v)) for path, v in settings.items())


def test_what_the_agent_says_wins_over_flags(
    cli: "CommandLine", tmp_path: Path, server: WandbServer, started_by_agent: None
) -> None:
    words = ("run", "analytic", "--preset", "smoke", "--runs", tmp_path / "runs", "--split=val")
    said = cli(*words, "--start.offset_db=8", "--sampler.num_steps=70")
    assert said.code == 0, said.err
    cell = analytic_study().cell.replace({"start.offset_db": 1.5, "sampler.num_steps": 70, "split": "val"})
    summary = last(server, "mine", "wandb-summary.json")
    assert (summary["cell"], summary["val/nfe"]) == (cell.identity, 70)
    assert server.runs["mine"]["sweep"] == "sweep"


def test_a_setting_that_there_is_not_is_one_line_and_the_run_has_failed(
    cli: "CommandLine", tmp_path: Path, server: WandbServer, started_by_agent: None
) -> None:
    Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).write_text(yaml.safe_dump({"start.offsett_db": {"value": 1.5}}))
    said = cli.refuses("run", "analytic", "--preset", "smoke", "--runs", tmp_path / "runs")
    assert said.startswith("unknown field 'start.offsett_db'; snr_match has: kind, ")
    assert server.exits == {"mine": 1}
    assert not (tmp_path / "runs" / "stages").exists()


def test_a_sweep_imports_nothing_that_the_command_line_does_not_name(
    cli: "CommandLine", tmp_path: Path, server: WandbServer, started_by_agent: None
) -> None:
    setting = {"degradation.kind": {"value": "deepinv"}, "degradation.factory": {"value": "harmful:make"}}
    Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).write_text(yaml.safe_dump(setting))
    said = cli.refuses("run", "analytic", "--preset", "smoke", "--runs", tmp_path / "runs")
    assert said.startswith("the sweep names 'harmful:make', which is not imported because its module is not allowed")


def test_a_run_that_is_stopped_early_is_no_failure(server: WandbServer, started_by_agent: None) -> None:
    script = """
import signal, time
from workbench.__main__ import _terminate
from workbench.tracking.agent import agent_run
signal.signal(signal.SIGTERM, _terminate)
with agent_run():
    print("open", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    process.terminate()
    assert process.wait(TIMEOUT) == -signal.SIGTERM, "agents take an exit code for a failure"
    assert server.exits == {"mine": 0}


def test_a_run_whose_metric_would_not_arrive_is_refused(
    cli: "CommandLine", tmp_path: Path, started_by_agent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", "analytic", "--preset", "smoke", "--runs", tmp_path / "runs")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert cli.refuses(*words) == (
        "WANDB_MODE is offline, but the sweep waits for this run's metric: unset it, or set it to online"
    )
    monkeypatch.delenv("WANDB_MODE")
    assert cli.refuses(*words).startswith("the run of the sweep cannot be opened: ")


@pytest.mark.parametrize("rejects", [False, True])
def test_a_sweep_is_registered_only_by_who_is_logged_in(
    cli: "CommandLine", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rejects: bool
) -> None:
    words = ("sweep", "tuning", "--preset", "smoke", "--runs", tmp_path / "runs", "--create")
    with wandb_server(rejects=rejects) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        if rejects:
            monkeypatch.setenv("WANDB_API_KEY", API_KEY)
            assert "wandb login --relogin" in cli.refuses(*words)
        else:
            expected = f"no W&B key for {server.address}: run `wandb login`, or set WANDB_API_KEY"
            assert cli.refuses(*words) == expected
    assert not list(tmp_path.glob("runs/**/*.yaml"))


def test_wandbs_own_switch_is_heeded(cli: "CommandLine", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nmode = offline\n")  # as `wandb offline` leaves it
    said = cli("sweep", "tuning", "--preset", "smoke", "--runs", tmp_path / "runs", "--create")
    assert said.code == 2
    assert said.err.endswith("registering a sweep needs W&B's server: run `wandb online`\n")
