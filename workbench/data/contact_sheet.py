"""A contact sheet of the images of a source, clean and degraded."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from workbench.core.config import UserError
from workbench.core.tensors import Ids, Images, Severities
from workbench.data.base import ImageSource
from workbench.data.shown import shown

Degrade = Callable[[Images, Severities, Ids], Images]
"""(x, severity, ids) -> the image-domain view of the measurement of each image."""

CELL = 1.3
"""Width and height of one image on the sheet in inches."""


def contact_sheet(
    source: ImageSource,
    degrade: Degrade,
    path: Path,
    num_images: int = 8,
    levels: Sequence[float] = (0, 0.25, 0.5, 0.75, 1),
) -> Path:
    """Write a PNG: one row per image of the test split, clean first and then degraded at each severity in `levels`.

    Raises:
        UserError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    split = source.split("test")
    num_images = min(num_images, len(split))
    split = split.first(num_images)
    x = split.batch(slice(None))
    columns = {"clean": x}
    for level in levels:
        columns[f"severity {level:g}"] = degrade(x, torch.full((num_images,), float(level)), split.ids)

    figure = Figure(figsize=(CELL * len(columns), CELL * num_images + 0.8), layout="constrained")
    height, width = source.image_shape[1:]
    size = f"{height}" if height == width else f"{height} x {width}"
    figure.suptitle(f"{source.kind}, {size} px: test images {source.split('test').fingerprint}", fontsize=9)
    axes = figure.subplots(num_images, len(columns), squeeze=False)
    for column, (title, images) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize=8)
        for row, image in enumerate(images):
            axes[row, column].imshow(_pixels(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[row, column].set_axis_off()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, format="png")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return path


def _pixels(image: torch.Tensor) -> np.ndarray:
    """(C, H, W) in matplotlib's layout: (H, W) for greyscale, (H, W, 3) for colour, clipped to [0, 1]."""
    pixels = shown(image.detach().cpu().permute(1, 2, 0).numpy()).clip(0, 1)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels
