"""EuroSAT (Helber et al., arXiv 1709.00029): 27,000 satellite images of land use, 64 x 64, 10 m per pixel."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN, reason
from workbench.core.places import data_root
from workbench.data.base import ImageSource, PictureChannels
from workbench.data.image_folder import ImageFolder
from workbench.data.obtaining import patience


class EuroSAT(ImageSource):
    """Satellite images in visible light, 64 x 64, split by content: there is no official test split."""

    kind: Literal["eurosat"] = "eurosat"
    size: int = Field(64, ge=8, le=64, description="height and width in pixels: 64 as published, or less (resized)")
    channels: PictureChannels = 3

    @property
    def _folder(self) -> Path:
        return data_root() / "eurosat" / "2750"

    def is_present(self) -> bool:
        return self._folder.is_dir()

    def fetch(self) -> Path:
        if not self.is_present():
            from torchvision import datasets

            try:
                data_root().mkdir(parents=True, exist_ok=True)
                with patience():
                    datasets.EuroSAT(str(data_root()), download=True)
            except FOREIGN as error:
                raise UserError(
                    f"cannot obtain EuroSAT ({reason(error)}): check the network, "
                    f"or unpack EuroSAT.zip into {self._folder.parent}"
                ) from None
        return self._folder

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        return ImageFolder(path=self.fetch(), size=self.size, channels=self.channels).load_arrays()
