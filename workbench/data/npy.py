"""Images in one .npy file, memory-mapped."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from workbench.config import NOT_IDENTITY, UserError
from workbench.data.base import ImageSource
from workbench.data.preparation import prepare

CHUNK = 1024
"""Images that are checked or prepared at a time, so that a file larger than memory can be read."""


class Npy(ImageSource):
    """One .npy file: N x H x W or N x H x W x C (C 1 or 3), uint8 or float on [0, 1].

    Images that already have the size and channels asked for stay memory-mapped (uint8 and float32); larger ones are
    cropped at the centre and resized without aliasing.
    """

    kind: Literal["npy"] = "npy"
    path: Path = Field(description="the .npy file", json_schema_extra=NOT_IDENTITY)

    @field_validator("path", mode="before")
    @classmethod
    def _text(cls, path: Any) -> Any:
        return str(path) if isinstance(path, int) else path  # a folder may be called 2024

    def is_present(self) -> bool:
        return self.path.is_file()

    def fetch(self) -> Path:
        if not self.is_present():
            raise UserError(f"{self.path} is no file: give data.path an .npy file")
        return self.path.parent

    def load_arrays(self) -> tuple[np.ndarray, None]:
        images = self._open()
        if np.issubdtype(images.dtype, np.floating):
            self._check_range(images)
        if images.shape[1:] == (self.size, self.size, self.channels) and images.dtype in (np.uint8, np.float32):
            return images, None
        dtype = np.uint8 if images.dtype == np.uint8 else np.float32
        prepared = np.empty((len(images), self.size, self.size, self.channels), dtype)
        for start in range(0, len(images), CHUNK):
            chunk = np.asarray(images[start : start + CHUNK], dtype)
            prepared[start : start + CHUNK] = prepare(chunk, self.size, self.channels)
        return prepared, None

    def _open(self) -> np.ndarray:
        """The file mapped read-only as (N, H, W, C), its shape and dtype checked."""
        self.fetch()
        try:
            loaded: object = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"cannot read {self.path} as .npy ({reason}): save one plain array with numpy.save"
            ) from None
        if not isinstance(loaded, np.ndarray):
            raise UserError(f"{self.path} is an archive of arrays: save one array with numpy.save")
        images = loaded[..., None] if loaded.ndim == 3 else loaded
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise UserError(f"{self.path} has shape {images.shape}, expected N x H x W or N x H x W x C with C 1 or 3")
        if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
            raise UserError(f"{self.path} holds {images.dtype}, expected uint8, or float on [0, 1]")
        if min(images.shape[1:3]) < self.size:
            height, width = images.shape[1:3]
            raise UserError(
                f"{self.path} holds {height} x {width} images, smaller than size {self.size}: lower data.size"
            )
        return images

    def _check_range(self, images: np.ndarray) -> None:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            low, high = float(chunk.min()), float(chunk.max())
            if np.isnan(low) or np.isnan(high):
                raise UserError(f"{self.path} holds NaN: remove such images")
            if low < 0 or high > 1:
                raise UserError(f"{self.path} holds values from {low:g} to {high:g}: floats must lie on [0, 1]")
