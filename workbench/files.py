"""Writing so that neither a kill nor a full disk leaves half a file under its name, and what a disk's refusal means."""

import errno
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

PARTIAL = ".partial"
"""Ends the name of a file or folder that is not whole yet."""
UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError, MemoryError),
    *(OverflowError, RecursionError, zipfile.BadZipFile, zlib.error),
)
"""What readers of JSON, Parquet and .npz files raise over a damaged one: they have no error in common."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives the place to write a file that then appears at `path`, whole or not at all.

    One writer at a time: hold the lock of the folder. What a kill leaves at that place, the next writer overwrites.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        flush(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def flush(path: Path) -> None:
    """Put a file on the disk: only then do network file systems and quotas say that there is no room for it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def locked(folder: Path) -> FileLock:
    """The lock of a folder of results, as a context: processes that finish one study at once write one by one.

    The kernel frees it when its process dies; the file `.lock` stays and means nothing.
    """
    return FileLock(folder / ".lock")


def disk_refusal(error: BaseException, folder: Path) -> str | None:
    """What the disk refused, in a line that says what to do; None: the error is of another kind.

    Args:
        folder: where the work writes, named if the error names no path.
    """
    number = error.errno if isinstance(error, OSError) else _number_in(error)
    if number is None or number not in FULL | REFUSED:
        return None
    path = (isinstance(error, OSError) and (error.filename2 or error.filename)) or folder
    what = "no room left at" if number in FULL else "cannot use"
    remedy = "make room" if number in FULL else "mend that"
    return (
        f"{what} {path} ({os.strerror(number)}): {remedy} and run the same command again, it goes on where it stopped"
    )


def _number_in(error: BaseException) -> int | None:
    """The errno in the words of an error from Rust: safetensors' own errors are no OSErrors."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
