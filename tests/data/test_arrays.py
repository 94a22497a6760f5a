"""Arrays of somebody else: as pictures, and what they may not do."""

import io
import struct
import zipfile

import numpy as np
import pytest

from workbench.core.config import UserError
from workbench.data import Npy
from workbench.data.arrays import read_archive
from workbench.data.reading import read_pictures

RNG = np.random.default_rng(0)
NOISY = RNG.normal(0.5, 1, (4, 9, 7, 3)).astype(np.float32)


@pytest.fixture
def npy(tmp_path):
    def save(array, name="y.npy"):
        np.save(tmp_path / name, array)
        return tmp_path / name

    return save


@pytest.fixture
def npz(tmp_path):
    def save(**arrays):
        np.savez_compressed(tmp_path / "y.npz", **arrays)
        return tmp_path / "y.npz"

    return save


def refused(path, message):
    with pytest.raises(UserError, match=message) as caught:
        read_pictures(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("stored", "names"),
    [
        (NOISY[0, ..., 0], ["y.npy"]),
        (NOISY[0], ["y.npy"]),
        (NOISY[0, ..., :1], ["y.npy"]),
        (NOISY[..., 0], ["y.npy:0", "y.npy:1", "y.npy:2", "y.npy:3"]),
        (NOISY, ["y.npy:0", "y.npy:1", "y.npy:2", "y.npy:3"]),
        (NOISY[:1], ["y.npy:0"]),
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "f2"])
def test_measurements_keep_values_outside_the_unit_interval(npy, stored, names, dtype):
    pictures = read_pictures(npy(stored.astype(dtype)))
    assert [picture.name for picture in pictures] == names
    found = np.stack([picture.pixels for picture in pictures])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.ravel(), stored.astype(dtype).astype("f4").ravel())
    assert {picture.num_channels for picture in pictures} == {found.shape[-1]}


