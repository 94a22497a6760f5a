"""Reading pictures that somebody else has made: which files of a folder are pictures, and what a picture holds."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.config import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder.

    Attributes:
        files: what is read, in natural order (2.png before 10.png).
        left_out: what is not read, and why.
    """

    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Picture:
    """What a file holds.

    Attributes:
        name: the file's name; of one array of several in a file, "file.npz:key" or "file.npy:3".
        pixels: (H, W, C), uint8, or float32 whose scale is that of [0, 1] images; measurements with noise may lie
            outside.
        num_channels: of the file itself: 1 for a grey picture.
        notes: what was converted, a line each.
    """

    name: str
    pixels: np.ndarray
    num_channels: int
    notes: tuple[str, ...] = ()


def natural_order(name: str) -> tuple[object, ...]:
    """A sort key in which numbers count as numbers: 2.png before 10.png."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name))


def list_pictures(folder: Path, suffixes: tuple[str, ...] = PICTURES, *, recursive: bool = False) -> Listing:
    """The pictures of a folder.

    Raises:
        UserError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    found = folder.rglob("*") if recursive else folder.iterdir()
    files = [path for path in found if path.suffix.lower() in suffixes and not path.is_dir()]
    return Listing(tuple(sorted(files, key=lambda path: natural_order(str(path.relative_to(folder))))))


def read_pictures(file: Path) -> list[Picture]:
    """The pictures in a file: one, but for arrays of several.

    Raises:
        UserError: if it cannot be read.
    """
    from workbench.data.image_folder import read_image

    pixels = read_image(file)
    return [Picture(file.name, pixels, pixels.shape[-1])]
