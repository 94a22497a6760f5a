"""The folders of artifacts on disk: names, locks, checksums, and the renames that make an artifact appear complete.

runs/stages/<stage>/<identity>/   config.json, provenance.json and the stage's own files
runs/stages/<stage>/<identity>.partial/   work in progress, or left by a killed run to resume from
runs/stages/<stage>/<identity>.replaced/   an outdated or damaged artifact that is being replaced
runs/stages/<stage>/<identity>.lock   held by the process at work; the kernel releases it when that process dies

An artifact is either complete or absent: work is done under another name and ends with one atomic rename. So a run may
be killed at any time, and its leftovers are identified by names and checksums alone.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.core.files import PARTIAL, flush, remove
from workbench.stages.provenance import PROVENANCE, read_provenance

CONFIG = "config.json"
SCRATCH = ("*.ckpt", f"*{PARTIAL}")
"""Names of files that only serve to resume a killed run; a finished stage does not have them."""
REPLACED = ".replaced"
"""Suffix of an outdated or damaged folder while it is being replaced."""
POLL = 0.1
"""Seconds between two checks of what other processes are working on."""


def lock_path(target: Path) -> Path:
    """The lock file of this artifact; the file stays, and only the lock on it counts."""
    return target.with_suffix(".lock")


def is_free(target: Path) -> bool:
    """Whether no process is working on this artifact."""
    try:
        # by trying: a lock file alone says nothing, because a killed process leaves its own
        with FileLock(lock_path(target)).acquire(timeout=0):
            return True
    except Timeout:
        return False


def wait_for_one(targets: Iterable[Path]) -> None:
    """Wait until no process is working on one of these artifacts: it exists, or its process has died."""
    # by polling: on a shared disk, other machines are not notified of a released lock
    while not any(is_free(target) for target in targets):
        time.sleep(POLL)


def unfinished(root: Path) -> list[Path]:
    """Folders of unfinished work that no process is working on, below a runs folder."""
    return sorted(path for path in root.glob(f"stages/*/*{PARTIAL}") if is_free(path))


def make_workable(partial: Path) -> None:
    """Make the folder of work in progress, or what a killed run left of it, writable.

    Foreign objects are removed: work could follow a link elsewhere, or wait for a pipe.
    """
    if partial.is_symlink() or not partial.is_dir():
        remove(partial)
    partial.mkdir(exist_ok=True)
    for path in list(partial.rglob("*")):
        if not (path.is_dir() or path.is_file()) or path.is_symlink():
            path.unlink()


def put_in_place(partial: Path, target: Path) -> None:
    """Give finished work the artifact's name; until then, an outdated or damaged artifact keeps it."""
    replaced = target.with_suffix(REPLACED)
    for path in _scratch(partial):
        remove(path)
    if os.path.lexists(target):  # a folder cannot replace one that has files by renaming: move that aside first
        target.replace(replaced)
    partial.replace(target)
    with suppress(OSError):  # the next run tries again
        remove(replaced)


def settle(target: Path) -> None:
    """Clean up after a run that was killed between its last two renames, or could not delete what it replaced.

    A replaced artifact is deleted if there is a better one, finished or about to take its name; otherwise it gets its
    name back.
    """
    replaced = target.with_suffix(REPLACED)
    if not os.path.lexists(replaced):
        return
    if os.path.lexists(target) or is_finished(target.with_suffix(PARTIAL)):
        remove(replaced)
    else:
        replaced.replace(target)


def is_finished(partial: Path) -> bool:
    """Whether this is our folder with its provenance, which is written last: only the rename is left to do."""
    return partial.is_dir() and not partial.is_symlink() and _damage(partial) is None


_checked: set[Path] = set()
"""Finished folders verified by this process: a study requests the same weights thousands of times."""


def damage(folder: Path) -> str | None:
    """The problem with a finished stage's files, in words; None if there is none. Checked once per process."""
    if folder in _checked:
        return None
    problem = _damage(folder)
    if problem is None:
        _checked.add(folder)
    return problem


def _damage(folder: Path) -> str | None:
    if not folder.is_dir():
        return "it is not a folder"
    try:
        expected = dict(read_provenance(folder)["files"])
    except (KeyError, TypeError, ValueError):
        return f"{PROVENANCE} cannot be read"
    if CONFIG not in expected:  # every stage has a config
        return f"{PROVENANCE} was changed or truncated"
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is not a file" if os.path.lexists(path) else f"{name} is missing"
        try:
            if _checksum(path) != checksum:
                return f"{name} was changed or truncated"
        except OSError as error:  # e.g. a bad sector
            return f"{name} cannot be read ({error.strerror})"
    return None


def checksums(folder: Path) -> dict[str, str]:
    """The checksum of every permanent file, by path within the folder; each file is flushed to disk.

    The provenance is excluded: it holds the checksums, and may be left from an earlier run.
    """
    passing = {folder / PROVENANCE, *_scratch(folder)}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in passing)
    # before the provenance marks them as complete: after a power failure, renamed files may be empty
    for path in files:
        flush(path)
    return {str(p.relative_to(folder)): _checksum(p) for p in files}


def _scratch(folder: Path) -> list[Path]:
    return [path for pattern in SCRATCH for path in folder.rglob(pattern)]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]  # detects damage, not forgery
