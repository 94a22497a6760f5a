"""A folder of image files."""

import functools
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from workbench.core.config import ADDED_LATER, NOT_IDENTITY, UserError
from workbench.core.foreign import readable
from workbench.core.places import data_root
from workbench.data.base import GivenPath, ImageSize, ImageSource, PictureChannels
from workbench.data.growing import ROWS_AT_ONCE, Facts, Rows, as_floats, in_file
from workbench.data.image_file import read_stored
from workbench.data.layouts import Layout, recognised
from workbench.data.picture import NEARLY_BLACK, OTHERWISE, WHITE, on_unit_scale, refuse_outside, white_of
from workbench.data.preparation import is_smaller, prepare, size_text
from workbench.data.reading import PICTURES, list_pictures, say

SUFFIXES = PICTURES
VERSION = 1
"""Of how images are prepared: part of the name of the file that keeps them."""
IN_MEMORY = 2**26
"""Values of prepared images, up to which they are kept in memory, and prepared by every process that needs them."""
TRAIN, VAL, TEST = ("train", "training"), ("val", "valid", "validation"), ("test", "testing")
"""Names of the folders of official splits, in any case."""


class ImageFolder(ImageSource):
    """Image files of any size in a folder and its subfolders, in any format that Pillow or tifffile reads.

    Images are centre-cropped to the shape of `size` and resized with antialiasing; transparency is blended with white.
    Subfolders `train` and `test`, if present, are the official splits, and other files are not read; without `test`,
    `val` is the official test split. The layouts of FFHQ, CelebA-HQ and ImageNet are recognised, with their own splits.
    More than 64 MB of prepared images are kept in a memory-mapped file under data/prepared, which is made once: N x
    height x width x channels bytes, and four times as many if a file has more than 8 bits per channel.
    """

    kind: Literal["image_folder"] = "image_folder"
    path: GivenPath = Field(description="the folder", json_schema_extra=NOT_IDENTITY)
    channels: PictureChannels = 3
    white: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="value of white in the files; none: inferred from dtype (255, 65535, floats 1) and values",
        json_schema_extra=ADDED_LATER,
    )

    def is_present(self) -> bool:
        return self.path.is_dir()

    def fetch(self) -> Path:
        if not self.is_present():
            raise UserError(f"{self.path} is not a folder: set data.path to a folder of images")
        return self.path

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        folder = self.fetch()
        layout = recognised(folder) or _official_splits(folder)
        for part, listing in zip(layout.parts, layout.listings, strict=True):
            if not listing.files:
                known = ", ".join(suffix.removeprefix(".") for suffix in PICTURES)
                raise UserError(f"{part} has no images ({known}): {listing.line(part)}")
        listing = sum(layout.listings[1:], layout.listings[0])

        def fill(rows: Rows) -> None:
            self._fill(rows, listing.files)
            _finish(rows)

        channels, height, width = self.image_shape
        shape = (len(listing.files), height, width, channels)
        if int(np.prod(shape)) <= IN_MEMORY:
            rows = Rows(shape)
            fill(rows)
            images, (notes, about_white) = rows.images, rows.facts.conversions
        else:
            key = hashlib.sha256(repr(self._known(folder, listing.files)).encode()).hexdigest()[:16]
            path = data_root() / "prepared" / f"image_folder-{key}.npy"
            images, (notes, about_white) = in_file(path, shape, fill)
        say("; ".join((listing.line(folder, Counter(notes).elements()), *about_white)) + layout.note)
        num_first = len(layout.listings[0].files)
        return images[:num_first], images[num_first:] if len(layout.parts) > 1 else None

    def _known(self, folder: Path, files: Sequence[Path]) -> tuple[Any, ...]:
        """Everything that the prepared images depend on: of files, when they were written."""
        stated = []
        for file in files:
            with readable(file, "the image"):
                status = file.stat()
            changed = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            stated.append((str(file.relative_to(folder)), *changed))
        return (VERSION, str(folder.resolve()), self.size, self.channels, self.white, stated)

    def _fill(self, rows: Rows, files: Sequence[Path]) -> None:
        """Read the files whose rows are not done yet."""
        facts = rows.facts
        read = functools.partial(_read, self.size, self.channels, self.white, facts.black_and_white)
        left = range(facts.done, len(files), ROWS_AT_ONCE)
        with _progress(len(files)) as update:
            for first in left:
                found = list(map(read, files[first : first + ROWS_AT_ONCE]))
                for row, (_, notes, dtype, peak, is_deep) in enumerate(found, start=first):
                    facts.notes += notes
                    if dtype is not None:
                        facts.peaks[dtype] = max(facts.peaks.get(dtype, 0.0), peak)
                        facts.num_binary += dtype == "uint8" and peak == 1
                        facts.deep += [row] if is_deep else []
                rows.put([prepared for prepared, *_ in found])
                update(facts.done)
        if not facts.black_and_white and _is_black_and_white(facts):
            rows.again()
            rows.facts.black_and_white = True
            self._fill(rows, files)


