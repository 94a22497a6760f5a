"""Tiny ImageNet (Le and Yang, CS231n, 2015): natural photographs of 200 classes, 64 x 64."""

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN, readable, reason
from workbench.core.places import data_root
from workbench.data.base import ImageSource, PictureChannels, Split
from workbench.data.download import download
from workbench.data.preparation import prepare
from workbench.data.prepared import prepared

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
"""Of the published archive, 248,100,043 bytes."""
ARCHIVE = "tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200"
SUFFIX = ".JPEG"
PER_CLASS, NUM_TEST = 160, 4000
"""The workbench's images: the first 160 training images of each class, and the first 4,000 validation images."""
CONTENT = "6e5f7cedf84c0c617e58465228ba90bc3d838df24da620bd3a19551d909c27e7"
"""SHA-256 over the names and bytes of these 36,000 files, in the order of their names."""
SIDE = 64
FINGERPRINT = "b9c58b914f49"
NUM_IMAGES: Mapping[Split, int] = {"train": 29_331, "val": 2_666, "test": NUM_TEST}
"""Of these images as published."""


class TinyImageNet(ImageSource):
    """Photographs, 64 x 64; the official validation images, which have labels, are the test split.

    By default, the first 160 of 500 training images of each class and the first 4,000 of 10,000 validation images:
    those that the weights which ship were trained on. An archive that contains these files is enough.
    """

    kind: Literal["tiny_imagenet"] = "tiny_imagenet"
    size: int = Field(64, ge=8, le=SIDE, description="height and width in pixels: 64 as published, or less (resized)")
    channels: PictureChannels = 3
    all: bool = Field(False, description="use all 110,000 images instead of 36,000")

    @property
    def fingerprint(self) -> str:
        """That of the images; known without them for the default settings, so that shipped results can be read."""
        if not self.is_present() and self == TinyImageNet():
            return FINGERPRINT
        return super().fingerprint

    def num_images(self, name: Split) -> int:
        """That of the split; known without the images like the fingerprint."""
        if not self.is_present() and self == TinyImageNet():
            return NUM_IMAGES[name]
        return super().num_images(name)

    def is_present(self) -> bool:
        return _archive().is_file()

    def fetch(self) -> Path:
        if not self.is_present():
            try:
                download(URL, _archive(), SHA256)
            except FOREIGN as error:
                raise UserError(
                    f"cannot download Tiny ImageNet ({reason(error)}): run the command again to continue, "
                    f"or put {ARCHIVE} into {data_root()}"
                ) from None
        return _archive()

    def verify(self) -> str | None:
        if not self.is_present():
            return None
        try:
            with readable(_archive(), "the images"), zipfile.ZipFile(_archive()) as archive:
                _refuse_other_content(archive)
        except UserError as error:
            return str(error)
        return None

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        path = self.fetch()
        status = path.stat()
        which = "all" if self.all else "first"
        # a replaced archive has another size or time
        name = f"{which}-{self.size}x{self.channels}-{status.st_size}-{status.st_mtime_ns}"
        folder = data_root() / "prepared" / "tiny_imagenet"
        train, test = (
            prepared(folder / f"{name}-{part}.npy", lambda part=part: self._read(path, part))  # type: ignore[misc]
            for part in ("train", "val")
        )
        return train, test

    def _read(self, path: Path, part: str) -> np.ndarray:
        """The images of an official split, (N, size, size, channels) uint8."""
        remedy = f"delete it and run `data fetch {self.kind}`"
        with readable(path, "the images", remedy=remedy), zipfile.ZipFile(path) as archive:
            _refuse_other_content(archive)
            names = sorted(_in_split(_names(archive) if self.all else _ours(archive), part))
            images = np.stack([_decoded(archive.read(name)) for name in names])
        return prepare(images, self.size, self.channels)


def _archive() -> Path:
    return data_root() / ARCHIVE


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name for name in archive.namelist() if name.endswith(SUFFIX)]


def _in_split(names: Iterable[str], part: str) -> list[str]:
    return [name for name in names if name.startswith(f"{ROOT}/{part}/")]


def _number(name: str) -> int:
    return int(name.rpartition("_")[2].removesuffix(SUFFIX))


def _ours(archive: zipfile.ZipFile) -> list[str]:
    """The workbench's 36,000 files."""
    names = _names(archive)
    train = [name for name in _in_split(names, "train") if _number(name) < PER_CLASS]
    return [*train, *(name for name in _in_split(names, "val") if _number(name) < NUM_TEST)]


def content_digest(archive: zipfile.ZipFile) -> str:
    """SHA-256 over the names and bytes of the workbench's files, in hex."""
    total = hashlib.sha256()
    for name in sorted(_ours(archive)):
        total.update(name.encode())
        total.update(archive.read(name))
    return total.hexdigest()


def _refuse_other_content(archive: zipfile.ZipFile) -> None:
    if content_digest(archive) != CONTENT:
        raise UserError(
            f"{archive.filename} does not contain the published images (their SHA-256 differs): "
            "delete it and run `data fetch tiny_imagenet`"
        )


def _decoded(content: bytes) -> np.ndarray:
    """(64, 64, 3) uint8; the grey photographs among them have three equal channels."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"an image is {pixels.shape[0]} x {pixels.shape[1]} pixels, not {SIDE} x {SIDE}")
    return pixels
