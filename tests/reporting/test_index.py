"""What is read of a page's summary, which may be someone else's: text, and nothing that is imported."""

import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.core import families
from workbench.core.config import UserError
from workbench.reporting.index import SUMMARY, Summary, recipe_of
from workbench.reporting.publish import report_all
from workbench.stages.runtime import Runtime

NESTED = '--degradation={"kind": "compose", "parts": [{"kind": "deepinv", "factory": "harmful:make"}]}'


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there when the module `harmful` has been imported."""
    (tmp_path / "harmful.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "harmful", raising=False)
    return tmp_path / "trace"


def results_folder(runs: Path, command: str) -> Path:
    """Results with a page whose summary holds a command."""
    folder = runs / "studies" / "robustness" / "smoke-abc"
    (folder / "report").mkdir(parents=True)
    (folder / "results.parquet").touch()
    (folder / "report" / "index.html").write_text("the page as it came")
    texts = dict.fromkeys(("name", "preset", "question"), "smoke")
    summary = Summary(**texts, command=command, answer=(), num_cells=1, num_images=1)
    (folder / "report" / SUMMARY).write_text(summary.model_dump_json())
    return folder


@pytest.mark.parametrize("flag", ["--degradation.factory=harmful:make", f"'{NESTED}'"])
def test_a_stored_command_imports_nothing(flag: str, tmp_path: Path, trace: Path) -> None:
    command = f"python -m workbench study robustness --preset smoke --degradation.kind=deepinv {flag}"
    folder = results_folder(tmp_path / "runs", command)
    index = report_all(Runtime(tmp_path / "runs"))
    assert not trace.exists()
    assert "harmful" not in sys.modules
    assert (folder / "report" / "index.html").read_text() == "the page as it came"
    assert "names &#39;harmful:make&#39;, which is not imported because its module is not allowed" in index.read_text()


@pytest.mark.parametrize("allowing", ["", " --allow=harmful"])
def test_what_is_allowed_is_imported(allowing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = "--degradation.kind=deepinv --degradation.factory=harmful:make"
    folder = results_folder(tmp_path, f"python -m workbench study robustness --preset smoke {flags}{allowing}")
    with pytest.raises(UserError, match="if you trust it, add --allow harmful"):
        recipe_of(folder)
    monkeypatch.setattr(families, "_allowed", {"harmful"})
    expected = {"degradation.kind": "deepinv", "degradation.factory": "harmful:make"}
    assert recipe_of(folder) == ("smoke", expected)


@pytest.mark.parametrize("command", ["a 'quote", "python -m workbench study name --preset x --a=" + 100_000 * "["])
def test_a_command_that_cannot_be_read_is_one_line(command: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: run `study` again"):
        recipe_of(results_folder(tmp_path, command))


@pytest.mark.parametrize("content", [b"", bytes(range(256)), 100_000 * b"[", b"{}"])
def test_a_summary_that_cannot_be_read_is_none(content: bytes, tmp_path: Path) -> None:
    folder: Any = results_folder(tmp_path, "")
    (folder / "report" / SUMMARY).write_bytes(content)
    with pytest.raises(UserError, match="its overrides are unknown"):
        recipe_of(folder)