def test_channels_first(npy):
    pictures = read_pictures(npy(NOISY.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(np.stack([picture.pixels for picture in pictures]), NOISY)
    assert pictures[0].notes == ("shape (4, 3, 9, 7) read as N x C x H x W",)
    assert read_pictures(npy(NOISY[0, ..., 0][None, None]))[0].pixels.shape == (9, 7, 1)
    assert read_pictures(npy(NOISY[:3, ..., 0]))[0].notes == ("shape (3, 9, 7) read as three greyscale images",)


def test_each_key_of_an_archive_is_a_picture(npz):
    pictures = read_pictures(npz(b=NOISY[0], a=NOISY[1, ..., 0], several=NOISY[:2]))
    assert [p.name for p in pictures] == ["y.npz:b", "y.npz:a", "y.npz:several:0", "y.npz:several:1"]
    np.testing.assert_array_equal(pictures[0].pixels, NOISY[0])


def test_an_archive_of_y_and_names(npz):
    pictures = read_pictures(npz(y=NOISY[..., 0], names=np.array(["d", "c", "b", "a"])))
    assert [p.name for p in pictures] == ["y.npz:d", "y.npz:c", "y.npz:b", "y.npz:a"]
    assert pictures[0].pixels.shape == (9, 7, 1)
    in_bytes = read_pictures(npz(y=NOISY[:2], names=np.array(["\u00fc".encode(), b"\xff"])))
    assert [p.name for p in in_bytes] == ["y.npz:\u00fc", "y.npz:\udcff"]
    assert read_pictures(npz(y=NOISY))[0].name == "y.npz:0"
    refused(npz(y=NOISY, names=np.array(["a", "b"])), "names in .* must be 4 strings, got <U1 of shape")
    refused(npz(y=NOISY, names=np.arange(4)), "must be 4 strings, got int64")
    refused(npz(y=NOISY, names=np.array(["a", "b", "c", "a"])), "a duplicate")
    refused(npz(y=NOISY, mask=NOISY), "contains y and also mask")
    refused(npz(), "has no arrays")


def test_whole_numbers_have_their_white(npy):
    stored = RNG.integers(0, 65536, (2, 9, 7), dtype=np.uint16)
    np.testing.assert_allclose(read_pictures(npy(stored))[1].pixels[..., 0], stored[1] / 65535, rtol=1e-6)
    (twelve, _) = read_pictures(npy(np.minimum(stored, 4095)))
    assert (twelve.white, twelve.pixels.max()) == (4095, 1)
    (mask,) = read_pictures(npy(stored[0] > 9000))
    assert (mask.pixels.dtype, set(np.unique(mask.pixels))) == (np.uint8, {0, 255})
    assert mask.notes == ("true and false read as white and black",)
    (binary,) = read_pictures(npy((stored[0] > 9000).astype(np.uint8)))
    np.testing.assert_array_equal(binary.pixels, mask.pixels)
    assert binary.notes == ("only values 0 and 1, read as black and white",)


BAD = {
    "signed": (np.ones((9, 7), np.int16), "has dtype int16, whose white is unknown"),
    "long": (np.ones((9, 7), np.uint32), "has dtype uint32"),
    "complex": (np.ones((9, 7), np.complex64), "has dtype complex64"),
    "objects": (np.array([{}, 1], dtype=object), "contains Python objects, which are not loaded"),
    "texts": (np.array(["a"]), "has dtype <U1"),
    "dates": (np.zeros(3, "M8[s]"), r"has dtype datetime64\[s\]"),
    "records": (np.zeros(3, [("a", "f4"), ("b", "O")]), "contains Python objects"),
    "a number": (np.float32(1), "shape"),
    "a row": (np.ones(9, np.float32), "shape"),
    "NaN": (np.full((9, 7), np.nan), "not finite"),
    "infinite": (np.full((9, 7), np.inf), "not finite"),
    "on 255": (NOISY[0] * 255, "but white must be 1: divide them by the value of white"),
    "empty": (NOISY[:0], "is empty"),
    "four channels": (np.ones((2, 9, 7, 4), np.float32), "expected N x H x W or N x H x W x C"),
    "images last": (np.ones((9, 9, 50), np.float32), r"looks like H x W x N: transpose it with numpy\.moveaxis"),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_are_no_pictures(npy, case):
    refused(npy(BAD[case][0]), BAD[case][1])


def header(shape, dtype="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(3_000_000, 1024, 1024), (2**40, 2**40, 2**40), (1, 9, 2**31)])
def test_a_header_that_claims_terabytes_is_refused_by_its_size(tmp_path, shape):
    """12 TiB and more, as a file and as a member of an archive; no memory is asked for."""
    content = header(shape) + bytes(1000)
    (tmp_path / "y.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "y.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content)
    for name in ("y.npy", "y.npz"):
        refused(tmp_path / name, r"claims [\d,]+ bytes for shape .* but has 1,000: it is truncated or damaged")
        with pytest.raises(UserError, match="it is truncated or damaged"):
            Npy(path=tmp_path / name).split("train")


def test_a_member_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "y.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header((1, 9, 7)) + bytes(252))
    content = bytearray((tmp_path / "y.npz").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # where the unpacked size stands
        at = content.index(signature) + offset
        content[at : at + 4] = struct.pack("<I", 2**31)
    (tmp_path / "y.npz").write_bytes(content)
    refused(tmp_path / "y.npz", r"y\.npz:a would unpack to 2,147,483,648 bytes")


@pytest.mark.parametrize(
    "descr",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 3000 + ")" * 3000 + "}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-9, -7)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9L, 7",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'shape': (1,)}",
        "__import__('os').system('false')",
        "\udcff\udcfe",
        "'" * 7,
        "{" * 500,
    ],
)
def test_headers_of_all_kinds_end_in_one_line(tmp_path, descr):
    text = descr.encode("utf-8", "surrogateescape") + b"\n"
    for version, length in ((b"\x01\0", "<H"), (b"\x02\0", "<I"), (b"\x03\0", "<I")):
        (tmp_path / "y.npy").write_bytes(b"\x93NUMPY" + version + struct.pack(length, len(text)) + text + bytes(99))
        refused(tmp_path / "y.npy", ".")


def test_archives_that_cannot_be_unpacked(tmp_path, npz):
    path = npz(a=NOISY[0])
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    for at, value in ((central + 10, 97), (central + 8, 1)):  # an unknown method, encrypted
        changed = bytearray(content)
        changed[at] = value
        changed[8 if at == central + 10 else 6] = value
        path.write_bytes(changed)
        refused(path, r"cannot read \.npz .*save plain arrays")
    flipped = bytearray(content)
    flipped[central // 2] ^= 255
    path.write_bytes(flipped)
    refused(path, r"cannot read \.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no array")
    refused(path, r"cannot read \.npz .*magic")


def test_one_array_of_an_archive_is_data_and_several_are_not(tmp_path, said):
    images = RNG.integers(0, 256, (40, 20, 20), dtype=np.uint8)
    np.savez_compressed(tmp_path / "one.npz", images)
    np.save(tmp_path / "one.npy", images)
    one = Npy(path=tmp_path / "one.npz", size=20, channels=1)
    fingerprint = one.fingerprint
    assert said() == f"read 40 images from {tmp_path / 'one.npz'}, left out 0"
    assert Npy(path=tmp_path / "one.npy", size=20, channels=1).fingerprint == fingerprint
    np.savez(tmp_path / "two.npz", x_train=images, x_test=images)
    with pytest.raises(UserError, match=r"archive of 2 arrays \(x_train, x_test\): save one of them"):
        Npy(path=tmp_path / "two.npz", size=20).split("train")
    assert list(read_archive(tmp_path / "two.npz")) == ["x_train", "x_test"]


@pytest.mark.shared
def test_measurements_that_users_have(shared):
    pictures = read_pictures(shared / "cases" / "clipped_noise" / "y_float.npy")
    assert pictures[0].pixels.min() < 0
    assert pictures[0].pixels.shape == (32, 32, 1)
