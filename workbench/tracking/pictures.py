"""The rows of a cell as a W&B table: one row per image, with thumbnails of stored images."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import wandb
from safetensors.numpy import load_file

from workbench.data.shown import shown
from workbench.metrics.worst import with_worst

PER_IMAGE = "per_image.parquet"
EXAMPLES = "examples.safetensors"
PICTURES = ("degraded", "restored", "clean")


def means(folder: Path, split: str) -> dict[str, float]:
    """The mean of every numeric column of the rows, by split and column; diverged images count as the worst."""
    frame = with_worst(_rows(folder / PER_IMAGE)).select_dtypes(["number", "bool"])
    return {f"{split}/{name}": float(value) for name, value in frame.mean().items()}


def per_image_table(rows: Path, examples: Path | None) -> wandb.Table:
    """The rows; if images are stored, the degraded, restored and clean image come before the figures."""
    frame = _rows(rows)
    thumbnails = {} if examples is None else _thumbnails(examples)
    data: list[Iterable[Any]] = [
        [image_id, *(thumbnails.get(image_id, {}).get(name) for name in PICTURES), *figures]
        for image_id, *figures in frame.itertuples(index=True)
    ]
    return wandb.Table(columns=["image_id", *PICTURES, *frame.columns], data=data)


def _rows(path: Path) -> pd.DataFrame:
    """Figures by image id, as text because a browser would round a 64-bit number."""
    frame = pd.read_parquet(path)
    return frame.set_index(frame["image_id"].astype(str)).drop(columns=["image_id"])


def _thumbnails(path: Path) -> dict[str, dict[str, Any]]:
    """Image id -> name of the image -> wandb.Image."""
    arrays = load_file(path)
    found: dict[str, dict[str, Any]] = {}
    for position, image_id in enumerate(arrays["image_id"].tolist()):
        found[str(image_id)] = {name: _image(arrays[name][position]) for name in PICTURES}
    return found


def _image(pixels: np.ndarray) -> wandb.Image:
    """(channel, height, width), 8 bits or on [0, 1], as a wandb.Image."""
    values = pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels
    picture = (255 * shown(values.transpose(1, 2, 0)).clip(0, 1)).round().astype(np.uint8)
    return wandb.Image(picture[..., 0] if picture.shape[-1] == 1 else picture)
