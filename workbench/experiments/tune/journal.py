"""Optuna's journal file, a JSON record a line, that outlives a full disk or a kill in the middle of a record.

A record that was cut short stands at the end without its newline. Optuna appends the next to it, and can read neither
that line nor what follows. Here whoever takes the journal's lock to write cuts it off first; where a version without
this care has written on, what was cut short is blanked out, which moves no other record.
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
"""Of every record."""
LONGEST = 2**24
"""Bytes of the first line that are looked at."""


class Lock(JournalFileSymlinkLock):
    """The journal's own lock; whoever has it finds no record cut short at the end."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def acquire(self) -> bool:
        """Wait for the lock, then cut off a last line without its newline."""
        acquired = super().acquire()
        try:
            cut_unfinished(self.path)
        except BaseException:
            self.release()
            raise
        return acquired


class Backend(JournalFileBackend):
    """A journal that is mended as it is opened, and stays so.

    Args:
        path: of the file, made if it is not there.
        say: told what was cut off.

    Raises:
        UserError: if the file is no journal, to which nothing is written, or a record in its middle cannot be read.
        OSError: if it cannot be read and written.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        # Optuna's lock is a link to the journal: relative to the lock's folder, it would lead nowhere. Of a journal
        # that is a link itself, the lock lies beside the file, where all find it.
        if path.is_symlink() and not path.exists():
            raise UserError(f"the Optuna journal {path} is a link that leads nowhere: name another by --storage")
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
        """Append records, all of them or an error that names the file."""
        with naming(self.path):
            super().append_logs(logs)


def mend(path: Path) -> list[str]:
    """Make every line a record again, under the lock; what was dropped, in words.

    Raises:
        UserError: if a record in the middle cannot be read: what follows may rest on it.
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
                    dropped.append(f"line {number} began with a record cut short, which is dropped")
                elif number == len(lines):
                    file.truncate(place)
                    dropped.append(f"its last record was cut short and is dropped; {number - 1} good ones go on")
                else:
                    raise UserError(
                        f"line {number} of the Optuna journal {path} cannot be read, and what follows may rest on it: "
                        "put an earlier copy in its place, or move it away (what its trials computed is cached)"
                    )
            place += len(line)
        file.flush()
        os.fsync(file.fileno())
    return dropped


def cut_unfinished(path: Path) -> None:
    """Cut off a last line without its newline."""
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
    """Where a whole record begins that was appended to one cut short; None: there is none."""
    if not line.endswith(b"\n"):
        return None
    begins = line.find(BEGINNING, 1)
    while begins > 0:
        if is_record(line[begins:]):
            return begins
        begins = line.find(BEGINNING, begins + 1)
    return None


def _require_journal(path: Path) -> None:
    """Refuse a file that is something else. One whose only record was cut short is a journal."""
    first = b""
    if path.is_file():
        with path.open("rb") as file:
            first = file.readline(LONGEST)
    cut_short = first.startswith(BEGINNING) or BEGINNING.startswith(first)
    if not path.is_file() or not (cut_short or is_record(first)):
        raise UserError(
            f"{path} is no Optuna journal, and nothing was written to it: name another file by --storage "
            "(a database is named sqlite:///FILE)"
        )
