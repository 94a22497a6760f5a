"""A user without settings or credentials, and W&B's process ended after each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

NAMES = (
    "MODE",
    "API_KEY",
    "BASE_URL",
    "PROJECT",
    "ENTITY",
    "DATA_DIR",
    "DIR",
    "SWEEP_ID",
    "RUN_ID",
    "SWEEP_PARAM_PATH",
)


@pytest.fixture(autouse=True)
def logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in (*(f"WANDB_{name}" for name in NAMES), "NETRC"):
        monkeypatch.setenv(name, "")  # so that it is put back where the code under test sets it
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield
    import wandb
    from wandb.sdk.lib import wbauth

    wbauth.unauthenticate_session(update_settings=False)
    wandb.teardown()


@pytest.fixture
def lines() -> list[str]:
    return []
