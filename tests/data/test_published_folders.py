"""Imagenette and EuroSAT, in small folders of their layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.core.config import UserError
from workbench.data import EuroSAT, Imagenette


def write_images(folder: Path, count: int, height: int, width: int, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{seed}_{i}.JPEG")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("size", "name"), [(128, "imagenette2-160"), (256, "imagenette2-320"), (321, "imagenette2")])
def test_imagenette_in_the_smallest_version_that_suffices(root, size, name):
    for seed, part in enumerate(("train/n01440764", "train/n02102040", "val/n01440764")):
        write_images(root / name / part, 12, size, size + 20, seed)
    source = Imagenette(size=size)
    assert source.is_present()
    assert source.fetch() == root / name
    assert [len(source.split(part)) for part in ("train", "val", "test")] == [22, 2, 12]
    assert source.split("test").batch([0]).shape == (1, 3, size, size)


def test_eurosat_is_split_by_content(root):
    for seed, label in enumerate(("Forest", "River")):
        write_images(root / "eurosat" / "2750" / label, 15, 64, 64, seed)
    source = EuroSAT()
    assert source.is_present()
    assert sum(len(source.split(part)) for part in ("train", "val", "test")) == 30
    assert source.split("train").batch([0]).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("source", [Imagenette(), EuroSAT()], ids=lambda source: source.kind)
def test_without_a_network(root, source, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError("the network is unreachable")

    monkeypatch.setattr("torchvision.datasets.imagenette.download_and_extract_archive", refused)
    monkeypatch.setattr("torchvision.datasets.eurosat.download_and_extract_archive", refused)
    assert not source.is_present()
    with pytest.raises(UserError, match=r"cannot obtain \w+ \(the network is unreachable\): check the network, or"):
        source.fetch()
