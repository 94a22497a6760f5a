"""Optuna's journal outlives a record cut short, and a file that is no journal outlives Optuna."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from analytic_study import analytic_study, worked
from full_disk import file_size_limit
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from workbench.core.config import UserError
from workbench.core.files import disk_refusal
from workbench.experiments.tune import journal
from workbench.experiments.tune.journal import Backend, cut_unfinished, is_record
from workbench.experiments.tune.storage import JOURNAL, open_storage
from workbench.experiments.tune.tune import Options, tune
from workbench.stages.runtime import Runtime


class Say(list[str]):
    """What was said."""

    def __call__(self, text: str) -> None:
        self.append(text)


def search(root: Path, trials: int, storage: Path | None = None) -> None:
    given = None if storage is None else str(storage)
    tune("analytic", analytic_study(), "smoke", {}, Options(trials, sampler="tpe", storage=given), Runtime(root))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A runs folder in which five trials were made, and their journal."""
    root = tmp_path_factory.mktemp("five")
    search(root, 5)
    return root, (root / "studies" / "analytic" / "smoke" / JOURNAL).read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "the.journal"


def trials(path: Path) -> list[int]:
    """The numbers of the trials, as Optuna itself reads them."""
    study = optuna.load_study(
        study_name="analytic/smoke/analytic", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    return [trial.number for trial in study.trials]


def append(path: Path, value: int, say: Say | None = None) -> None:
    storage = JournalStorage(Backend(path, Say() if say is None else say))
    study = optuna.load_study(study_name="analytic/smoke/analytic", storage=storage)
    study.set_user_attr("value", value)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_journal_cut_at_any_byte_goes_on(written: tuple[Path, bytes], path: Path) -> None:
    whole = written[1]
    begins = whole.index(b"\n") + 1
    for length in range(begins, len(whole), max(1, len(whole) // 25)):
        path.write_bytes(whole[:length])
        good, torn = whole[:length].rsplit(b"\n", 1)
        say = Say()
        append(path, length, say)
        content = path.read_bytes()
        assert content.startswith(good + b"\n" + b'{"op_code":')
        assert all(is_record(line) for line in lines_of(path))
        assert json.loads(lines_of(path)[-1])["user_attr"] == {"value": length}
        assert bool(say) == bool(torn)


def test_what_is_cut_off_is_said_in_a_line(written: tuple[Path, bytes], path: Path) -> None:
    path.write_bytes(written[1][:-10])
    say = Say()
    Backend(path, say)
    good = written[1].count(b"\n") - 1
    assert say == [f"{path}: its last record was truncated and was dropped; {good} valid records remain"]
    assert path.read_bytes() == b"".join(written[1].splitlines(keepends=True)[:-1])


@pytest.mark.parametrize("garbage", [b"\0" * 300, b"\xff\xfe", b"{}\n", b'{"op_code"\n', b"12\n"])
def test_garbage_at_the_end_is_cut_off(written: tuple[Path, bytes], path: Path, garbage: bytes) -> None:
    path.write_bytes(written[1] + garbage)
    append(path, 1)
    assert trials(path) == [0, 1, 2, 3, 4]


def test_a_record_that_was_appended_to_one_cut_short_is_read(written: tuple[Path, bytes], path: Path) -> None:
    *first, last, another = written[1].splitlines(keepends=True)
    torn = last[: len(last) // 2]
    path.write_bytes(b"".join(first) + torn + last + another)
    say = Say()
    append(path, 1, say)
    assert say == [f"{path}: line {len(first) + 1} started with a truncated record, which was dropped"]
    assert trials(path) == [0, 1, 2, 3, 4]
    assert lines_of(path)[len(first)] == b" " * len(torn) + last, "no other record has moved"


def test_a_record_in_the_middle_that_cannot_be_read_is_named_and_nothing_is_changed(
    written: tuple[Path, bytes], path: Path
) -> None:
    lines = written[1].splitlines(keepends=True)
    lines[3] = b"?" + lines[3][1:]
    content = b"".join(lines)
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"line 4 of the Optuna journal {path} cannot be read"):
        Backend(path, Say())
    assert path.read_bytes() == content
    assert not os.path.lexists(f"{path}.lock")


def test_a_record_that_says_what_cannot_be_is_named(written: tuple[Path, bytes], path: Path) -> None:
    lines = written[1].splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if json.loads(line)["op_code"] == 4)
    lines[place] = json.dumps(json.loads(lines[place]) | {"op_code": 99}).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match=f"{path} is not a readable Optuna journal") as raised:
        open_storage(str(path), path.parent, Say())
    assert "\n" not in str(raised.value)


def test_what_another_process_tears_while_we_are_at_it_is_cut_off(written: tuple[Path, bytes], path: Path) -> None:
    path.write_bytes(written[1])
    storage = JournalStorage(Backend(path, Say()))
    study = optuna.load_study(study_name="analytic/smoke/analytic", storage=storage)
    with path.open("ab") as file:
        file.write(b'{"op_code":2,"worker')
    study.set_user_attr("value", 1)
    assert all(is_record(line) for line in lines_of(path))
    assert study.user_attrs["value"] == 1


def test_a_full_disk_is_told_with_the_journal_and_loses_nothing(written: tuple[Path, bytes], path: Path) -> None:
    path.write_bytes(written[1])
    study = optuna.load_study(study_name="analytic/smoke/analytic", storage=JournalStorage(Backend(path, Say())))
    with file_size_limit(len(written[1]) + 40), pytest.raises(OSError, match="too large") as caught:
        study.set_user_attr("value", "long" * 20)
    assert caught.value.errno == errno.EFBIG
    assert str(path) in str(disk_refusal(caught.value, Path("runs")))
    assert len(path.read_bytes()) == len(written[1]) + 40
    append(path, 2)
    assert trials(path) == [0, 1, 2, 3, 4]


OTHERS = {
    "notes.txt": b"my notes\n",
    "no newline": b"my notes",
    "settings.json": b'{"settings": {"seed": 3}}\n',
    "database": b"SQLite format 3\x00" + bytes(range(256)),
    "number": b"3\n",
    "newline": b"\n",
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_file_that_is_no_journal_is_refused_and_not_touched(tmp_path: Path, path: Path, case: str) -> None:
    path.write_bytes(OTHERS[case])
    before = path.stat().st_mtime_ns
    with pytest.raises(UserError, match=f"{path} is not an Optuna journal, and nothing was written to it") as error:
        search(tmp_path / "runs", 2, path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == OTHERS[case]
    assert path.stat().st_mtime_ns == before
    assert not worked(tmp_path / "runs")


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def a_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("thing", [Path.mkdir, a_fifo, a_link_to_nowhere, a_loop])
def test_what_is_no_file_is_refused_in_a_line(tmp_path: Path, path: Path, thing: Any) -> None:
    thing(path)
    with pytest.raises(UserError, match=str(path)) as error:
        search(tmp_path / "runs", 2, path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "nowhere").exists()


def test_a_journal_that_may_not_be_written_is_refused_in_a_line(read_only: Path, written: tuple[Path, bytes]) -> None:
    with pytest.raises(UserError, match=f"{read_only / 'a.journal'} cannot be opened: Permission denied"):
        open_storage(str(read_only / "a.journal"), read_only, Say())


def test_a_journal_by_a_link_is_locked_beside_the_file(written: tuple[Path, bytes], path: Path) -> None:
    path.write_bytes(written[1])
    link = path.parent / "deep" / "link"
    link.parent.mkdir()
    link.symlink_to(path)
    append(link, 1)
    assert link.is_symlink()
    assert trials(path) == [0, 1, 2, 3, 4]
    assert Backend(link, Say())._lock._lock_file == f"{path}.lock"  # type: ignore[attr-defined]


def test_the_lock_of_a_killed_process_is_broken_though_the_path_is_relative(
    written: tuple[Path, bytes], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna looks at the age of what its lock, a link, leads to: from another folder it led nowhere, for ever."""
    path.write_bytes(written[1])
    monkeypatch.chdir(path.parent.parent)
    relative = path.relative_to(path.parent.parent)
    backend = Backend(relative, Say())
    code = f"""
import os
from pathlib import Path
from workbench.experiments.tune.journal import Lock
Lock(Path({str(path)!r})).acquire()
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(journal.__file__).parents[3])
    assert path.with_name(f"{path.name}.lock").stat().st_size == len(written[1])
    backend._lock.grace_period = 1  # type: ignore[attr-defined]
    backend.append_logs([])
    assert not os.path.lexists(f"{path}.lock")


def test_only_a_line_without_an_end_is_unfinished(path: Path) -> None:
    for content, expected in [(b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"ab", b""), (b"a\n\n", b"a\n\n")]:
        path.write_bytes(content)
        cut_unfinished(path)
        assert path.read_bytes() == expected
