import json
from pathlib import Path
from typing import ClassVar

import pytest

from workbench.reporting.overview import print_doctor
from workbench.stages import cache
from workbench.stages.base import Stage
from workbench.stages.provenance import PROVENANCE
from workbench.stages.runtime import Runtime


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
    monkeypatch.setattr(cache, "_checked", set())
    return Runtime(tmp_path)


def done(size: int, seconds: float, runtime: Runtime, resumed: bool = False) -> Path:
    """A finished stage that is said to have taken so long."""
    path = Work(size=size).ensure(runtime) / PROVENANCE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_seconds": seconds, "resumed": resumed}))
    return path


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
    assert "run the same commands again to resume them" in said
