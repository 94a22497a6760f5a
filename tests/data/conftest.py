"""Small image sets for the data family's tests."""

from pathlib import Path

import numpy as np
import pytest

from workbench.data import base


@pytest.fixture(autouse=True)
def _fresh_splits():
    """Splits are cached by config: a test that rewrites a file under the same path must not see the old ones."""
    base._splits.cache_clear()


@pytest.fixture
def pictures() -> np.ndarray:
    """60 different colour images, (60, 20, 20, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (60, 20, 20, 3), dtype=np.uint8)


@pytest.fixture
def save():
    """Write images as PNG files of a folder, named by `name(row)`."""

    def write(images: np.ndarray, folder: Path, name=lambda row: f"{row:03d}.png") -> Path:
        from PIL import Image

        folder.mkdir(parents=True, exist_ok=True)
        for row, image in enumerate(images):
            Image.fromarray(image.squeeze()).save(folder / name(row))
        return folder

    return write


@pytest.fixture
def said(capsys):
    """The last line that the user was told since the last call."""
    return lambda: capsys.readouterr().out.splitlines()[-1]
