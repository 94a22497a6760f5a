import gzip
import hashlib
import struct

import numpy as np
import pytest

from workbench.core.config import UserError
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
    digests = {file.name: hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest() for file in folder.iterdir()}
    monkeypatch.setattr(fashion_mnist, "DIGESTS", digests)
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
        case "one pixel":
            write(file, images)
        case "bomb":
            write(file, np.zeros((100_000, 28, 28), np.uint8))
        case "shape":
            write(file, np.zeros((60, 14, 56), np.uint8))


@pytest.mark.parametrize(
    "how", ["cut", "cut inside", "flipped", "empty", "no gzip", "labels", "shape", "one pixel", "bomb"]
)
def test_corrupt_files_are_named(folder, how):
    corrupt(folder, how)
    with pytest.raises(UserError, match=fashion_mnist.TRAIN_FILE) as caught:
        FashionMNIST().split("train")
    assert "data fetch fashion_mnist" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert FashionMNIST().verify() == str(caught.value)


def test_presence(folder):
    assert FashionMNIST().is_present()
    assert FashionMNIST().verify() is None
    assert FashionMNIST().fetch() == folder
    (folder / fashion_mnist.TEST_FILE).unlink()
    assert not FashionMNIST().is_present()
    assert FashionMNIST().verify() is None


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
    with pytest.raises(UserError, match=r"no route to host.*install the Debian package"):
        FashionMNIST().fetch()
    assert list(folder.parent.iterdir()) == []

    def brings_other_images(into):
        works(into)
        write(into / fashion_mnist.TEST_FILE, np.zeros((30, 28, 28), np.uint8))

    monkeypatch.setattr(fashion_mnist, "_unpack_debian", brings_other_images)
    with pytest.raises(UserError, match="does not contain the published images"):
        FashionMNIST().fetch()
    assert list(folder.parent.iterdir()) == []

    monkeypatch.setattr(fashion_mnist, "_unpack_debian", works)
    assert FashionMNIST().fetch() == folder
    assert len(FashionMNIST().split("test")) == 30
    assert [file.name for file in folder.parent.iterdir()] == ["fashion-mnist"]


PACKED = {fashion_mnist.TRAIN_FILE: 1504176606, fashion_mnist.TEST_FILE: 1504176627}
"""When the publisher packed each file: Debian packs them anew without time and name."""


@pytest.mark.parametrize("name", PACKED)
def test_the_files_here_are_what_the_publisher_has_a_digest_of(name):
    from torchvision.datasets import FashionMNIST as Torchvision

    packed = (fashion_mnist._present_folder() / name).read_bytes()
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == fashion_mnist.DIGESTS[name]
    if not packed[3]:  # no name
        inner = name.removesuffix(".gz").encode() + b"\0"
        packed = packed[:3] + b"\x08" + struct.pack("<I", PACKED[name]) + b"\0\x03" + inner + packed[10:]
    assert hashlib.md5(packed).hexdigest() == dict(Torchvision.resources)[name]


def test_the_published_images():
    assert FashionMNIST().verify() is None
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
