"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour photographs, 32 x 32."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN, reason
from workbench.core.places import data_root
from workbench.data.base import ImageSource, PictureChannels
from workbench.data.obtaining import patience
from workbench.data.preparation import prepare

REMEDY = "delete it and run `data fetch cifar10`"


class CIFAR10(ImageSource):
    """Small colour photographs of ten classes; the official 10,000 test images are the test split."""

    kind: Literal["cifar10"] = "cifar10"
    size: int = Field(32, ge=8, le=32, description="height and width in pixels: 32 as published, or less (resized)")
    channels: PictureChannels = 3

    def is_present(self) -> bool:
        from torchvision import datasets

        folder = _folder() / datasets.CIFAR10.base_folder
        return all((folder / name).is_file() for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list)

    def fetch(self) -> Path:
        self._published(train=False)
        return _folder()

    def verify(self) -> str | None:
        from torchvision import datasets
        from torchvision.datasets.utils import check_integrity

        if not self.is_present():
            return None
        folder = _folder() / datasets.CIFAR10.base_folder
        for name, digest in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list:
            if not check_integrity(str(folder / name), digest):
                return f"{folder / name} is not the published file (its MD5 differs): {REMEDY}"
        return None

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        train, test = self._published(train=True), self._published(train=False)
        return prepare(train, self.size, self.channels), prepare(test, self.size, self.channels)

    def _published(self, train: bool) -> np.ndarray:
        """(N, 32, 32, 3) uint8. torchvision checks the MD5 of every file before it unpickles it."""
        from torchvision import datasets

        folder = _folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with patience():
                return np.ascontiguousarray(datasets.CIFAR10(str(folder), train=train, download=True).data)
        except FOREIGN as error:
            damaged = f"; {wrong}" if (wrong := self.verify()) else ""
            raise UserError(
                f"cannot obtain CIFAR-10 ({reason(error)}): check the network, "
                f"or unpack cifar-10-python.tar.gz into {folder}{damaged}"
            ) from None


def _folder() -> Path:
    return data_root() / "cifar10"
