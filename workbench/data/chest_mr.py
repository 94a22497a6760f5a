"""Cardiac magnetic resonance slices that ship (Yang et al., Deep ADMM-Net, NeurIPS 2016; MIT licence)."""

import io
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.config import UserError
from workbench.core.digests import checked, remedy
from workbench.core.foreign import readable
from workbench.core.places import CHECKOUT
from workbench.data.base import ImageSource

FILE = CHECKOUT / "data" / "samples" / "chest_mr.png"
NUM_SLICES, SIDE = 100, 256
TEST = (0, 2, 6, 10, 15, 17, 20, 24, 30, 36, 43, 46, 50, 51, 58, 69, 72, 75, 80, 85, 93, 94, 95, 99)
VAL = (1, 7, 9, 16, 21, 23, 27, 34, 45, 49, 56, 67, 68, 86)
"""Slices of one patient look alike and are not marked: those that correlate by more than 0.6, averaged over 8 x 8
pixels, are in the same split."""
CROPS = 4
"""Crops of training and validation slices begin a quarter of their side apart; test crops do not overlap."""
LEAST = 0.03
"""Crops whose mean is lower show no tissue and are left out."""


class ChestMR(ImageSource):
    """100 magnitude slices of the chest, split so that no patient is in two splits; whole, or square crops.

    Training images are mirrored in both axes as well.
    """

    kind: Literal["chest_mr"] = "chest_mr"
    size: int = Field(64, ge=16, le=SIDE, description="pixels a side; less than 256 / zoom: of crops")
    channels: Literal[1] = Field(1, description="1: magnitude")
    zoom: Literal[1, 2, 4] = Field(2, description="each pixel is the mean of zoom x zoom pixels of the slice")

    def canonical(self) -> dict[str, object]:
        return {**super().canonical(), "zoom": self.zoom}

    def is_present(self) -> bool:
        return FILE.is_file()

    def fetch(self) -> Path:
        if not self.is_present():
            raise UserError(f"{FILE} is missing: {remedy([FILE])}")
        return FILE

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        self.fetch()
        train = [i for i in range(NUM_SLICES) if i not in {*TEST, *VAL}]
        crops = self._crops(train, self.size // CROPS)
        mirrored = [crops[:, ::down, ::across] for down in (1, -1) for across in (1, -1)]
        return np.concatenate(mirrored), self._crops(TEST, self.size)

    def load_val(self) -> np.ndarray:
        return self._crops(VAL, self.size // CROPS)

    def _crops(self, which: Collection[int], step: int) -> np.ndarray:
        """(N, size, size, 1) uint8."""
        slices = _slices(self.zoom)
        side = slices.shape[1]
        if self.size > side:
            raise UserError(f"data.size={self.size}, but slices at data.zoom={self.zoom} have {side} pixels a side")
        at = range(0, side - self.size + 1, step)
        crops = [slices[i, row : row + self.size, column : column + self.size]
                 for i in which for row in at for column in at]  # fmt: skip
        return np.stack([crop for crop in crops if self.size == side or crop.mean() > 255 * LEAST])[..., None]


def _slices(zoom: int) -> np.ndarray:
    """(slice, height, width) uint8."""
    from PIL import Image

    with readable(FILE, "the slices"), Image.open(io.BytesIO(checked(FILE))) as image:
        slices = np.asarray(image).reshape(NUM_SLICES, SIDE, SIDE)
    if zoom == 1:
        return slices
    blocks = slices.reshape(NUM_SLICES, SIDE // zoom, zoom, SIDE // zoom, zoom)
    return np.round(blocks.mean((2, 4))).astype(np.uint8)
