"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747): 60,000 + 10,000 greyscale images of clothes, 28 x 28."""

import contextlib
import gzip
import hashlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN, readable, reason
from workbench.core.places import data_root
from workbench.data.base import ImageSource
from workbench.data.obtaining import debian_files, patience, staged
from workbench.data.preparation import prepare

TRAIN_FILE = "train-images-idx3-ubyte.gz"
TEST_FILE = "t10k-images-idx3-ubyte.gz"
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""The folder of the Debian package dataset-fashion-mnist."""
DIGESTS = {
    TRAIN_FILE: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    TEST_FILE: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
}
"""SHA-256 of the unpacked files. The publisher gives MD5s of the packed files; Debian repacks them without the file
name,
so only the unpacked content is the same everywhere."""
IDX_IMAGES = 0x00000803
"""Magic number of an IDX file of unsigned bytes in three dimensions."""
MOST_BYTES = 16 + 60_000 * 784
"""Size of the larger file, unpacked; a file that unpacks to more is a different one."""


class FashionMNIST(ImageSource):
    """Clothes on black, 28 x 28, padded with zeros to 32 x 32; the official 10,000 test images are the test split.

    Size 28 is not padded; other sizes below 32 are resized from the padded 32.
    """

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    size: int = Field(32, ge=8, le=32, description="height and width in pixels: 28, 32 (padded), or less (resized)")
    channels: Literal[1, 3] = Field(1, description="1: greyscale, as published; 3: greyscale repeated")

    def is_present(self) -> bool:
        return _present_folder() is not None

    def fetch(self) -> Path:
        present = _present_folder()
        if present is not None:
            return present
        target = data_root() / "fashion-mnist"
        reasons = []
        for name, obtain in (("torchvision's download", _download), ("Debian's package", _unpack_debian)):
            try:
                with staged(target) as folder:
                    obtain(folder)
                    for file in (TRAIN_FILE, TEST_FILE):
                        read_idx(folder / file)
                return target
            except FOREIGN as error:
                reasons.append(f"{name}: {reason(error)}")
        raise UserError(
            f"cannot obtain Fashion-MNIST ({'; '.join(reasons)}): put {TRAIN_FILE} and {TEST_FILE} into {target}, "
            "or install the Debian package dataset-fashion-mnist"
        )

    def verify(self) -> str | None:
        folder = _present_folder()
        if folder is None:
            return None
        try:
            for name in (TRAIN_FILE, TEST_FILE):
                read_idx(folder / name)
        except UserError as error:
            return str(error)
        return None

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        folder = self.fetch()
        return self._load(folder / TRAIN_FILE), self._load(folder / TEST_FILE)

    def _load(self, file: Path) -> np.ndarray:
        images = read_idx(file)[..., None]
        if self.size != 28:
            images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        return prepare(images, self.size, self.channels)


def read_idx(file: Path) -> np.ndarray:
    """Read the images of a gzipped IDX file and check that they are the published ones: (N, 28, 28) uint8.

    Raises:
        UserError: if the file is truncated, damaged or a different one.
    """
    remedy = f"delete it and run `data fetch fashion_mnist`{_reinstall(file)}"
    with readable(file, "the images", remedy=remedy), gzip.open(file) as packed:
        content = packed.read(MOST_BYTES + 1)
    header = np.frombuffer(content[:16], dtype=">u4").tolist() if len(content) >= 16 else []
    if len(header) != 4 or header[0] != IDX_IMAGES or header[2:] != [28, 28] or len(content) != 16 + header[1] * 784:
        raise UserError(f"{file} is truncated or does not contain 28 x 28 images: {remedy}")
    if hashlib.sha256(content).hexdigest() != DIGESTS[file.name]:
        raise UserError(f"{file} does not contain the published images (its SHA-256 differs): {remedy}")
    return np.frombuffer(content, dtype=np.uint8, offset=16).reshape(-1, 28, 28)


def _reinstall(file: Path) -> str:
    is_system = SYSTEM_FOLDER in file.parents
    return ", or reinstall the Debian package dataset-fashion-mnist" if is_system else ""


def _present_folder() -> Path | None:
    for folder in (SYSTEM_FOLDER, data_root() / "fashion-mnist"):
        if (folder / TRAIN_FILE).is_file() and (folder / TEST_FILE).is_file():
            return folder
    return None


def _download(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST as Torchvision
    from torchvision.datasets.utils import download_url

    sums = dict(Torchvision.resources)
    with patience(), contextlib.redirect_stderr(io.StringIO()):
        for name in (TRAIN_FILE, TEST_FILE):
            download_url(Torchvision.mirrors[0] + name, folder, name, sums[name])


def _unpack_debian(folder: Path) -> None:
    debian_files("dataset-fashion-mnist", str(SYSTEM_FOLDER).lstrip("/"), folder)
