"""`doctor --model`: what a model costs, before anything is restored with it."""

from pathlib import Path

import pytest
import tiny_models
from command_line import CommandLine

from workbench.reporting.model_costs import _seconds_text


def test_a_table_of_parts_and_what_a_step_takes(cli: CommandLine, tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "model")
    said = cli("doctor", "--model", folder, "--size", 32, "--runs", tmp_path / "runs").out
    for words in ("prior", "decoder", "encoder", "a step of mmps:", "memory of a step: about"):
        assert words in said


def test_sides_and_settings(cli: CommandLine, tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "model")
    own = ["--size=20x33", "--solver.kind=ldps", "--precision=bf16-true", f"--runs={tmp_path / 'runs'}"]
    said = cli("doctor", "--model", folder, *own).out
    assert "one image of 20 x 36 (20 x 33, padded), cpu, bf16-true" in said
    for words in ("a step of ldps:", "MiB", "some 5 to 15 of them"):
        assert words in said
    assert cli.refuses("doctor", "--model", folder, "--size=20x") == (
        "--size must be a number of pixels a side, or HEIGHTxWIDTH, got '20x'"
    )


def test_a_size_needs_a_model(cli: CommandLine) -> None:
    assert cli.refuses("doctor", "--size", 32) == "--size is for --model"
    assert cli.refuses("doctor", "--precision=bf16") == "--precision is for --model"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12 ms"), (0.42, "0.42 s"), (4.26, "4.3 s"), (64.2, "64 s"), (7200, "120 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert _seconds_text(seconds) == text
