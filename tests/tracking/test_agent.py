"""Sweeps by W&B's own agent, a process that talks to a double of the server and starts `python -m workbench run`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml
from wandb_runs import API_KEY, wait_until
from wandb_server import ENTITY, WandbServer, wandb_server

from workbench import study as study_module
from workbench.config import parse_overrides
from workbench.goal import images_of, means_of, on_validation
from workbench.stages.base import Runtime
from workbench.stages.evaluate import Evaluate
from workbench.study import load_study

if TYPE_CHECKING:
    from cli_support import CommandLine, Trained

PROJECT = Path(study_module.__file__).parents[1]
TIMEOUT = 300


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def agent(address: str, folder: Path, runs: Path, sweep: str) -> str:
    """Run `wandb agent` to its end; what it and the runs said."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"WANDB_BASE_URL": address, "WORKBENCH_RUNS": str(runs), "PATH": path, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "agent", sweep],
        cwd=folder,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.stdout


def summary_of(server: WandbServer, run_id: str) -> dict[str, Any]:
    """The last summary of a run that the server was sent."""
    lines = server.streams[run_id]["wandb-summary.json"]
    found: dict[str, Any] = json.loads(lines[max(lines)])
    return found


def test_the_agent_runs_the_cells_of_the_sweep(
    trained: "Trained", cli: "CommandLine", tmp_path: Path, logged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = {
        "first": {"start.offset_db": 3.5, "sampler.num_steps": 12.0},
        "second": {"start.offset_db": -1.25, "sampler.num_steps": 20},
    }
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        words = ("sweep", "tuning", "--preset", "smoke", "--runs", trained.runs, "--create")
        said = cli(*words, *trained.flags)
        assert said.code == 0, said.err
        print(said.out)
        file, command = said.out.splitlines()
        server.trials |= trials
        print(server.sweeps)
        said = agent(server.address, tmp_path, trained.runs, command.split()[-1])
        print(said)
        print(server.runs, server.streams)
        assert 0
