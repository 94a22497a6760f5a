"""The folders of artifacts on the disk: names, locks, checksums, and the renames that make an artifact appear whole.

runs/stages/<stage>/<identity>/   config.json  provenance.json  and the stage's own files
runs/stages/<stage>/<identity>.partial/   work in progress, or what a killed run left to go on from
runs/stages/<stage>/<identity>.replaced/   an outdated or damaged one, while a better one takes its place
runs/stages/<stage>/<identity>.lock   held by the process that is at work; the kernel frees it when that process dies

An artifact is there or it is not: work is done under another name, and one rename, which is atomic, ends it. So a run
may be killed at any time, and what it leaves is told apart by names and checksums alone.
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
"""Names of the files that only a killed run needs to go on from; a finished stage is without them."""
REPLACED = ".replaced"
"""Ends the name of an outdated or damaged folder while a better one takes its place."""
POLL = 0.1
"""Seconds between two looks at what other processes are working on."""


def lock_path(target: Path) -> Path:
    """The file that is locked by whoever makes this artifact; it stays, and only the lock on it counts."""
    return target.with_suffix(".lock")


def is_free(target: Path) -> bool:
    """Whether no process is working on this artifact."""
    try:
        # by trying: a lock file alone says nothing, for a process that is killed leaves its own
        with FileLock(lock_path(target)).acquire(timeout=0):
            return True
    except Timeout:
        return False


def wait_for_one(targets: Iterable[Path]) -> None:
    """Until no process is working on one of these artifacts: it is there, or its process has died."""
    # by looking again and again: no notice of a lock that is freed reaches other machines on a shared disk
    while not any(is_free(target) for target in targets):
        time.sleep(POLL)


def unfinished(root: Path) -> list[Path]:
    """Folders of work that was begun, not finished, and that no process is working on, below a runs folder."""
    return sorted(path for path in root.glob(f"stages/*/*{PARTIAL}") if is_free(path))


def make_workable(partial: Path) -> None:
    """Make the folder of work in progress, or what a killed run left of it, one that may be written to.

    Whatever is none of ours goes: what a link leads to would be worked in or written over, a pipe be waited for.
    """
    if partial.is_symlink() or not partial.is_dir():
        remove(partial)
    partial.mkdir(exist_ok=True)
    for path in list(partial.rglob("*")):
        if not (path.is_dir() or path.is_file()) or path.is_symlink():
            path.unlink()


def put_in_place(partial: Path, target: Path) -> None:
    """Give finished work the artifact's name; an outdated or damaged artifact stands there until this moment."""
    replaced = target.with_suffix(REPLACED)
    for path in _scratch(partial):
        remove(path)
    if os.path.lexists(target):  # a folder cannot be renamed onto one that has files: it needs a step aside
        target.replace(replaced)
    partial.replace(target)
    with suppress(OSError):  # the next run tries again
        remove(replaced)


def settle(target: Path) -> None:
    """Clean up after a run that was killed between its last two renames, or could not delete what it had replaced.

    What was replaced is removed where there is something better, a finished one or one about to take its name; else it
    has its name again.
    """
    replaced = target.with_suffix(REPLACED)
    if not os.path.lexists(replaced):
        return
    if os.path.lexists(target) or is_finished(target.with_suffix(PARTIAL)):
        remove(replaced)
    else:
        replaced.replace(target)


def is_finished(partial: Path) -> bool:
    """Whether this is a folder of ours with its provenance, which is written last: all that is left is the rename."""
    return partial.is_dir() and not partial.is_symlink() and _damage(partial) is None


_checked: set[Path] = set()
"""Finished folders found sound by this process: a study asks for the same weights thousands of times."""


def damage(folder: Path) -> str | None:
    """What is wrong with a finished stage's files, in words; None if nothing is. Checked once a process."""
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
    if CONFIG not in expected:  # every stage has one
        return f"{PROVENANCE} was changed or cut"
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is not a file" if os.path.lexists(path) else f"{name} is missing"
        try:
            if _checksum(path) != checksum:
                return f"{name} was changed or cut"
        except OSError as error:  # such as a bad sector
            return f"{name} cannot be read ({error.strerror})"
    return None


def checksums(folder: Path) -> dict[str, str]:
    """The checksum of every file that stays, by path within the folder, each file put on the disk.

    Without the provenance, which holds them, and which an earlier run may have left here.
    """
    passing = {folder / PROVENANCE, *_scratch(folder)}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in passing)
    # before the provenance says that they are whole: after a power cut, files may be empty that were renamed in time
    for path in files:
        flush(path)
    return {str(p.relative_to(folder)): _checksum(p) for p in files}


def _scratch(folder: Path) -> list[Path]:
    return [path for pattern in SCRATCH for path in folder.rglob(pattern)]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]  # against damage, not against forgery
