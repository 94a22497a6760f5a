"""A large array that is filled row by row in a file, so that neither memory nor a killed process limits it."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock

from workbench.core.files import naming, write_whole
from workbench.data.prepared import is_sound, record

ROWS_AT_ONCE = 512
"""After so many rows, a killed process need not make them again."""


Conversions = tuple[dict[str, int], list[str]]
"""(how many images had each conversion, conversions of all images together)"""


@dataclass
class Facts:
    """What is known of the images of the rows that are done; all of it is needed for the last conversions.

    Attributes:
        done: number of rows.
        notes: conversions, one for each image that needed it.
        peaks: the largest stored value by dtype.
        deep: rows of 16-bit images.
        num_binary: number of images of bytes that are 0 and 1.
        black_and_white: whether such bytes are read as black and white.
        finishing: whether the last conversions have begun, after which rows are what they were, or are not.
        about_white: conversions of all images together.
    """

    done: int = 0
    notes: list[str] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    deep: list[int] = field(default_factory=list)
    num_binary: int = 0
    black_and_white: bool = False
    finishing: bool = False
    about_white: list[str] = field(default_factory=list)

    @property
    def conversions(self) -> Conversions:
        """What the user is told."""
        return dict(Counter(self.notes)), self.about_white


class Rows:
    """(N, height, width, channels) images in memory: uint8, or float32 once one of them has more than 8 bits."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape, self.facts = tuple(shape), Facts()
        self.images: np.ndarray = self._new(np.uint8)

    def put(self, images: Sequence[np.ndarray]) -> None:
        """Fill the next rows."""
        first = self.facts.done
        for row, image in enumerate(images, start=first):
            if image.dtype == np.float32 and self.images.dtype == np.uint8:
                self._to_floats()
            self.images[row] = image if image.dtype == self.images.dtype else as_floats(image)
        self.facts.done += len(images)
        self._keep()

    def again(self) -> None:
        """Forget the rows: they have to be made in another way."""
        self.facts = Facts()
        self.images = self._new(np.uint8)

    def finishing(self) -> Facts:
        """The facts of all rows, which are now converted for the last time."""
        self.facts.finishing = True
        self._keep()
        return self.facts

    def _new(self, dtype: type) -> np.ndarray:
        return np.empty(self.shape, dtype)

    def _to_floats(self) -> None:
        self.images = as_floats(self.images)

    def _keep(self) -> None:
        """Nothing: they are in memory."""


class RowsInFile(Rows):
    """The same in a file, with what a later process needs to go on beside it.

    Args:
        shape: of the array.
        path: the file of the finished array; rows are in others beside it until then.
    """

    def __init__(self, shape: Sequence[int], path: Path) -> None:
        self.path, self.state = path, path.with_suffix(".partial.json")
        self.shape = tuple(shape)
        left = self._left_over()
        self.facts, self.images = (Facts(), self._new(np.uint8)) if left is None else left

    def _left_over(self) -> tuple[Facts, np.ndarray] | None:
        """What an earlier process has done; None: nothing that can be used."""
        try:
            kept = json.loads(self.state.read_text(encoding="utf-8"))
            facts = Facts(**kept["facts"])
            images = np.load(self._file(np.dtype(kept["dtype"])), mmap_mode="r+", allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        is_usable = images.shape == self.shape and facts.done <= len(images) and not facts.finishing
        return (facts, images) if is_usable else None

    def finish(self) -> None:
        """Give the file its name."""
        assert isinstance(self.images, np.memmap)
        self.images.flush()
        source = self._file(self.images.dtype)
        del self.images
        source.replace(self.path)
        for left in (self._file(np.dtype(np.uint8)), self._file(np.dtype(np.float32)), self.state):
            left.unlink(missing_ok=True)

    def _file(self, dtype: np.dtype) -> Path:
        return self.path.with_suffix(f".{dtype.name}.partial")

    def _new(self, dtype: type) -> np.ndarray:
        file = self._file(np.dtype(dtype))
        array = np.lib.format.open_memmap(file, "w+", dtype, self.shape)
        with file.open("r+b") as opened:  # now, or a full disk would be a bus error later
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
        return array

    def again(self) -> None:
        self.state.unlink(missing_ok=True)
        super().again()

    def _to_floats(self) -> None:
        floats = self._new(np.float32)
        for first in range(0, self.facts.done + ROWS_AT_ONCE, ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            floats[part] = as_floats(self.images[part])
        self.images = floats

    def _keep(self) -> None:
        assert isinstance(self.images, np.memmap)
        self.images.flush()
        kept = {"facts": asdict(self.facts), "dtype": self.images.dtype.name}
        write_whole(self.state, json.dumps(kept))


def in_file(path: Path, shape: Sequence[int], fill: Callable[[Rows], None]) -> tuple[np.ndarray, Conversions]:
    """The array in a file, memory-mapped and read-only, and what was converted when it was made.

    It is made now if it is missing or damaged, from where a killed process left it.

    Args:
        path: the file. Its name must identify everything that the array depends on.
        shape: of the array.
        fill: fills the rows that are not done, and completes their facts.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), nullcontext() if is_sound(path) else FileLock(path.with_suffix(".lock")):
        if not is_sound(path):
            rows = RowsInFile(shape, path)
            fill(rows)
            converted = rows.facts.conversions
            rows.finish()
            record(path, notes=converted[0], about_white=converted[1])
        known = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return np.load(path, mmap_mode="r", allow_pickle=False), (known["notes"], known["about_white"])


def as_floats(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 on [0, 1]; float32 ones as they are."""
    return images if images.dtype == np.float32 else images / np.float32(255)
