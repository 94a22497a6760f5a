"""A folder of image files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from workbench.core.config import ADDED_LATER, NOT_IDENTITY, UserError
from workbench.core.places import at_home
from workbench.data.base import ImageSource, PictureChannels
from workbench.data.image_file import read_stored
from workbench.data.picture import NEARLY_BLACK, OTHERWISE, WHITE, on_unit_scale, refuse_outside, white_of
from workbench.data.preparation import is_smaller, prepare, size_text
from workbench.data.reading import PICTURES, list_pictures, say

SUFFIXES = PICTURES
TRAIN, VAL, TEST = ("train", "training"), ("val", "valid", "validation"), ("test", "testing")
"""Names of the folders of official splits, in any case."""


class ImageFolder(ImageSource):
    """Image files of any size in a folder and its subfolders, in any format that Pillow or tifffile reads.

    Images are centre-cropped to the shape of `size` and resized with antialiasing; transparency is blended with white.
    Subfolders `train` and `test`, if present, are the official splits, and other files are not read; without `test`,
    `val` is the official test split. Prepared images are kept in memory: N x height x width x channels bytes, and four
    times as many if a file has more than 8 bits per channel.
    """

    kind: Literal["image_folder"] = "image_folder"
    path: Path = Field(description="the folder", json_schema_extra=NOT_IDENTITY)
    channels: PictureChannels = 3
    white: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="value of white in the files; none: inferred from dtype (255, 65535, floats 1) and values",
        json_schema_extra=ADDED_LATER,
    )

    @field_validator("path", mode="before")
    @classmethod
    def _text(cls, path: Any) -> Any:
        # a folder may be called 2024
        return at_home(str(path)) if isinstance(path, int | str | Path) else path

    def is_present(self) -> bool:
        return self.path.is_dir()

    def fetch(self) -> Path:
        if not self.is_present():
            raise UserError(f"{self.path} is not a folder: set data.path to a folder of images")
        return self.path

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        folder = self.fetch()
        parts, about_splits = _official_splits(folder)
        listings = [list_pictures(part, recursive=True) for part in parts]
        for part, listing in zip(parts, listings, strict=True):
            if not listing.files:
                known = ", ".join(suffix.removeprefix(".") for suffix in PICTURES)
                raise UserError(f"{part} has no images ({known}): {listing.line(part)}")
        listing = sum(listings[1:], listings[0])
        images, notes, about_white = self._read(listing.files)
        say("; ".join((listing.line(folder, notes), *about_white)) + about_splits)
        num_first = len(listings[0].files)
        return images[:num_first], images[num_first:] if len(parts) > 1 else None

    def _read(self, files: Sequence[Path], black_and_white: bool = False) -> tuple[np.ndarray, list[str], list[str]]:
        """(prepared images; conversions within files; conversions of white across all files).

        Args:
            black_and_white: bytes are 0 and 1, as a first pass found.
        """
        channels, height, width = self.image_shape
        images = np.empty((len(files), height, width, channels), np.uint8)
        notes: list[str] = []
        peaks: dict[np.dtype, float] = dict.fromkeys(WHITE, 0.0)
        deep = []
        num_binary = 0
        for row, file in enumerate(files):
            stored, more, stated = read_stored(file)
            notes += more
            if is_smaller(stored.shape[0], stored.shape[1], self.size):
                raise UserError(
                    f"{file} is {stored.shape[0]} x {stored.shape[1]} pixels, smaller than size "
                    f"{size_text(self.size)}: remove it or lower data.size"
                )
            white = self.white or stated
            if white is None and stored.dtype in WHITE:
                peaks[stored.dtype] = max(peaks[stored.dtype], float(stored.max()))
                num_binary += stored.dtype == np.uint8 and stored.max() == 1
                white = 1 if black_and_white and stored.dtype == np.uint8 else WHITE[stored.dtype]
                deep += [row] if stored.dtype == np.uint16 else []
            pixels = on_unit_scale(stored, white or 1)
            if pixels.dtype != np.uint8:
                refuse_outside(float(pixels.min()), float(pixels.max()), str(file), white or 1)
                images = _as_floats(images)
            prepared = prepare(pixels[None], self.size, self.channels, clip=False)[0]
            images[row] = prepared if prepared.dtype == images.dtype else _as_floats(prepared)
        # the white of files of one dtype is inferred from all of them
        about_white: list[str] = []
        for dtype, peak in peaks.items():
            white, more = white_of(dtype, peak)
            if dtype == np.uint8 and white == 1 and not black_and_white:
                return self._read(files, black_and_white=True)
            if dtype == np.uint16 and deep:
                images[deep] = images[deep] * np.float32(WHITE[dtype] / white)
            about_white += [f"{note}{OTHERWISE}" for note in more]
        notes += [NEARLY_BLACK] * num_binary if peaks[np.dtype(np.uint8)] > 1 else []
        clipped = images if images.dtype == np.uint8 else images.clip(0, 1, out=images)
        return clipped, notes, about_white


def _official_splits(folder: Path) -> tuple[list[Path], str]:
    """([train, test] or [the folder itself], what to tell the user about it)."""
    found = {path.name: path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}

    def called(names: Sequence[str]) -> Path | None:
        """The first folder of such a name, with lower case before upper case."""
        order = sorted((names.index(n.lower()), n != n.lower(), n) for n in found if n.lower() in names)
        return found[order[0][2]] if order else None

    train, val, test = called(TRAIN), called(VAL), called(TEST)
    if train is None or (test is None and val is None):
        named = train or val or test
        return [
            folder
        ], f"; {named.name} alone is not an official split; all images are split by content" if named else ""
    held_out = test or val
    assert held_out is not None
    unread = sorted(set(found) - {train.name, held_out.name})
    beside = f"; not read: {', '.join(unread)}" if unread else ""
    return [train, held_out], f"; official splits: train {train.name}, test {held_out.name}{beside}"


def _as_floats(images: np.ndarray) -> np.ndarray:
    return images if images.dtype == np.float32 else images / np.float32(255)
