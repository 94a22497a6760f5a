"""`make docs`: the pages are written, and pdoc finds nothing to warn of."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_reference_is_written_without_warnings(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workbench.docs", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'index.html'}\n"), done.stderr
    assert "warning" not in done.stderr.lower()
    assert "guidance_scale" in (tmp_path / "settings.html").read_text()
    for page in ("workbench/solvers/ldps.html", "studies/robustness.html", "workbench/severity/encoder.html"):
        assert (tmp_path / page).is_file()
