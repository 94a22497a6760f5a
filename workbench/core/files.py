"""Writing so that neither a kill nor a full disk leaves half a file under its name, and what a disk's refusal means."""

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
"""Ends the name of a file or folder that is not whole yet."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG}
IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP}
"""A file where a folder should be, or the reverse."""
NO_ROOM = 64 * 1024
"""Bytes; a disk with less is the one that is full."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives the place to write a file that then appears at `path`, whole or not at all.

    One writer at a time: hold the lock of the folder. What a kill leaves at that place, the next writer overwrites.
    """
    partial = path.with_name(path.name + PARTIAL)
    if partial.is_symlink():  # none of ours: it would be written through
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
    """Give the disk's refusals a name where they have none, as those of `write` have not: this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(_place(error.errno, path))
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
        folder: where the work writes, named if the error names no path and no other disk is seen to be full.
    """
    number = error.errno if isinstance(error, OSError) else _number_in(error)
    if number is None or number not in FULL | REFUSED | IN_THE_WAY:
        return None
    path = (isinstance(error, OSError) and (error.filename2 or error.filename)) or _place(number, folder)
    if number in IN_THE_WAY:
        # a path through a file: the file is meant
        path = next((above for above in Path(path).parents if above.is_file()), path)
        return f"{path} is in the way ({os.strerror(number)}): move it away and run the same command again"
    what = "no room left at" if number in FULL else "cannot use"
    remedy = "make room" if number in FULL else "mend that"
    return (
        f"{what} {path} ({os.strerror(number)}): {remedy} and run the same command again, it goes on where it stopped"
    )


def remove(path: Path) -> None:
    """Delete what goes by a name: a file, a link, or a folder with all that is in it. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _place(number: int, path: Path) -> Path:
    """Where there is no room: the temporary folder if its disk is full and that of `path` is not, else `path`."""
    with suppress(OSError):
        temporary = Path(tempfile.gettempdir())
        if number in FULL and _is_full(temporary) and not _is_full(path):
            return temporary
    return path


def _is_full(path: Path) -> bool:
    """Whether the disk of a path has no room left."""
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    disk = os.statvfs(there)
    return disk.f_bavail * disk.f_frsize < NO_ROOM or (disk.f_files > 0 and disk.f_favail == 0)


def _number_in(error: BaseException) -> int | None:
    """The errno in the words of an error from Rust: safetensors' own errors are no OSErrors."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
