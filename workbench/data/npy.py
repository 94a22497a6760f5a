"""Images in one memory-mapped array file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.config import ADDED_LATER, NOT_IDENTITY, UserError
from workbench.data.arrays import as_batch, open_array
from workbench.data.base import GivenPath, ImageSource
from workbench.data.picture import OTHERWISE, on_unit_scale, refuse_outside, unfit, white_of
from workbench.data.preparation import is_smaller, prepare, size_text
from workbench.data.reading import say

CHUNK = 1024
"""Number of images that are checked or prepared at a time, so that a file may be larger than memory."""


class Npy(ImageSource):
    """An .npy file, or an .npz of one array: N x H x W, N x H x W x C or N x C x H x W (C is 1, 3 or `channels`).

    Values are uint8, uint16, bool, or floats on [0, 1]. uint8 and float32 images that already have the requested size
    and channels stay memory-mapped; larger images are centre-cropped and resized with antialiasing.
    """

    kind: Literal["npy"] = "npy"
    path: GivenPath = Field(description="the .npy file", json_schema_extra=NOT_IDENTITY)
    white: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="value of white in the file; none: inferred from its dtype (255, 65535, floats 1) and its values",
        json_schema_extra=ADDED_LATER,
    )

    def is_present(self) -> bool:
        return self.path.is_file()

    def fetch(self) -> Path:
        if not self.is_present():
            raise UserError(f"{self.path} is not a file: set data.path to an .npy file")
        return self.path.parent

    def load_arrays(self) -> tuple[np.ndarray, None]:
        images, turned = self._open()
        low, high = self._range(images)
        white, notes = white_of(images.dtype.newbyteorder("="), high, self.white)
        is_float = images.dtype.kind == "f"
        if is_float or white < high:
            refuse_outside(low / white, high / white, str(self.path), white)
        told = "; ".join(("", *turned, *(f"{note}{OTHERWISE}" for note in notes)))
        say(f"read {len(images):,} images from {self.path}, left out 0{told}")
        channels, height, width = self.image_shape
        fits = images.shape[1:] == (height, width, channels)
        is_plain = images.dtype == np.uint8 and white == 255
        if fits and (is_plain or (images.dtype == np.float32 and white == 1 and low >= 0 and high <= 1)):
            return images, None
        dtype = on_unit_scale(images[:0], white).dtype
        prepared = np.empty((len(images), height, width, channels), dtype)
        for rows, chunk in _chunks(images):
            pixels = on_unit_scale(chunk, white)
            prepared[rows] = prepare(pixels if dtype == np.uint8 else pixels.clip(0, 1), self.size, self.channels)
        return prepared, None

    def _open(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """(the file as (N, H, W, C), mapped read-only if possible, shape and dtype checked; what was transposed)."""
        self.fetch()
        images, turned = as_batch(open_array(self.path), str(self.path), self.channels)
        if not (images.dtype.newbyteorder("=") in (np.uint8, np.uint16, np.bool_) or images.dtype.kind == "f"):
            raise UserError(f"{self.path} {unfit(images.dtype)}")
        height, width = images.shape[1:3]
        if is_smaller(height, width, self.size):
            raise UserError(
                f"{self.path} has {height} x {width} images, smaller than size {size_text(self.size)}: lower data.size"
            )
        return images, turned

    def _range(self, images: np.ndarray) -> tuple[float, float]:
        """Lowest and highest value; NaN if any value is NaN."""
        ranges = [(float(chunk.min()), float(chunk.max())) for _, chunk in _chunks(images)]
        # numpy's functions, which propagate NaN
        return (float(np.min(ranges)), float(np.max(ranges))) if ranges else (0.0, 0.0)


def _chunks(images: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        yield rows, np.asarray(images[rows])
