"""No clean images, only their size: all that restoring with somebody else's model needs to know."""

from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from pydantic import Field

from workbench.core.config import UserError, plain
from workbench.data.base import ImageSize, ImageSource, PictureChannels


class NoImages(ImageSource):
    """No clean images. What needs some is refused; samples of a prior have this size."""

    kind: Literal["none"] = "none"
    size: ImageSize = Field(description="pixels a side of samples of the prior, or [height, width]")
    channels: PictureChannels = 3

    def is_present(self) -> bool:
        return False

    def fetch(self) -> Path:
        self._refuse()

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        self._refuse()

    def canonical(self) -> dict[str, Any]:
        return {"kind": self.kind, "size": plain(self.size), "channels": self.channels}

    def _refuse(self) -> NoReturn:
        raise UserError("this needs clean images: add --data.kind=image_folder --data.path=FOLDER --data.size=N")
