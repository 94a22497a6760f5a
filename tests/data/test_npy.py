import numpy as np
import pytest

from workbench.core.config import UserError
from workbench.data import Npy


@pytest.fixture
def source(tmp_path):
    """Save an array and name it as a source."""

    def make(array: np.ndarray, size: int = 20, **fields) -> Npy:
        np.save(tmp_path / "images.npy", array)
        return Npy(path=tmp_path / "images.npy", size=size, **fields)

    return make


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_fits_stays_memory_mapped(source, pictures, dtype, channels):
    images = pictures if dtype == np.uint8 else pictures.astype(dtype) / 255
    split = source(images if channels == 3 else images[..., 0], channels=channels).split("train")
    assert isinstance(split.store, np.memmap)
    assert split.store.shape == (60, 20, 20, channels)
    assert split.batch([0, 1]).shape == (2, channels, 20, 20)


def test_all_splits_share_the_file(source, pictures):
    npy = source(pictures)
    found = np.concatenate([npy.split(name).images for name in ("train", "val", "test")])
    assert {image.tobytes() for image in found} == {image.tobytes() for image in pictures}


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_floats_become_float32(source, pictures, dtype):
    split = source((pictures / 255).astype(dtype)).split("train")
    assert split.store.dtype == np.dtype("float32")
    assert 0 <= split.store.min() < split.store.max() <= 1


def test_fortran_order_holds_the_same_images(source, pictures):
    plain = source(pictures).fingerprint
    from workbench.data import base

    base._splits.cache_clear()
    assert source(np.asfortranarray(pictures)).fingerprint == plain


def test_channels_first(source, said):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 20, 24), dtype=np.uint8)
    found = source(images).load_arrays()[0]
    assert said().endswith("left out 0; shape (30, 3, 20, 24) read as N x C x H x W")
    np.testing.assert_array_equal(found, source(np.moveaxis(images, 1, -1)).load_arrays()[0])
    square = np.ascontiguousarray(images[..., :20])
    np.testing.assert_array_equal(source(square).load_arrays()[0], np.moveaxis(square, 1, -1))
    split = source(square).split("train")
    assert split.batch([0]).shape == (1, 3, 20, 20)


def test_images_last_are_told_by_what_is_alike(source):
    """24 x 28 pictures, smooth and all different, 60 of them; and the same in the right order."""
    coarse = np.random.default_rng(0).random((60, 3, 4))
    images = coarse.repeat(8, 1).repeat(7, 2).astype(np.float32)
    assert source(images).load_arrays()[0].shape == (60, 20, 20, 3)
    with pytest.raises(UserError, match=r"shape \(24, 28, 60\), which looks like H x W x N"):
        source(np.moveaxis(images, 0, -1)).load_arrays()
    assert source(images[:22]).load_arrays()[0].shape == (22, 20, 20, 3)


def test_larger_images_are_cropped_and_resized(source):
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 24), dtype=np.uint8)
    split = source(images, size=8, channels=3).split("train")
    assert split.store.shape == (30, 8, 8, 3)
    assert split.store.dtype == np.uint8


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


def with_nan() -> np.ndarray:
    images = noise(30, 20, 20)
    images[13, 4, 4] = np.nan
    return images


