"""Data sets of the Hugging Face libraries, in the local formats that they have."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from workbench.core.config import UserError
from workbench.data import HuggingFace, ImageFolder


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of this test alone."""
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def pictures(folder: Path, number: int = 40, mode: str = "RGB") -> Path:
    folder.mkdir(parents=True)
    noise = np.random.default_rng(number)
    for i in range(number):
        shape = (20, 24, 3) if mode == "RGB" else (20, 24)
        Image.fromarray(noise.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i:03}.png")
    return folder


def parquet(folder: Path, images: Path) -> Path:
    """The images of a folder as a Parquet file, as the Hub keeps them."""
    rows = datasets.Dataset.from_dict({"picture": [str(p) for p in sorted(images.iterdir())], "label": [0] * 40})
    folder.mkdir()
    rows.cast_column("picture", datasets.Image()).to_parquet(folder / "train.parquet")
    return folder


def test_a_parquet_file_has_the_images_of_the_folder_it_was_made_of(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    source = HuggingFace(name=str(parquet(tmp_path / "hub", folder)), column="picture", size=16)
    plain = ImageFolder(path=folder, size=16)
    assert source.fingerprint == plain.fingerprint
    assert np.array_equal(source.split("train").images, plain.split("train").images)
    assert source.split("train").store.base is not None, "memory-mapped"


def test_an_image_folder_with_splits(tmp_path: Path) -> None:
    pictures(tmp_path / "set/train", 40)
    pictures(tmp_path / "set/test", 25, "L")
    source = HuggingFace(name=str(tmp_path / "set"), test_split="test", size=16, channels=1)
    assert len(source.split("test")) == 25
    assert source.split("train").batch(slice(0, 2)).shape == (2, 1, 16, 16)


def test_what_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "hub", pictures(tmp_path / "images"))
    for source, message in (
        (HuggingFace(name=str(folder), size=16), "has no images in 'image'; its columns of images are picture"),
        (
            HuggingFace(name=str(folder), column="picture", train_split="other", size=16),
            "cannot be loaded, split other",
        ),
        (HuggingFace(name="/no/such/set", size=16), "cannot be loaded, split train"),
        (HuggingFace(name=str(folder), column="picture", size=64), "image 0 of .* smaller than size 64"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            source.split("train")
        assert "\n" not in str(raised.value)
