"""Prepared images of a data set, kept on disk: decoding 36,000 JPEG files takes each process ten seconds otherwise."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from workbench.core.files import naming, whole, write_whole
from workbench.data.download import file_digest


def prepared(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in an .npy file, memory-mapped and read-only; made now if it is missing or damaged.

    The file's SHA-256 lies next to it, and is checked whenever the file is opened.

    Args:
        path: the file. Its name must identify everything that the array depends on.
        make: computes the array.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), FileLock(path.with_suffix(".lock")):
        if not _is_sound(path):
            with whole(path) as temporary, temporary.open("wb") as file:
                np.save(file, make(), allow_pickle=False)
            write_whole(_record(path), json.dumps({"sha256": file_digest(path)}))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _is_sound(path: Path) -> bool:
    try:
        return json.loads(_record(path).read_text()) == {"sha256": file_digest(path)}
    except (OSError, ValueError):
        return False


def _record(path: Path) -> Path:
    return path.with_suffix(".json")
