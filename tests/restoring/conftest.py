"""A tiny model for `restore`, and pictures for it."""

from pathlib import Path

import pytest
from command_line import Trained
from degraded_pictures import measure, write

from workbench.config import parse_overrides
from workbench.stages.evaluate import Evaluate


@pytest.fixture(scope="package")
def trained(trained_once: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One copy for all tests here, which share the encoders that they train."""
    return trained_once.copy(tmp_path_factory.mktemp("restoring"))


@pytest.fixture
def cell(trained: Trained) -> Evaluate:
    return Evaluate().replace(parse_overrides(trained.flags))


@pytest.fixture
def degraded(cell: Evaluate, tmp_path: Path) -> Path:
    """A folder of blurred images."""
    return write(measure(cell, cell.degradation).y, tmp_path / "degraded")