def _finish(rows: Rows) -> None:
    """The last conversions: white, which is inferred from all files of one dtype."""
    facts, images = rows.finishing(), rows.images
    for dtype, usual in WHITE.items():
        white, more = white_of(dtype, facts.peaks.get(dtype.name, 0.0))
        if dtype == np.uint16:
            for row in facts.deep:
                images[row] *= np.float32(usual / white)
        facts.about_white += [f"{note}{OTHERWISE}" for note in more]
    if images.dtype == np.float32:
        for first in range(0, len(images), ROWS_AT_ONCE):
            part = images[first : first + ROWS_AT_ONCE]
            part.clip(0, 1, out=part)
    if facts.peaks.get("uint8", 0.0) > 1:
        facts.notes += [NEARLY_BLACK] * facts.num_binary


def _is_black_and_white(facts: Facts) -> bool:
    return white_of(np.dtype(np.uint8), facts.peaks.get("uint8", 0.0))[0] == 1


Read = tuple[np.ndarray, tuple[str, ...], str | None, float, bool]


def _read(size: ImageSize, channels: int, given: float | None, black_and_white: bool, file: Path) -> Read:
    """(prepared image; conversions; dtype, if white is inferred from all such files; peak; whether it has 16 bits)."""
    stored, notes, stated = read_stored(file)
    if is_smaller(stored.shape[0], stored.shape[1], size):
        raise UserError(
            f"{file} is {stored.shape[0]} x {stored.shape[1]} pixels, smaller than size {size_text(size)}: "
            "remove it or lower data.size"
        )
    white, dtype, peak = given or stated, None, 0.0
    if white is None and stored.dtype in WHITE:
        dtype, peak = stored.dtype.name, float(stored.max())
        white = 1 if black_and_white and dtype == "uint8" else WHITE[stored.dtype]
    pixels = on_unit_scale(stored, white or 1)
    if pixels.dtype != np.uint8:
        refuse_outside(float(pixels.min()), float(pixels.max()), str(file), white or 1)
        # even if cropping and resizing give bytes: the folder has more than 8 bits
        return as_floats(prepare(pixels[None], size, channels, clip=False)[0]), notes, dtype, peak, dtype == "uint16"
    return prepare(pixels[None], size, channels, clip=False)[0], notes, dtype, peak, False


@contextmanager
def _progress(num_files: int) -> Iterator[Callable[[int], None]]:
    """A bar while many files are read."""
    if num_files <= ROWS_AT_ONCE:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(transient=True, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"preparing {num_files:,} images", total=num_files)
        yield lambda done: bar.update(task, completed=done)


def _official_splits(folder: Path) -> Layout:
    """Folders called train and test, or else the whole folder."""
    found = {path.name: path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}

    def called(names: Sequence[str]) -> Path | None:
        """The first folder of such a name, with lower case before upper case."""
        order = sorted((names.index(n.lower()), n != n.lower(), n) for n in found if n.lower() in names)
        return found[order[0][2]] if order else None

    train, val, test = called(TRAIN), called(VAL), called(TEST)
    if train is None or (test is None and val is None):
        named = train or val or test
        note = f"; {named.name} alone is not an official split; all images are split by content" if named else ""
        return _listed([folder], note)
    held_out = test or val
    assert held_out is not None
    unread = sorted(set(found) - {train.name, held_out.name})
    beside = f"; not read: {', '.join(unread)}" if unread else ""
    return _listed([train, held_out], f"; official splits: train {train.name}, test {held_out.name}{beside}")


def _listed(parts: list[Path], note: str) -> Layout:
    return Layout(parts, [list_pictures(part, recursive=True) for part in parts], note)
