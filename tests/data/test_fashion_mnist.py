import gzip
import struct

import numpy as np
import pytest

from workbench.config import UserError
from workbench.data import FashionMNIST, fashion_mnist


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Small files of the same format, in the only place that is looked at."""
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "no-such-folder")
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, num_images in ((fashion_mnist.TRAIN_FILE, 60), (fashion_mnist.TEST_FILE, 30)):
        write(folder / name, rng.integers(1, 256, (num_images, 28, 28), dtype=np.uint8))
    return folder


def write(file, images, magic=0x803, num_images=None):
    header = struct.pack(">IIII", magic, num_images or len(images), *images.shape[1:])
    file.write_bytes(gzip.compress(header + images.tobytes()))


def test_padded_with_zeros(folder):
    published, padded = FashionMNIST(size=28), FashionMNIST()
    inner = padded.load_arrays()[0]
    assert inner.shape == (60, 32, 32, 1)
    assert (inner[:, 2:-2, 2:-2] == published.load_arrays()[0]).all()
    assert inner.sum() == inner[:, 2:-2, 2:-2].sum()
    assert FashionMNIST(size=16, channels=3).split("test").batch(slice(None)).shape == (30, 3, 16, 16)


def test_official_test_images_stay_test(folder):
    source = FashionMNIST()
    assert len(source.split("test")) == 30
    assert len(source.split("val")) == 5
    assert len(source.split("train")) == 55


def test_larger_than_32_is_refused():
    with pytest.raises(UserError, match="size"):
        FashionMNIST.parse({"size": 64})


def corrupt(folder, how):
    file = folder / fashion_mnist.TRAIN_FILE
    content = file.read_bytes()
    images = np.zeros((60, 28, 28), np.uint8)
    match how:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "cut inside":
            write(file, images, num_images=61)
        case "flipped":
            middle = len(content) // 2
            file.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
        case "empty":
            file.write_bytes(b"")
        case "no gzip":
            file.write_bytes(b"<html>not found</html>")
        case "labels":
            write(file, images, magic=0x801)
        case "shape":
            write(file, np.zeros((60, 14, 56), np.uint8))


@pytest.mark.parametrize("how", ["cut", "cut inside", "flipped", "empty", "no gzip", "labels", "shape"])
def test_corrupt_files_are_named(folder, how):
    corrupt(folder, how)
    with pytest.raises(UserError, match=fashion_mnist.TRAIN_FILE) as caught:
        FashionMNIST().split("train")
    assert "data fetch fashion_mnist" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_presence(folder):
    assert FashionMNIST().is_present()
    assert FashionMNIST().fetch() == folder
    (folder / fashion_mnist.TEST_FILE).unlink()
    assert not FashionMNIST().is_present()


def test_fetching_falls_back_and_leaves_nothing_half_done(folder, monkeypatch):
    contents = {file.name: file.read_bytes() for file in folder.iterdir()}
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()

    def breaks_off(into):
        (into / fashion_mnist.TRAIN_FILE).write_bytes(b"half")
        raise OSError("no route to host")

    def works(into):
        for name, content in contents.items():
            (into / name).write_bytes(content)

    monkeypatch.setattr(fashion_mnist, "_download", breaks_off)
    monkeypatch.setattr(fashion_mnist, "_unpack_debian", breaks_off)
    with pytest.raises(UserError, match=r"no route to host.*install Debian's package"):
        FashionMNIST().fetch()
    assert list(folder.parent.iterdir()) == []

    monkeypatch.setattr(fashion_mnist, "_unpack_debian", works)
    assert FashionMNIST().fetch() == folder
    assert len(FashionMNIST().split("test")) == 30
    assert [file.name for file in folder.parent.iterdir()] == ["fashion-mnist"]


def test_the_published_images():
    source = FashionMNIST()
    assert {name: len(source.split(name)) for name in ("train", "val", "test")} == {
        "train": 55_000,
        "val": 5_000,
        "test": 10_000,
    }
    # mean and standard deviation of the 60,000 published training images
    pixels = FashionMNIST(size=28).load_arrays()[0] / np.float32(255)
    assert pixels.mean() == pytest.approx(0.2860, abs=1e-4)
    assert pixels.std() == pytest.approx(0.3530, abs=1e-4)
