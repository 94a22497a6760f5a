"""Writing files so that neither a kill nor a full disk leaves a partial one, and explaining disk errors."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

PARTIAL = ".partial"
"""Suffix of a file or folder that is not complete yet."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG}
IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP}
"""Errors for a file where a folder should be, or the reverse."""
NO_ROOM = 64 * 1024
"""Bytes; a disk with less free space counts as full."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; the file then appears at `path`, complete or not at all.

    One writer at a time: hold the folder's lock. The next writer overwrites what a killed process left behind.
    """
    partial = path.with_name(path.name + PARTIAL)
    if partial.is_symlink():  # not ours: writing would follow the link
        partial.unlink()
    try:
        with naming(path):
            yield partial
            flush(partial)
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add this path to disk errors without a file name, as `write` raises them."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(_place(error.errno, path))
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text file, completely or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def flush(path: Path) -> None:
    """Flush a file to the disk: only then do network file systems and quotas report that there is no space."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def locked(folder: Path) -> FileLock:
    """The lock of a results folder, as a context manager: processes that finish the same study write one at a time.

    The kernel releases it when its process dies; the file `.lock` stays and has no meaning by itself.
    """
    return FileLock(folder / ".lock")


def disk_refusal(error: BaseException, folder: Path) -> str | None:
    """A one-line message for a disk error, with the remedy; None if the error is of another kind.

    Args:
        folder: where the work writes; used if the error names no path and no other disk is full.
    """
    number = error.errno if isinstance(error, OSError) else _number_in(error)
    if number is None or number not in FULL | REFUSED | IN_THE_WAY:
        return None
    path = (isinstance(error, OSError) and (error.filename2 or error.filename)) or _place(number, folder)
    if number in IN_THE_WAY:
        # the path goes through a file: name the file
        path = next((above for above in Path(path).parents if above.is_file()), path)
        return f"{path} is in the way ({os.strerror(number)}): move it away and run the same command again"
    what = "no space left at" if number in FULL else "cannot use"
    remedy = "make room" if number in FULL else "mend that"
    return f"{what} {path} ({os.strerror(number)}): {remedy} and run the same command again to resume"


def remove(path: Path) -> None:
    """Delete a path: a file, a link, or a folder with its contents. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _place(number: int, path: Path) -> Path:
    """Where the space has run out: the temporary folder if its disk is full and that of `path` is not, else `path`."""
    with suppress(OSError):
        temporary = Path(tempfile.gettempdir())
        if number in FULL and _is_full(temporary) and not _is_full(path):
            return temporary
    return path


def _is_full(path: Path) -> bool:
    """Whether the disk of a path is full."""
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    disk = os.statvfs(there)
    return disk.f_bavail * disk.f_frsize < NO_ROOM or (disk.f_files > 0 and disk.f_favail == 0)


def _number_in(error: BaseException) -> int | None:
    """The errno in the message of an error from Rust: safetensors' errors are not OSErrors."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
