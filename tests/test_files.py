import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from limits import file_size_limit
from safetensors import SafetensorError
from safetensors.torch import save_file

from workbench.files import disk_refusal, whole, write_whole

FOLDER = Path("runs")


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "value.txt"
    write_whole(path, "before")
    with whole(path) as partial:
        partial.write_text("af")
        assert path.read_text() == "before"
        partial.write_text("after, µ")
    assert path.read_text() == "after, µ"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "value.txt"
    write_whole(path, "before")

    def fail() -> None:
        with whole(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "value.txt"
    code = f"""
import os, signal
from pathlib import Path
from workbench.files import whole
with whole(Path({str(path)!r})) as partial:
    partial.write_text("a long half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode < 0
    assert len(list(tmp_path.iterdir())) == 1
    assert not path.exists()
    write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_the_place(number: int) -> None:
    named = disk_refusal(OSError(number, "full", "rows.parquet"), FOLDER)
    assert named is not None
    assert named.startswith("no room left at rows.parquet (")
    assert "make room" in named
    unnamed = disk_refusal(OSError(number, "full"), FOLDER)
    assert unnamed is not None
    assert unnamed.startswith("no room left at runs (")
    moved = disk_refusal(OSError(number, "full", "last.ckpt.partial", None, "last.ckpt"), FOLDER)
    assert moved is not None
    assert "last.ckpt" in moved


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_another_refusal_is_told_too(number: int) -> None:
    line = disk_refusal(OSError(number, "refused", "rows.parquet"), FOLDER)
    assert line is not None
    assert line.startswith("cannot use rows.parquet (")


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "no such file", "x"), RuntimeError("shapes"), KeyError("x"), OSError()]
)
def test_errors_of_another_kind_are_left_alone(error: Exception) -> None:
    assert disk_refusal(error, FOLDER) is None


def test_the_error_of_safetensors_is_understood(tmp_path: Path) -> None:
    """It is no OSError, and its number stands in its words alone."""
    with file_size_limit(1000), pytest.raises(SafetensorError) as caught:
        save_file({"x": torch.zeros(10_000)}, tmp_path / "x.safetensors")
    line = disk_refusal(caught.value, FOLDER)
    assert line is not None
    assert line.startswith("no room left at runs (File too large)")
