import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import CommandLine
from full_disk import file_size_limit
from safetensors import SafetensorError
from safetensors.torch import save_file

from workbench.core import files
from workbench.core.files import disk_refusal, naming, remove, whole, write_whole

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
from workbench.core.files import whole
with whole(Path({str(path)!r})) as partial:
    partial.write_text("a long half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode < 0
    assert len(list(tmp_path.iterdir())) == 1
    assert not path.exists()
    write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_the_place(number: int) -> None:
    named = disk_refusal(OSError(number, "full", "rows.parquet"), FOLDER)
    assert named is not None
    assert named.startswith("no space left at rows.parquet (")
    assert "make room" in named
    unnamed = disk_refusal(OSError(number, "full"), FOLDER)
    assert unnamed is not None
    assert unnamed.startswith("no space left at runs (")
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
    assert line.startswith("no space left at runs (File too large)")


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    cases = {
        file: [
            lambda: file.mkdir(),
            lambda: (file / "deep").mkdir(parents=True),
            lambda: write_whole(file / "a" / "b", ""),
        ],
        folder: [lambda: write_whole(folder, "text"), lambda: folder.mkdir()],
    }
    for culprit, attempts in cases.items():
        for attempt in attempts:
            with pytest.raises(OSError, match="Errno") as caught:
                attempt()
            line = disk_refusal(caught.value, FOLDER)
            assert line is not None
            assert line.startswith(f"{culprit} is in the way (")
            assert "\n" not in line


def test_a_refusal_without_a_name_gets_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    with file_size_limit(1000), pytest.raises(OSError, match="too large") as caught, whole(path) as partial:
        partial.write_bytes(bytes(2000))
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="other") as kept, naming(path):
        raise OSError(errno.ENOSPC, "full", "other")
    assert kept.value.filename == "other"
    with pytest.raises(OSError, match="no number") as plain, naming(path):
        raise OSError("no number")
    assert plain.value.filename is None


@pytest.mark.parametrize("full", ["temporary", "own", "both", "neither"])
def test_the_disk_that_is_named_is_the_one_that_is_full(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, own = tmp_path / "temporary", tmp_path / "own"
    temporary.mkdir()
    own.mkdir()
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(temporary))
    is_full = {temporary: full in ("temporary", "both"), own: full in ("own", "both")}
    monkeypatch.setattr(files, "_is_full", lambda path: is_full[path])
    line = disk_refusal(OSError(errno.ENOSPC, "full"), own)
    assert line is not None
    assert line.startswith(f"no space left at {temporary if full == 'temporary' else own} (")
    other = disk_refusal(OSError(errno.EIO, "broken"), own)
    assert other is not None
    assert str(own) in other


def test_a_disk_with_room_is_not_full(tmp_path: Path) -> None:
    assert not files._is_full(tmp_path / "not" / "there")


def test_whatever_goes_by_a_name_is_removed_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    for name in ("file", "folder", "link", "nowhere", "absent"):
        path = tmp_path / name
        match name:
            case "file":
                path.touch()
            case "folder":
                (path / "deep").mkdir(parents=True)
            case "link":
                path.symlink_to(tmp_path / "kept")
            case "nowhere":
                path.symlink_to(tmp_path / "absent")
        remove(path)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


@pytest.mark.parametrize(
    "words",
    [
        ("sweep", "tuning", "--preset=smoke", "--output={}/sweeps"),
        ("ship", "tuning", "--preset=desk", "--output={}/reference"),
        ("data", "show", "fashion_mnist", "--output={}/sheet.png"),
        ("report", "tuning", "--preset=desk"),
    ],
)
def test_every_verb_says_in_a_line_which_disk_is_full(words: tuple[str, ...], tmp_path: Path, cli: CommandLine) -> None:
    runs = () if words[0] == "data" else (f"--runs={tmp_path / 'runs'}",)
    with file_size_limit(100):
        said = cli.refuses(*(word.format(tmp_path) for word in words), *runs)
    assert str(tmp_path) in said
    assert "File too large" in said
