import numpy as np
import pytest
import torch

from workbench.core.config import Config, UserError, members
from workbench.core.measurement import Measurement
from workbench.data import ImageFolder, ImageSource, Npy, Source
from workbench.data.base import MIN_IMAGES

SPLITS = ("train", "val", "test")


class Made(ImageSource):
    """Two arrays in memory, by name, since a config must be hashable."""

    kind: str = "made"
    size: int = 8
    name: str

    def is_present(self):
        return True

    def fetch(self):
        raise AssertionError("needs no fetching")

    def load_arrays(self):
        return ARRAYS[self.name]


ARRAYS: dict = {}


@pytest.fixture
def made():
    def make(train, test=None) -> Made:
        name = str(len(ARRAYS))
        ARRAYS[name] = (train, test)
        return Made(name=name)

    return make


def noise(num_images: int, seed: int = 0, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_images, size, size, 3), dtype=np.uint8)


def ids(source: ImageSource) -> dict[str, list[int]]:
    return {name: source.split(name).ids.tolist() for name in SPLITS}


@pytest.mark.parametrize("official", [False, True])
def test_splits_are_disjoint_and_complete(made, official):
    source = made(noise(240), noise(30, seed=1) if official else None)
    found = [image_id for part in ids(source).values() for image_id in part]
    assert len(found) == len(set(found)) == (270 if official else 240)
    sizes = {name: len(source.split(name)) for name in SPLITS}
    assert sizes == ({"train": 220, "val": 20, "test": 30} if official else {"train": 198, "val": 18, "test": 24})


def test_order_of_images_does_not_matter(made):
    images, test = noise(100), noise(30, seed=1)
    shuffled = images[np.random.default_rng(5).permutation(100)]
    for one, other in ((made(images), made(shuffled)), (made(images, test), made(shuffled, test[::-1]))):
        assert ids(one) == ids(other)
        assert one.fingerprint == other.fingerprint
        assert torch.equal(one.split("val").batch(slice(None)), other.split("val").batch(slice(None)))


def test_ids_are_ordered_and_name_the_content(made):
    split = made(noise(50)).split("train")
    assert (split.ids.diff() > 0).all()
    assert (split.ids >= 0).all()
    assert split.ids.dtype == torch.int64
    again = made(split.images).split("train")
    assert set(again.ids.tolist()) <= set(split.ids.tolist())


def test_test_images_planted_in_train_are_dropped(made):
    test = noise(30, seed=1)
    planted = made(np.concatenate([test[:7], noise(100), test[3:9]]), test)
    assert ids(planted) == ids(made(noise(100), test))


def test_duplicates_collapse(made):
    images = noise(100)
    assert ids(made(np.concatenate([images, images[:40]]))) == ids(made(images))


def test_fingerprint_changes_with_one_pixel(made):
    images = noise(100)
    changed = images.copy()
    changed[17, 3, 3, 0] ^= 1
    assert made(images).fingerprint != made(changed).fingerprint


def test_canonical_holds_the_content_and_not_the_place(made):
    source = made(noise(100))
    assert source.canonical() == {"kind": "made", "size": 8, "channels": 3, "fingerprint": source.fingerprint}
    assert source.identity == made(noise(100)).identity
    assert len(source.fingerprint) == 12


def test_canonical_has_no_path(tmp_path, pictures):
    for name in ("one.npy", "two.npy"):
        np.save(tmp_path / name, pictures)
    one, two = (Npy(path=tmp_path / name, size=20) for name in ("one.npy", "two.npy"))
    assert "path" not in one.canonical()
    assert str(tmp_path) not in str(one.canonical())
    assert one.identity == two.identity


def test_batch_is_float_on_unit_range_with_channels_first(made):
    images = noise(40)
    images[0] = 255
    images[1] = 0
    split = made(images).split("train")
    for index in (slice(2, 9), [2, 3, 8], range(2, 5), torch.tensor([4, 0]), torch.tensor([], dtype=torch.int64)):
        batch = split.batch(index)
        positions = np.arange(len(split))[index if isinstance(index, slice) else list(index)]
        expected = split.images[positions.astype(int)].transpose(0, 3, 1, 2) / 255
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        np.testing.assert_allclose(batch.numpy(), expected.reshape(batch.shape), atol=1e-6)
    assert split.batch(slice(None)).aminmax().max == 1
    assert split.batch(slice(None)).aminmax().min == 0


def test_batch_goes_with_its_ids(made):
    split = made(noise(60)).split("train")
    measured = Measurement(y=split.batch([5, 2]), ids=split.ids[[5, 2]], noise_std=torch.zeros(2))
    whole = Measurement(y=split.batch(slice(None)), ids=split.ids, noise_std=torch.zeros(len(split)))
    assert torch.equal(whole.take([5, 2]).y, measured.y)


def test_a_batch_may_be_changed_in_place(made):
    split = made(noise(60).astype(np.float32) / 255).split("train")
    before = split.batch([0]).clone()
    split.batch([0]).zero_()
    assert torch.equal(split.batch([0]), before)


def test_first(made):
    split = made(noise(100), noise(40, seed=1)).split("test")
    part = split.first(10)
    assert len(part) == 10
    assert torch.equal(part.ids, split.ids[:10])
    assert torch.equal(part.batch(slice(None)), split.batch(slice(0, 10)))
    assert part.fingerprint != split.fingerprint
    assert split.first(40).fingerprint == split.fingerprint
    with pytest.raises(UserError, match="asked for 128 test images, but the split has 40"):
        split.first(128)


def test_too_few_different_images(made):
    with pytest.raises(UserError, match=f"at least {MIN_IMAGES}"):
        made(noise(MIN_IMAGES - 1)).split("train")
    with pytest.raises(UserError, match="has 1 distinct"):
        made(np.repeat(noise(1), 50, axis=0)).split("train")
    smallest = made(noise(MIN_IMAGES))
    assert all(len(smallest.split(name)) > 0 for name in SPLITS)


def test_splits_are_loaded_once(made, monkeypatch):
    source = made(noise(100))
    calls = []
    monkeypatch.setattr(Made, "load_arrays", lambda self: (calls.append(1), ARRAYS[self.name])[1])
    for name in SPLITS:
        source.split(name)
    assert source.fingerprint
    assert calls == [1]


@pytest.mark.parametrize("member", members(Source))
def test_every_member_refuses_odd_sizes_and_channels(member):
    place = {"path": "somewhere"} if "path" in member.model_fields else {}
    other = {"channels": 0 if member is Npy else 2}  # an array's images may have any number
    for bad in ({"size": 4}, other, {"colour": 1}):
        with pytest.raises(UserError, match=next(iter(bad))):
            member.parse({**place, **bad})


def test_members_are_told_apart_by_kind():
    class Holder(Config):
        data: Source

    holder = Holder.parse({"data": {"kind": "image_folder", "path": "somewhere"}})
    other = holder.replace({"data.kind": "npy", "data.path": "x.npy", "data.size": 16})
    assert isinstance(holder.data, ImageFolder)
    assert isinstance(other.data, Npy)
    with pytest.raises(UserError, match="fashion_mnist"):
        holder.replace({"data.kind": "mnist"})
