"""Prepared images of a data set, kept on disk: decoding 36,000 JPEG files takes each process ten seconds otherwise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from workbench.core.files import naming, whole, write_whole
from workbench.data.download import file_digest


def prepared(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in an .npy file, memory-mapped and read-only; made now if it is missing or damaged.

    The file's SHA-256 lies next to it, and is checked whenever the file has changed.

    Args:
        path: the file. Its name must identify everything that the array depends on.
        make: computes the array.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), FileLock(path.with_suffix(".lock")):
        if not is_sound(path):
            with whole(path) as temporary, temporary.open("wb") as file:
                np.save(file, make(), allow_pickle=False)
            record(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def record(path: Path, **more: Any) -> None:
    """Write the file's digest, and more about it, next to it."""
    known = {"sha256": file_digest(path), "written": _written(path), **more}
    write_whole(path.with_suffix(".json"), json.dumps(known))


def is_sound(path: Path) -> bool:
    """Whether the file is as it was recorded; its digest is computed only if it has been written since."""
    try:
        known = json.loads(path.with_suffix(".json").read_text())
        if known.get("written") == _written(path):
            return True
        if known.get("sha256") != file_digest(path):
            return False
        write_whole(path.with_suffix(".json"), json.dumps({**known, "written": _written(path)}))
    except (OSError, ValueError, AttributeError):
        return False
    return True


def _written(path: Path) -> list[int]:
    """Size and time of the file's last change."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
