import hashlib
import pickle

import numpy as np
import pytest

from workbench.core.config import UserError
from workbench.data import CIFAR10


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Small batches under the published names, with their sums made known to torchvision."""
    from torchvision import datasets

    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    folder = tmp_path / "cifar10" / datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def write(name, content) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(num_images):
        return {"data": rng.integers(0, 256, (num_images, 3072), dtype=np.uint8), "labels": [0] * num_images}

    meta = write("batches.meta", {"label_names": ["cat"]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [write(f"data_batch_{i}", batch(20)) for i in range(1, 6)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [write("test_batch", batch(25))])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    return folder


def test_official_test_images_stay_test(published):
    source = CIFAR10()
    assert source.is_present()
    assert source.fetch() == published.parent
    assert source.verify() is None
    assert [len(source.split(name)) for name in ("train", "val", "test")] == [92, 8, 25]
    assert source.split("train").batch([0, 1]).shape == (2, 3, 32, 32)
    assert CIFAR10(size=16, channels=1).split("test").batch([0]).shape == (1, 1, 16, 16)


def test_changed_files_are_not_unpickled(published):
    (published / "data_batch_3").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert "data_batch_3 is not the published file" in CIFAR10().verify()
    with pytest.raises(UserError, match=r"cannot obtain CIFAR-10.*data_batch_3 is not the published file") as caught:
        CIFAR10().split("train")
    assert "\n" not in str(caught.value)


def test_absent_without_a_network(published):
    (published / "test_batch").unlink()
    assert not CIFAR10().is_present()
    assert CIFAR10().verify() is None
    with pytest.raises(UserError, match=r"unpack cifar-10-python\.tar\.gz"):
        CIFAR10().fetch()
