"""Imagenette (Howard 2019): 13,000 photographs of ten easily told classes of ImageNet, up to full size."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.bounds import MAX_SIZE
from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN, reason
from workbench.core.places import data_root
from workbench.data.base import ImageSource, PictureChannels
from workbench.data.image_folder import ImageFolder
from workbench.data.obtaining import patience

VERSIONS = {160: "160px", 320: "320px"}
"""Shorter side in pixels of the smaller published versions."""


class Imagenette(ImageSource):
    """Photographs, centre-cropped and resized; the official validation images are the test split.

    The smallest published version that suffices is downloaded: with shorter sides of 160 px, 320 px, or full size.
    """

    kind: Literal["imagenette"] = "imagenette"
    size: int = Field(128, ge=8, le=MAX_SIZE, description="height and width of the prepared images in pixels")
    channels: PictureChannels = 3

    @property
    def _version(self) -> str:
        return next((name for side, name in VERSIONS.items() if self.size <= side), "full")

    @property
    def _folder(self) -> Path:
        suffix = "" if self._version == "full" else f"-{self._version.removesuffix('px')}"
        return data_root() / f"imagenette2{suffix}"

    def is_present(self) -> bool:
        return all((self._folder / part).is_dir() for part in ("train", "val"))

    def fetch(self) -> Path:
        if not self.is_present():
            from torchvision import datasets

            try:
                data_root().mkdir(parents=True, exist_ok=True)
                with patience():
                    datasets.Imagenette(str(data_root()), size=self._version, download=True)
            except FOREIGN as error:
                raise UserError(
                    f"cannot obtain Imagenette ({reason(error)}): check the network, "
                    f"or unpack {self._folder.name}.tgz into {data_root()}"
                ) from None
        return self._folder

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        return ImageFolder(path=self.fetch(), size=self.size, channels=self.channels).load_arrays()
