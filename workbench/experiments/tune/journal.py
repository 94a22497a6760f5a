"""Optuna's journal file (one JSON record per line), robust to a full disk or a kill in the middle of a record.

A truncated record is at the end of the file, without a newline. Optuna would append the next record to it, and could
read neither that line nor the following ones. Here, whoever takes the journal's lock to write removes it first. If a
version without this fix has already appended, the truncated record is blanked out, which does not move other records.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from workbench.core.config import UserError
from workbench.core.files import naming

BEGINNING = b'{"op_code":'
"""Keys of every record."""
LONGEST = 2**24
"""Number of bytes of the first line to look at."""


class Lock(JournalFileSymlinkLock):
    """The journal's own lock; its holder finds no truncated record at the end."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def acquire(self) -> bool:
        """Wait for the lock, then remove a last line without a newline."""
        acquired = super().acquire()
        try:
            cut_unfinished(self.path)
        except BaseException:
            self.release()
            raise
        return acquired


class Backend(JournalFileBackend):
    """A journal that is repaired when it is opened, and stays intact.

    Args:
        path: path of the file, created if it does not exist.
        say: called with a message about what was removed.

    Raises:
        UserError: if the file is not a journal (it is left unchanged), or a record in its middle cannot be read.
        OSError: if it cannot be read and written.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        # Optuna's lock is a link to the journal: relative to the lock's folder, it would be broken. If the journal
        # itself is a link, the lock is next to the link's target, where all processes find it.
        if path.is_symlink() and not path.exists():
            raise UserError(f"the Optuna journal {path} is a broken link: choose another with --storage")
        path = path.resolve()
        if path.exists():
            _require_journal(path)
        with path.open("ab"):
            pass
        lock = Lock(path)
        JournalFileSymlinkLock.acquire(lock)
        try:
            for dropped in mend(path):
                say(f"{path}: {dropped}")
        finally:
            lock.release()
        super().__init__(str(path), lock)
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append all records, or raise an error that names the file."""
        with naming(self.path):
            super().append_logs(logs)


def mend(path: Path) -> list[str]:
    """Make every line a valid record again, under the lock; return messages about what was dropped.

    Raises:
        UserError: if a record in the middle cannot be read: later records may depend on it.
    """
    dropped = []
    with path.open("r+b") as file:
        lines = file.read().splitlines(keepends=True)
        place = 0
        for number, line in enumerate(lines, 1):
            if not (line.endswith(b"\n") and is_record(line)):
                begins = _last_record(line)
                if begins is not None:
                    file.seek(place)
                    file.write(b" " * begins)
                    dropped.append(f"line {number} started with a truncated record, which was dropped")
                elif number == len(lines):
                    file.truncate(place)
                    dropped.append(f"its last record was truncated and was dropped; {number - 1} valid records remain")
                else:
                    raise UserError(
                        f"line {number} of the Optuna journal {path} cannot be read, and later lines may depend on it: "
                        "restore an earlier copy, or move it away (the results of its trials are cached)"
                    )
            place += len(line)
        file.flush()
        os.fsync(file.fileno())
    return dropped


def cut_unfinished(path: Path) -> None:
    """Remove a last line without a newline."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def is_record(line: bytes) -> bool:
    """Whether a line is a record of a journal."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("op_code"), int) and "worker_id" in record


def _last_record(line: bytes) -> int | None:
    """Where a complete record starts that was appended to a truncated one; None if there is none."""
    if not line.endswith(b"\n"):
        return None
    begins = line.find(BEGINNING, 1)
    while begins > 0:
        if is_record(line[begins:]):
            return begins
        begins = line.find(BEGINNING, begins + 1)
    return None


def _require_journal(path: Path) -> None:
    """Reject a file that is not a journal. A file with a single truncated record is a journal."""
    first = b""
    if path.is_file():
        with path.open("rb") as file:
            first = file.readline(LONGEST)
    cut_short = first.startswith(BEGINNING) or BEGINNING.startswith(first)
    if not path.is_file() or not (cut_short or is_record(first)):
        raise UserError(
            f"{path} is not an Optuna journal, and nothing was written to it: choose another file with --storage "
            "(a database is written as sqlite:///FILE)"
        )
