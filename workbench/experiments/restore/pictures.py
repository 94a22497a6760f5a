"""Reading the degraded pictures: of a folder, of one file, or an array of several."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workbench.core.config import UserError
from workbench.core.tensors import Images
from workbench.data.preparation import LUMA, convert
from workbench.data.reading import ARRAYS, PICTURES, Listing, Picture, list_pictures, read_pictures, same_white
from workbench.data.shown import PICTURE_CHANNELS

NUM_NAMED = 3
"""Of several files that share a fault, so many are named."""


@dataclass(frozen=True)
class Measured:
    """The pictures as measurements, in natural order of their names.

    Attributes:
        names: of the pictures.
        y: on the scale of [0, 1] images, of the model's size: a smaller picture stands in the top left corner, with
            zeros elsewhere.
        sizes: height and width of each picture itself; that of the model, or smaller in both.
        grey: whether the picture itself is grey.
        files: where they were read.
        lines: what to tell the user.
    """

    names: tuple[str, ...]
    y: Images
    sizes: tuple[tuple[int, int], ...]
    grey: tuple[bool, ...]
    files: tuple[Path, ...]
    lines: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def read_measured(path: Path, image_shape: tuple[int, int, int], *, smaller: bool) -> Measured:
    """The measurements in a folder, or in one file; nothing is cropped or resized, since y must stay y.

    Args:
        path: a folder of pictures (or, if it holds none, of .npy files), a picture, or an array of several.
        image_shape: (channels, height, width) of the images that the model restores.
        smaller: whether the operator makes pictures that are smaller than the images.

    Raises:
        UserError: for files that cannot be read, or pictures of another size.
    """
    channels, *size = image_shape
    if channels not in PICTURE_CHANNELS:
        raise UserError(
            f"pictures have 1 or 3 channels and the model's images {channels}: restore from Python, as "
            "workbench.degradations.GivenPhysics shows"
        )
    listing = _listing(path)
    per_file = [(file, read_pictures(file)) for file in listing.files]
    files = tuple(file for file, pictures in per_file for _ in pictures)
    pictures = same_white([picture for _, found in per_file for picture in found])
    for file, picture in zip(files, pictures, strict=True):
        found = list(picture.pixels.shape[:2])
        if found != size and not (smaller and _is_smaller(found, size)):
            whole = f"{size[1]} x {size[0]}"
            takes = f", from pictures of up to {whole}" if smaller else ""
            where = file.with_name(picture.name)
            raise UserError(f"{where} is {found[1]} x {found[0]}, the model restores {whole}{takes}")
    y = torch.stack([_placed(picture, image_shape) for picture in pictures])
    return Measured(
        names=tuple(picture.name for picture in pictures),
        y=y,
        sizes=tuple((p.pixels.shape[0], p.pixels.shape[1]) for p in pictures),
        grey=tuple(picture.num_channels == 1 for picture in pictures),
        files=files,
        lines=tuple(_lines(path, replace(listing, files=files), pictures, channels)),
    )


def parts(name: str) -> tuple[str, str]:
    """(the file's name without suffix, what one picture of several is called in it; empty where it is the file's)."""
    found = re.fullmatch(r"(.*?)\.np[yz]:(.*)", name, re.DOTALL)
    return (found[1], _without_suffix(found[2])) if found else (Path(name).stem, "")


def titles(name: str) -> tuple[str, ...]:
    """What a picture may be called: its name, and that without suffix; in a file of several, by its own name alone."""
    found = re.fullmatch(r".*?\.np[yz]:(.*)", name, re.DOTALL)
    own = found[1] if found else name
    return (own, _without_suffix(own) if found else Path(name).stem)


def _without_suffix(own: str) -> str:
    suffix = Path(own).suffix
    return own.removesuffix(suffix) if suffix.lower() in PICTURES else own


def some(names: Sequence[str]) -> str:
    """The first few names."""
    shown = ", ".join(printable(name) for name in names[:NUM_NAMED])
    return shown if len(names) <= NUM_NAMED else f"{shown} ..."


def printable(name: str) -> str:
    """A file's name as text that any terminal or table can hold; bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _listing(path: Path) -> Listing:
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"--input {path} is not a folder, nor a file")
        return Listing((path,))
    listing = list_pictures(path)
    if not listing.files:
        listing = list_pictures(path, (".npy",))
    if not listing.files:
        archives = list_pictures(path, (".npz",)).files
        advice = f": to restore what {archives[0].name} holds, give the file itself" if archives else ""
        known = ", ".join(s.removeprefix(".") for s in (*PICTURES, *ARRAYS))
        raise UserError(f"--input {path} has no images{advice or f' ({known})'}")
    return listing


def _is_smaller(found: list[int], size: list[int]) -> bool:
    """Whether (height, width) is that of smaller images of the same shape, but for rounding to whole pixels."""
    off = abs(found[0] * size[1] - found[1] * size[0])
    return found[0] < size[0] and found[1] < size[1] and off < max(size)


def _placed(picture: Picture, image_shape: tuple[int, int, int]) -> Tensor:
    """A picture as floats of this shape, in the top left corner."""
    channels, height, width = image_shape
    # bytes are rounded as those of training images are, floats not clipped: noise may lead outside
    (pixels,) = convert(picture.pixels[None], channels, clip=False)
    values = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous().float()
    if pixels.dtype == np.uint8:
        values = values.div_(255)
    return functional.pad(values, (0, width - pixels.shape[1], 0, height - pixels.shape[0]))


def _lines(path: Path, listing: Listing, pictures: Sequence[Picture], channels: int) -> Iterator[str]:
    yield printable(listing.line(path, [note for picture in pictures for note in picture.notes]))
    coloured = [p for p in pictures if p.num_channels == 3 and np.ptp(p.pixels, axis=2).any()]
    if channels == 1 and coloured:
        kept = float(np.linalg.norm(LUMA))
        yield (
            f"{len(coloured)} of {len(pictures)} pictures are in colour and the model restores grey: they become grey, "
            f"and white noise in them {kept:.2f} times as large"
        )
