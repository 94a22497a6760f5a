"""Reading the degraded images from a folder, a file, or an array of several."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.data.medical import DICOM, NIFTI, is_medical, read_medical
from workbench.data.preparation import LUMA, convert
from workbench.data.reading import ARRAYS, PICTURES, Listing, Picture, list_pictures, read_pictures, same_white
from workbench.data.shown import PICTURE_CHANNELS

MEDICAL = (*DICOM, ".nii", ".gz")
NUM_NAMED = 3
"""Maximum number of files named in a message about several files."""


class Container(Protocol):
    """A file of several images, which is written as a whole: a DICOM or NIfTI volume, or a recording."""

    @property
    def values(self) -> np.ndarray:
        """What is in the file, of its images along the first axis."""

    def write(self, images: np.ndarray, path: Path) -> None:
        """Write the file with other images, (images, height, width)."""


@dataclass(frozen=True)
class Measured:
    """Measurements of one shape, in natural order of their names.

    Attributes:
        names: names of the images.
        y: (images, channel, height, width), on the scale of [0, 1] images; or what else the operator measures, real or
            complex.
    """

    names: tuple[str, ...]
    y: Tensor

    def __len__(self) -> int:
        return len(self.names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channel, height, width)."""
        return self.y.shape[1], self.y.shape[2], self.y.shape[3]


@dataclass(frozen=True)
class Input:
    """All images of the user, in natural order of their names, and the same by shape.

    Attributes:
        names: names of the images.
        grey: whether the image itself is greyscale.
        files: the files that were read.
        lines: messages for the user.
        groups: the images, those of one shape together.
        params: parameters of the operator that are in the files, by name of the image.
        volumes: the DICOM, NIfTI or WAV file of each image, and its position there.
    """

    names: tuple[str, ...]
    grey: tuple[bool, ...]
    files: tuple[Path, ...]
    lines: tuple[str, ...]
    groups: tuple[Measured, ...]
    params: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    volumes: Mapping[str, tuple[Path, Container, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


def read_input(path: Path, channels: int) -> Input:
    """Read the measurements in a folder, or in one file; nothing is cropped or resized, because y must not change.

    Args:
        path: a folder of images (or, if it has none, of .npy files), an image, or an array of several.
        channels: of the model's images. Greyscale images stay greyscale if it is a colour model's. Images of other
            numbers of channels than 1 and 3 are arrays.

    Raises:
        UserError: for files that cannot be read, or image files for a model of images that are not pictures.
    """
    listing = _listing(path)
    if channels not in PICTURE_CHANNELS and any(file.suffix.lower() not in ARRAYS for file in listing.files):
        raise UserError(
            f"image files have 1 or 3 channels, but the model's images have {channels}: save them as an .npy file of "
            f"N x height x width x {channels}"
        )
    volumes: dict[str, tuple[Path, Container, int]] = {}
    per_file = [
        (file, _slices(file, volumes) if is_medical(file) else read_pictures(file, channels=channels))
        for file in listing.files
    ]
    files = tuple(file for file, pictures in per_file for _ in pictures)
    pictures = same_white([picture for _, found in per_file for picture in found])
    by_shape: dict[tuple[int, ...], list[Picture]] = {}
    for picture in pictures:
        by_shape.setdefault((min(picture.num_channels, channels), *picture.pixels.shape[:2]), []).append(picture)
    groups = tuple(
        Measured(tuple(picture.name for picture in found), torch.stack([_floats(p, shape[0]) for p in found]))
        for shape, found in by_shape.items()
    )
    return Input(
        names=tuple(picture.name for picture in pictures),
        grey=tuple(picture.num_channels == 1 for picture in pictures),
        files=files,
        lines=tuple(_lines(path, replace(listing, files=files), pictures, channels)),
        groups=groups,
        volumes=volumes,
    )


def _slices(file: Path, volumes: dict[str, tuple[Path, Container, int]]) -> list[Picture]:
    """The slices of a DICOM or NIfTI file, which is noted for each of them."""
    volume = read_medical(file)
    images, note = volume.images(), volume.note()
    names = [file.name] if len(images) == 1 else [f"{file.name}:{i}" for i in range(len(images))]
    volumes |= {name: (file, volume, i) for i, name in enumerate(names)}
    single = np.dtype(np.float32)
    return [
        Picture(name, image[..., None], 1, (note,) if i == 0 else (), 1.0, float(image.max()), single)
        for i, (name, image) in enumerate(zip(names, images, strict=True))
    ]


def parts(name: str) -> tuple[str, str]:
    """(the file's name without suffix, the name of one image within a file of several, or "")."""
    found = re.fullmatch(r"(.*?)\.(?:np[yz]|h5|hdf5|dcm|dicom|ima|nii|nii\.gz|wav):(.*)", name, re.DOTALL)
    return (found[1], _without_suffix(found[2])) if found else (Path(name).stem, "")


def titles(name: str) -> tuple[str, ...]:
    """The names that a user may use for an image: with and without suffix; in a file of several, its own name only."""
    found = re.fullmatch(r".*?\.(?:np[yz]|h5|hdf5|dcm|dicom|ima|nii|nii\.gz|wav):(.*)", name, re.DOTALL)
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
    """A file name as printable text; bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _listing(path: Path) -> Listing:
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"--input {path} is neither a folder nor a file")
        return Listing((path,))
    listing = _with_volumes(list_pictures(path, (*PICTURES, *MEDICAL)))
    if not listing.files:
        listing = list_pictures(path, (".npy",))
    if not listing.files:
        archives = list_pictures(path, (".npz",)).files
        advice = f": to restore the images in {archives[0].name}, pass the file itself" if archives else ""
        known = ", ".join(s.removeprefix(".") for s in (*PICTURES, *ARRAYS, *DICOM, *NIFTI))
        raise UserError(f"--input {path} has no images{advice or f' ({known})'}")
    return listing


def _with_volumes(listing: Listing) -> Listing:
    """A listing without compressed files that are no volumes."""
    others = tuple(file for file in listing.files if file.suffix.lower() == ".gz" and not is_medical(file))
    kept = tuple(file for file in listing.files if file not in others)
    return replace(listing, files=kept, left_out=(*listing.left_out, *((file, ".gz") for file in others)))


def _floats(picture: Picture, channels: int) -> Tensor:
    """An image as floats, (channel, height, width)."""
    # bytes are rounded like those of training images; floats are not clipped because noise may exceed [0, 1]
    (pixels,) = convert(picture.pixels[None], channels, clip=False)
    values = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous().float()
    return values.div_(255) if pixels.dtype == np.uint8 else values


def _lines(path: Path, listing: Listing, pictures: Sequence[Picture], channels: int) -> Iterator[str]:
    yield printable(listing.line(path, [note for picture in pictures for note in picture.notes]))
    coloured = [p for p in pictures if p.num_channels == 3 and np.ptp(p.pixels, axis=2).any()]
    if channels == 1 and coloured:
        kept = float(np.linalg.norm(LUMA))
        yield (
            f"{len(coloured)} of {len(pictures)} images are in colour, but the model is greyscale: they are converted, "
            f"which scales white noise by {kept:.2f}"
        )