BAD = {
    "NaN": (with_nan(), "contains NaN"),
    "above 1": (noise(30, 20, 20) * 255, "floats must be on"),
    "below 0": (noise(30, 20, 20) * 2 - 1, "floats must be on"),
    "infinite": (np.full((30, 20, 20), np.inf, np.float32), "floats must be on"),
    "integers": (np.zeros((30, 20, 20), np.int64), "has dtype int64"),
    "signed": (np.zeros((30, 20, 20), np.int16), "has dtype int16, whose white is unknown"),
    "complex": (np.zeros((30, 20, 20), np.complex64), "has dtype complex64"),
    "two dimensions": (noise(30, 400), "shape"),
    "five dimensions": (noise(30, 2, 20, 20, 3), "shape"),
    "two channels": (noise(30, 20, 20, 2), "shape"),
    "images last": (noise(20, 20, 30), r"looks like H x W x N: transpose it with .*or, if it is N x H x W"),
    "colour images last": (noise(20, 24, 3, 30), r"looks like H x W x C x N: .*\(3, 0, 1, 2\)"),
    "all channels first": (noise(3, 20, 24, 30), r"looks like C x H x W x N: .*\(3, 1, 2, 0\)"),
    "too small": (noise(30, 16, 20), "smaller than size 20"),
    "too few": (noise(19, 20, 20), "has 19 distinct training images"),
    "none": (noise(0, 20, 20), "has 0 distinct training images"),
    "objects": (np.array([{}, 1], dtype=object), "contains Python objects, which are not loaded"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_one_clear_line(source, case):
    array, message = BAD[case]
    with pytest.raises(UserError, match=message) as caught:
        source(array).split("train")
    assert "images.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_files_are_one_clear_line(tmp_path, pictures):
    np.save(tmp_path / "whole.npy", pictures)
    content = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "archive.npz", pictures, pictures)
    for name in ("cut.npy", "text.npy", "empty.npy", "archive.npz", "absent.npy"):
        with pytest.raises(UserError, match=name) as caught:
            Npy(path=tmp_path / name, size=20).split("train")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is not a file"):
        Npy(path=tmp_path).split("train")


def test_rounding_just_outside_is_clipped(source):
    images = noise(30, 20, 20)
    images[3, 4, 5], images[6, 7, 8] = np.nextafter(np.float32(1), np.float32(2)), -1e-5
    store = source(images, channels=1).load_arrays()[0]
    assert (store.min(), store.max()) == (0, 1)
    np.testing.assert_array_equal(store[..., 0], images.clip(0, 1))
    images[3, 4, 5] = 1.0002
    with pytest.raises(UserError, match=r"from -9\.\d+e-06 to 1\.0002\d*: floats must be on \[0, 1\]; clip them"):
        source(images).load_arrays()


@pytest.mark.parametrize(("top", "white"), [(254, 255), (4000, 4095), (60000, 65535)])
def test_floats_on_another_scale_name_the_remedy(source, top, white):
    images = noise(30, 20, 20)
    images *= top / images.max()
    with pytest.raises(UserError, match=rf"divide them by the value of white, or set it: data\.white={white}$"):
        source(images).load_arrays()
    store = source(images, channels=1, white=white).load_arrays()[0]
    np.testing.assert_allclose(store[..., 0], images / white, rtol=1e-6)
    with pytest.raises(UserError, match=r"outside the range from 0 to white=200"):
        source(images, white=200).load_arrays()


def test_on_minus_one_to_one(source):
    with pytest.raises(UserError, match=r"save \(images \+ 1\) / 2"):
        source(noise(30, 20, 20) * 2 - 1).load_arrays()


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_black_and_white(source, said, dtype):
    binary = noise(30, 32, 24) > 0.5
    expected = source(binary * np.uint8(255), channels=1).load_arrays()[0]
    found = source(binary.astype(dtype), channels=1).load_arrays()[0]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    assert "read as" in said()
    if dtype == np.uint8:
        assert source(binary.astype(dtype), channels=1, white=255).load_arrays()[0].max() == 1


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bits(source, said, dtype):
    images = np.random.default_rng(0).integers(0, 65536, (30, 20, 20)).astype(dtype)
    store = source(images, channels=1).load_arrays()[0]
    np.testing.assert_allclose(store[..., 0], images / 65535, rtol=1e-6)
    store = source(np.minimum(images, 4095), channels=1).load_arrays()[0]
    assert store.max() == 1
    assert "highest value 4095 of 65535, read as 12 bits in 16 (if white is another" in said()
    store = source(np.minimum(images, 4000), channels=1).load_arrays()[0]
    assert store.max() == np.float32(4000 / 65535)
    assert "no value above 4000 of 65535, read as very dark (if white is another" in said()


def test_the_home_folder(source, pictures, monkeypatch, tmp_path):
    source(pictures)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(Npy(path="~/images.npy", size=20).split("train")) == 50


def test_what_is_white_is_no_part_of_the_identity(source, pictures):
    plain = source(pictures)
    assert source(pictures, white=255).identity == plain.identity


@pytest.mark.shared
def test_the_cases_of_users(shared, said):
    store = Npy(path=shared / "cases" / "binary_uint8_0_1.npy", channels=1).load_arrays()[0]
    assert set(np.unique(store)) == {0, 255}
    assert Npy(path=shared / "cases" / "one_ulp_above_1.npy", channels=1).load_arrays()[0].max() == 1


@pytest.mark.parametrize("channels", [2, 5])
def test_images_of_any_number_of_channels(source, channels, said):
    images = np.random.default_rng(0).random((30, 20, 24, channels), dtype=np.float32)
    mapped = source(images, size=[20, 24], channels=channels)
    assert mapped.image_shape == (channels, 20, 24)
    assert isinstance(mapped.split("train").store, np.memmap)
    turned = source(np.moveaxis(images, -1, 1), size=(20, 24), channels=channels).load_arrays()[0]
    np.testing.assert_array_equal(turned, images)
    assert "read as N x C x H x W" in said()
    cropped = source(images, size=10, channels=channels).load_arrays()[0]
    assert cropped.shape == (30, 10, 10, channels)
    with pytest.raises(UserError, match=r"expected .* with C 1 or 3; for images of another number .* data\.channels"):
        source(images, channels=3).load_arrays()
    with pytest.raises(UserError, match=r"images of 1 channels cannot be converted to 4: set data\.channels=1"):
        source(images[..., 0], channels=4).load_arrays()


def test_images_that_are_not_square(source, pictures):
    wide = source(pictures, size=[12, 20]).load_arrays()[0]
    np.testing.assert_array_equal(wide, pictures[:, 4:16])
    tall = source(pictures, size=[20, 10]).load_arrays()[0]
    np.testing.assert_array_equal(tall, pictures[:, :, 5:15])
    assert source(pictures, size=[16, 8]).load_arrays()[0].shape == (len(pictures), 16, 8, 3)
    with pytest.raises(UserError, match=r"has 20 x 20 images, smaller than size 16 x 24: lower data\.size"):
        source(pictures, size=[16, 24]).load_arrays()


def test_a_size_is_one_number_or_two(source, pictures):
    square = source(pictures, size=[20, 20])
    assert square.size == 20
    assert square.identity == source(pictures, size=20).identity
    assert source(pictures, size=[12, 20]).canonical()["size"] == [12, 20]
    for size, message in (
        (4, "size: input should be at least 8 and at most 8192 (got 4)"),
        ([4, 20], "size.0: input should be at least 8 and at most 8192 (got 4)"),
        ([20], "size.1: field required (got [20])"),
        ("wide", "size: input should be a valid integer, unable to parse string as an integer (got 'wide')"),
    ):
        with pytest.raises(UserError) as refusal:
            square.replace(size=size)
        assert str(refusal.value) == message


def test_complex_values_are_two_channels(source):
    with pytest.raises(UserError, match=r"complex64: save real and imaginary part as two channels"):
        source(np.ones((30, 20, 20), np.complex64)).load_arrays()
