"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747): 60,000 + 10,000 grey pictures of clothes, 28 x 28."""

import contextlib
import gzip
import io
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.config import UserError
from workbench.data.base import ImageSource
from workbench.data.obtaining import debian_files, patience, staged
from workbench.data.preparation import prepare
from workbench.places import data_root

TRAIN_FILE = "train-images-idx3-ubyte.gz"
TEST_FILE = "t10k-images-idx3-ubyte.gz"
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""
IDX_IMAGES = 0x00000803
"""Magic number of an IDX file of unsigned bytes in three dimensions."""


class FashionMNIST(ImageSource):
    """Clothes on black, 28 x 28, padded with zeros to 32 x 32; the official 10,000 test images are the test split.

    Size 28 is left as it is; any other size below 32 is resized from the padded 32.
    """

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    size: int = Field(32, ge=8, le=32, description="height and width in pixels: 28, or padded to 32, or resized")
    channels: Literal[1, 3] = Field(1, description="1: grey, as published; 3: grey repeated")

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
                return target
            except (UserError, OSError, RuntimeError) as error:
                reasons.append(f"{name}: {' '.join(str(error).split())}")
        raise UserError(
            f"cannot obtain Fashion-MNIST ({'; '.join(reasons)}): put {TRAIN_FILE} and {TEST_FILE} into {target}, "
            "or install Debian's package dataset-fashion-mnist"
        )

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        folder = self.fetch()
        return self._load(folder / TRAIN_FILE), self._load(folder / TEST_FILE)

    def _load(self, file: Path) -> np.ndarray:
        images = read_idx(file)[..., None]
        if self.size != 28:
            images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        return prepare(images, self.size, self.channels)


def read_idx(file: Path) -> np.ndarray:
    """The images of a gzipped IDX file, (N, 28, 28) uint8.

    Raises:
        UserError: if the file is cut or no such file.
    """
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {file} ({error}): delete it and run `data fetch fashion_mnist`") from None
    header = np.frombuffer(content[:16], dtype=">u4").tolist() if len(content) >= 16 else []
    if len(header) != 4 or header[0] != IDX_IMAGES or header[2:] != [28, 28] or len(content) != 16 + header[1] * 784:
        raise UserError(f"{file} is cut or holds no 28 x 28 images: delete it and run `data fetch fashion_mnist`")
    return np.frombuffer(content, dtype=np.uint8, offset=16).reshape(-1, 28, 28)


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
