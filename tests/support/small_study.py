"""A study small enough for tests: 200 grey shapes of 16 x 16, and networks that train in a second."""

from pathlib import Path
from typing import Any

import numpy as np

from workbench.data import Npy
from workbench.stages.evaluate import Evaluate

SIZE = 16
NUM_IMAGES = 200

NETWORKS: dict[str, Any] = {
    "autoencoder.width": 8,
    "autoencoder.latent_channels": 2,
    "autoencoder.num_train_images": 1024,
    "autoencoder.batch_size": 16,
    "autoencoder.learning_rate": 0.005,
    "prior.block_out_channels": (16, 32),
    "prior.num_train_images": 128,
    "prior.batch_size": 32,
}
EVALUATION: dict[str, Any] = {
    "severity_encoder.num_train_images": 64,
    "severity_encoder.batch_size": 16,
    "severity_encoder.learning_rate": 0.003,
    "sampler.num_steps": 20,
    "num_images": 6,
}
"""What makes a cell take a second; the networks learn just enough for cells to differ."""


def write_images(path: Path, num_images: int = NUM_IMAGES, seed: int = 0) -> Path:
    """Grey rectangles on a grey ground, (num_images, 16, 16) uint8, no two alike."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images = np.empty((num_images, SIZE, SIZE), np.uint8)
    for image in images:
        top, left = rng.integers(0, SIZE // 2, 2)
        height, width = rng.integers(4, SIZE // 2, 2)
        inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
        image[:] = np.where(inside, rng.integers(128, 256), rng.integers(0, 96)) - rng.integers(0, 2, (SIZE, SIZE))
    np.save(path, images)
    return path


def source(path: Path) -> Npy:
    """The images of such a file."""
    return Npy(path=path, size=SIZE, channels=1)


def source_overrides(path: Path) -> dict[str, Any]:
    """The same as overrides of a cell."""
    return {"data.kind": "npy", "data.path": str(path), "data.size": SIZE, "data.channels": 1}


def tiny_cell(path: Path, **fields: Any) -> Evaluate:
    """One Evaluate cell on such a file."""
    own = {"start.variance": "encoder"}  # needs no fit, which most tests are not about
    return Evaluate().replace({**source_overrides(path), **NETWORKS, **EVALUATION, **own}).replace(fields)


def flags(overrides: dict[str, Any]) -> list[str]:
    """Overrides as the command line takes them."""
    written = {path: list(value) if isinstance(value, tuple) else value for path, value in overrides.items()}
    return [f"--{path}={value}" for path, value in written.items()]
