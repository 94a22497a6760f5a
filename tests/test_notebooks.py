"""The notebooks run from top to bottom, in this very interpreter, and are committed without what they made."""

import doctest
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

from workbench import notebook
from workbench.experiments.run import run_study
from workbench.stages.runtime import Runtime

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 300
"""For the slowest cell on a busy machine: on an idle one a whole notebook takes seconds."""


def execute(cells: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs; its working folder is its own, as in JupyterLab.

    Without any folder of kernels there is one left: that of the interpreter that runs this.
    """
    manager = KernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(cells, km=manager, timeout=SECONDS, resources={"metadata": {"path": str(folder)}})
    try:
        return client.execute()
    finally:
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)


def widgets(done: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The state of each widget."""
    kept = done.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    return [widget["state"] for widget in kept.values()]


def widget_outputs(done: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """What output widgets hold: what functions under @interact show, and what they raise, which stops no cell."""
    return [output for state in widgets(done) for output in state.get("outputs", [])]


def refuse_what_went_wrong(done: nbformat.NotebookNode) -> None:
    """No errors and no warnings, in cells or in widgets; and what is interactive has been called."""
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    in_widgets = widget_outputs(done)
    outputs = [*(output for cell in code for output in cell.outputs), *in_widgets]
    said = [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert not said, said
    interactive = [cell for cell in code if "@interact" in cell.source]
    filled = in_widgets or [state for state in widgets(done) if 'class="workbench"' in str(state.get("value"))]
    assert filled or not interactive, "an interactive cell showed nothing"


def test_there_are_notebooks() -> None:
    assert {"quickstart", "robustness", "severity_calibration"} <= {path.stem for path in NOTEBOOKS}


def test_the_kernel_is_this_interpreter(tmp_path: Path) -> None:
    asks = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys; sys.executable")])
    (answer,) = execute(asks, tmp_path).cells[0].outputs
    assert answer["data"]["text/plain"] == repr(sys.executable)


INTERACTIVE = """from ipywidgets import interact

@interact(number=[{first}, 2])
def look(number):
    return 1 / number"""


def test_what_an_interactive_function_raises_is_seen(tmp_path: Path) -> None:
    right, wrong = (
        execute(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(INTERACTIVE.format(first=first))]), tmp_path)
        for first in (1, 0)
    )
    refuse_what_went_wrong(right)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        refuse_what_went_wrong(wrong)


@pytest.fixture
def results_that_do_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Computes a study at its smallest, and has notebooks read that."""

    def compute(study: str) -> None:
        run_study(study, "smoke", {}, Runtime(tmp_path))
        monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path))
        monkeypatch.setenv("WORKBENCH_PRESET", "smoke")

    return compute


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs(path: Path, results_that_do_not_ship: Callable[[str], None]) -> None:
    if path.stem == "severity_calibration":
        results_that_do_not_ship("calibration")
    done = execute(nbformat.read(path, as_version=4), FOLDER)
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    shown = [output for cell in code for output in cell.outputs if "text/html" in output.get("data", {})]
    assert any("<svg" in output["data"]["text/html"] for output in shown)
    refuse_what_went_wrong(done)
    if path.stem == "severity_calibration":
        assert {"autoencoder", "degradation", "severity"} <= {state.get("description") for state in widgets(done)}
        stages = code[-1].outputs[0]["data"]["text/html"]
        assert "<th>cached</th>" in stages
        assert "<th>needed</th>" not in stages, "the stages are those of the preset that is read"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_what_they_made(path: Path) -> None:
    read = nbformat.read(path, as_version=4)
    nbformat.validate(read)
    for cell in read.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert "widgets" not in read.metadata


def test_examples_in_docstrings_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = doctest.testmod(notebook)
    assert done.attempted > 0
    assert done.failed == 0
