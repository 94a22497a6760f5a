from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb_runs import API_KEY

from workbench.core.config import UserError
from workbench.tracking.mode import stated_mode, wandb_mode


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
        ({"WANDB_BASE_URL": "https://wandb.example.org"}, "wandb.example.org", "online"),
        ({"WANDB_API_KEY": API_KEY}, None, "online"),
        ({"WANDB_API_KEY": "no-key"}, None, "online"),
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
    assert stated_mode() == (mode if environment.get("WANDB_MODE") else None)


def test_an_unknown_mode_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "oflfine")
    for mode in (stated_mode, wandb_mode):
        with pytest.raises(UserError, match=r"WANDB_MODE is 'oflfine'.*online, offline or disabled"):
            mode()


@pytest.mark.parametrize("harm", [lambda path: path.write_text("machine"), Path.mkdir])
def test_a_damaged_netrc_is_nobodys_login(harm: Callable[[Path], Any], tmp_path: Path) -> None:
    harm(tmp_path / "home" / ".netrc")
    assert wandb_mode() == "offline"
