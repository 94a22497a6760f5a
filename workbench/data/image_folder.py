"""A folder of image files."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from workbench.config import NOT_IDENTITY, UserError
from workbench.data.base import ImageSource
from workbench.data.preparation import prepare

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


class ImageFolder(ImageSource):
    """PNG, JPEG, BMP, WebP and TIFF files of any size in a folder and its subfolders.

    Each is cropped at the centre to a square and resized without aliasing; transparency is dropped. Where the folder
    has subfolders `train` and `test`, these are the official splits and what lies beside them is not read. Prepared
    images are held in memory: N x size x size x channels bytes.
    """

    kind: Literal["image_folder"] = "image_folder"
    path: Path = Field(description="the folder", json_schema_extra=NOT_IDENTITY)

    @field_validator("path", mode="before")
    @classmethod
    def _text(cls, path: Any) -> Any:
        return str(path) if isinstance(path, int) else path  # a folder may be called 2024

    def is_present(self) -> bool:
        return self.path.is_dir()

    def fetch(self) -> Path:
        if not self.is_present():
            raise UserError(f"{self.path} is no folder: give data.path a folder of images")
        return self.path

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        folder = self.fetch()
        train, test = folder / "train", folder / "test"
        if train.is_dir() and test.is_dir():
            return self._read_folder(train), self._read_folder(test)
        return self._read_folder(folder), None

    def _read_folder(self, folder: Path) -> np.ndarray:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and not file.is_dir())
        if not files:
            raise UserError(f"{folder} holds no images ({', '.join(s.removeprefix('.') for s in SUFFIXES)})")
        images = np.empty((len(files), self.size, self.size, self.channels), np.uint8)
        for row, file in enumerate(files):
            pixels = read_image(file)
            if min(pixels.shape[:2]) < self.size:
                height, width = pixels.shape[:2]
                raise UserError(
                    f"{file} is {height} x {width} pixels, smaller than size {self.size}: remove it or lower data.size"
                )
            images[row] = prepare(pixels[None], self.size, self.channels)[0]
        return images


def read_image(file: Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8, upright as its EXIF orientation says.

    Raises:
        UserError: if the file cannot be read, or holds more than 8 bits a channel.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{file} holds more than 8 bits a channel: save it with 8 bits, or use kind npy")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {file}: {error}") from None
