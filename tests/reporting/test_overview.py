import json
from pathlib import Path
from typing import ClassVar

import pytest

from workbench.reporting.overview import estimated_seconds, print_doctor
from workbench.stages import base
from workbench.stages.base import PROVENANCE, Runtime, Stage


class Work(Stage):
    name: ClassVar[str] = "work"
    seconds_per_effort: ClassVar[float] = 7.0

    size: int = 2

    def effort(self) -> float:
        return float(self.size)

    def work(self, folder: Path, runtime: Runtime) -> None:
        (folder / "value.txt").write_text(str(self.size))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setattr(base, "_checked", set())
    return Runtime(tmp_path)


def done(size: int, seconds: float, runtime: Runtime, resumed: bool = False) -> Path:
    """A finished stage that is said to have taken so long."""
    path = Work(size=size).ensure(runtime) / PROVENANCE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_seconds": seconds, "resumed": resumed}))
    return path


def test_the_first_estimate_is_nominal_and_later_ones_are_measured_here(runtime: Runtime) -> None:
    assert estimated_seconds(Work(size=10), runtime) == 70
    done(2, 4.0, runtime)
    assert estimated_seconds(Work(size=10), runtime) == 20
    done(4, 16.0, runtime)  # 20 s for 6 in all
    assert estimated_seconds(Work(size=10), runtime) == pytest.approx(100 / 3)
    done(8, 0.1, runtime, resumed=True)
    assert estimated_seconds(Work(size=10), runtime) == pytest.approx(100 / 3), (
        "a resumed stage says nothing of the whole"
    )


@pytest.mark.parametrize("content", ["", "[]", "null", '{"files": 3}', "{"])
def test_damaged_entries_say_nothing(content: str, runtime: Runtime) -> None:
    done(2, 4.0, runtime)
    done(4, 100.0, runtime).write_text(content)
    assert base.damage(Work(size=4).folder(runtime)) == f"{PROVENANCE} cannot be read"
    assert estimated_seconds(Work(size=10), runtime) == 20


def test_doctor_names_work_that_was_never_finished(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    done(2, 4.0, runtime)
    print_doctor(runtime.root)
    assert "unfinished" not in capsys.readouterr().out
    partial = Work(size=3).folder(runtime).with_suffix(".partial")
    partial.mkdir()
    (partial / "last.ckpt").write_bytes(bytes(2_500_000))
    print_doctor(runtime.root)
    said = " ".join(capsys.readouterr().out.split())
    assert "stages: 1, 2.5 MB" in said
    assert "go on from there" in said
