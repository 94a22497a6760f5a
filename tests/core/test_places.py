from pathlib import Path

import pytest

from workbench.core import places
from workbench.core.places import data_root, runs_root

CLONE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another folder, and an environment that says nothing."""
    for variable in ("WORKBENCH_RUNS", "WORKBENCH_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_folder_below_the_clone_finds_what_the_clone_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CLONE / "notebooks")
    assert (runs_root(), data_root()) == (CLONE / "runs", CLONE / "data")


def test_what_is_here_comes_first(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert (runs_root(), data_root()) == (Path("runs"), CLONE / "data")


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("WORKBENCH_RUNS", "elsewhere")
    assert runs_root() == Path("elsewhere")


def test_an_installed_package_has_no_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "CHECKOUT", tmp_path)
    assert (runs_root(), data_root()) == (Path("runs"), Path("data"))


def test_the_home_folder_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_RUNS", "~/runs")
    assert places.runs_root() == tmp_path / "runs"
    assert str(places.at_home("~no_such_user/x")) == "~no_such_user/x"
