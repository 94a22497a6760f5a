import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.core.config import UserError
from workbench.data import TinyImageNet, base, tiny_imagenet


def jpeg(rng: np.random.Generator, side: int = 64) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def write_zip(path: Path, per_class: int, num_val: int, side: int = 64) -> Path:
    """An archive in the official layout: two classes, each image the same whatever else there is."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "n01\nn02\n")
        for label in ("n01", "n02"):
            for i in range(per_class):
                name = f"tiny-imagenet-200/train/{label}/images/{label}_{i}.JPEG"
                archive.writestr(name, jpeg(np.random.default_rng([int(label[1:]), i]), side))
        for i in range(num_val):
            archive.writestr(f"tiny-imagenet-200/val/images/val_{i}.JPEG", jpeg(np.random.default_rng([3, i]), side))
        archive.writestr("tiny-imagenet-200/test/images/test_0.JPEG", jpeg(np.random.default_rng(4)))
    return path


@pytest.fixture
def small(tmp_path, monkeypatch):
    """An archive of the files that count and no others; what it contains counts as published."""
    base._splits.cache_clear()  # sources are told apart by their settings, not by where the data lie
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(tiny_imagenet, "PER_CLASS", 15)
    monkeypatch.setattr(tiny_imagenet, "NUM_TEST", 8)
    path = write_zip(tmp_path / tiny_imagenet.ARCHIVE, 15, 8)
    with zipfile.ZipFile(path) as archive:
        monkeypatch.setattr(tiny_imagenet, "CONTENT", tiny_imagenet.content_digest(archive))
    return path


def test_official_splits(small):
    source = TinyImageNet()
    assert source.is_present()
    assert source.verify() is None
    assert [len(source.split(name)) for name in ("train", "val", "test")] == [28, 2, 8]
    assert source.split("test").batch([0]).shape == (1, 3, 64, 64)
    assert TinyImageNet(size=16, channels=1).split("test").batch([0]).shape == (1, 1, 16, 16)


def test_a_larger_archive_gives_the_same_images(small, tmp_path, monkeypatch):
    fingerprint = TinyImageNet().fingerprint
    (tmp_path / "larger").mkdir()
    write_zip(tmp_path / "larger" / tiny_imagenet.ARCHIVE, 20, 12)
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "larger"))
    base._splits.cache_clear()
    assert TinyImageNet().fingerprint == fingerprint
    everything = TinyImageNet(all=True)
    assert [len(everything.split(name)) for name in ("train", "val", "test")] == [37, 3, 12]
    assert everything.fingerprint != fingerprint


def test_prepared_images_are_decoded_once(small, monkeypatch):
    first = TinyImageNet().load_arrays()[0]
    monkeypatch.setattr(tiny_imagenet, "_decoded", lambda _: pytest.fail("decoded again"))
    again = TinyImageNet().load_arrays()[0]
    assert np.array_equal(first, again)


def test_other_content_is_refused(small, tmp_path):
    write_zip(small, 14, 8)
    assert "does not contain the published images" in TinyImageNet().verify()
    with pytest.raises(UserError, match=r"delete it and run `data fetch tiny_imagenet`"):
        TinyImageNet().load_arrays()


@pytest.mark.parametrize("damage", ["truncated", "no zip"])
def test_a_damaged_archive_is_one_line(small, damage):
    small.write_bytes(small.read_bytes()[:2000] if damage == "truncated" else b"<html>")
    with pytest.raises(UserError, match=r"cannot read the images .*delete it") as caught:
        TinyImageNet().load_arrays()
    assert "\n" not in str(caught.value)


def test_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(tiny_imagenet, "URL", "http://127.0.0.1:9/tiny-imagenet-200.zip")
    assert not TinyImageNet().is_present()
    with pytest.raises(UserError, match=r"cannot download Tiny ImageNet .*or put tiny-imagenet-200\.zip into"):
        TinyImageNet().fetch()


@pytest.mark.slow
@pytest.mark.shared
def test_the_images_that_ship_weights_were_trained_on(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    (tmp_path / tiny_imagenet.ARCHIVE).symlink_to(shared / "data" / tiny_imagenet.ARCHIVE)
    base._splits.cache_clear()
    source = TinyImageNet()
    assert [len(source.split(name)) for name in ("train", "val", "test")] == [29331, 2666, 4000]
    assert source.fingerprint == tiny_imagenet.FINGERPRINT
    assert all(len(source.split(name)) == number for name, number in tiny_imagenet.NUM_IMAGES.items())
