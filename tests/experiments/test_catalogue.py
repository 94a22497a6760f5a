import sys
from pathlib import Path

import pytest

from workbench.experiments import catalogue
from workbench.experiments.study import load_study

STUDY = """from workbench.stages.measure.evaluate import Evaluate
from workbench.experiments.study import Study

study = Study(cell=Evaluate(), axes={})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One study in a module, one in a package, and what is none."""
    (tmp_path / "packed").mkdir()
    (tmp_path / "_parts").mkdir()
    (tmp_path / "sweeps").mkdir()
    for path in ("alone.py", "packed/study.py", "_parts/study.py", "_helper.py", "packed/results.py"):
        (tmp_path / path).write_text(f'"""Is it {path}?\n\nMore."""\n{STUDY}')
    monkeypatch.setattr(catalogue, "STUDIES", tmp_path)
    monkeypatch.setattr("studies.__path__", [str(tmp_path)])
    return tmp_path


def test_a_study_is_a_module_or_a_package(folder: Path) -> None:
    assert catalogue.study_names() == ["alone", "packed"]
    assert catalogue.questions() == {"alone": "Is it alone.py?", "packed": "Is it packed/study.py?"}
    assert "studies.alone" not in sys.modules
    assert load_study("alone")[1] == "Is it alone.py?\n\nMore."
    assert load_study("packed")[1] == "Is it packed/study.py?\n\nMore."
