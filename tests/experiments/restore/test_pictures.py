"""Reading degraded pictures: folders, single files, arrays."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.core.config import UserError
from workbench.experiments.restore.pictures import Measured, parts, printable, read_input, some, titles

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 16, 16), dtype=np.uint8)
FLOATS = RNG.normal(0.5, 0.5, (3, 16, 16)).astype(np.float32)


def only(path: Path) -> Measured:
    """The images, which have one size, for a greyscale model."""
    (group,) = read_input(path, 1).groups
    return group


def folder_of(images: np.ndarray, folder: Path) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def test_pictures_stand_in_natural_order(tmp_path: Path) -> None:
    measured = read_input(folder_of(BYTES, tmp_path / "in"), 1)
    assert measured.names == tuple(f"{number}.png" for number in range(12))
    assert torch.equal(measured.groups[0].y, torch.from_numpy(BYTES)[:, None] / 255)
    assert measured.lines == (f"read 12 images from {tmp_path / 'in'}, left out 0",)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    folder = folder_of(BYTES[:2], tmp_path / "in")
    np.savez(folder / "masks.npz", mask=np.ones(3))
    (folder / "notes.txt").touch()
    measured = read_input(folder, 1)
    assert len(measured) == 2
    assert "left out 2 (1 .npz, 1 .txt)" in measured.lines[0] or "left out 2 (1 .txt, 1 .npz)" in measured.lines[0]


def test_one_picture_is_an_input(tmp_path: Path) -> None:
    folder = folder_of(BYTES[:1], tmp_path / "in")
    measured = read_input(folder / "0.png", 1)
    assert measured.names == ("0.png",)
    assert measured.lines == (f"read 1 image from {folder / '0.png'}, left out 0",)


def test_noise_in_floats_is_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", FLOATS)
    np.savez(tmp_path / "y.npz", y=FLOATS, names=np.array(["a", "b", "c"]))
    Image.fromarray(FLOATS[0]).save(tmp_path / "y.tif")
    array, archive = (only(tmp_path / name) for name in ("y.npy", "y.npz"))
    assert torch.equal(array.y[:, 0], torch.from_numpy(FLOATS))
    assert torch.equal(archive.y, array.y)
    assert array.names == ("y.npy:0", "y.npy:1", "y.npy:2")
    assert archive.names == ("y.npz:a", "y.npz:b", "y.npz:c")
    assert read_input(tmp_path / "y.npy", 1).lines[0].startswith(f"read 3 images from {tmp_path / 'y.npy'}, left out 0")
    assert torch.equal(only(tmp_path / "y.tif").y[0, 0], torch.from_numpy(FLOATS[0]))


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    deep[0, 1] += 1
    Image.fromarray(deep).save(tmp_path / "y.png")
    assert torch.allclose(only(tmp_path / "y.png").y[0, 0], torch.from_numpy(deep / 65535).float(), atol=1e-7)


def test_a_folder_of_arrays_is_an_input(tmp_path: Path) -> None:
    for number in (10, 2):
        np.save(tmp_path / f"{number}.npy", FLOATS[0])
    assert read_input(tmp_path, 1).names == ("2.npy", "10.npy")


def test_colour_becomes_grey_unclipped_and_is_said(tmp_path: Path) -> None:
    colour = RNG.normal(0.5, 1, (2, 16, 16, 3)).astype(np.float32)
    np.save(tmp_path / "y.npy", colour)
    measured = read_input(tmp_path / "y.npy", 1)
    assert np.allclose(measured.groups[0].y[:, 0], colour @ np.array([0.299, 0.587, 0.114]), atol=1e-6)
    assert "2 of 2 images are in colour, but the model is greyscale" in measured.lines[-1]
    assert "scales white noise by 0.67" in measured.lines[-1]
    assert measured.grey == (False, False)


def test_grey_pictures_stored_in_colour_need_no_word(tmp_path: Path) -> None:
    Image.fromarray(BYTES[0]).convert("RGB").save(tmp_path / "0.png")
    measured = read_input(tmp_path / "0.png", 1)
    assert "colour" not in "".join(measured.lines)
    assert torch.equal(measured.groups[0].y[0, 0], torch.from_numpy(BYTES[0]) / 255)


def test_pictures_of_one_size_and_kind_are_together(tmp_path: Path) -> None:
    """A colour model takes grey pictures as they are; the order of all is that of their names."""
    folder = folder_of(BYTES[:3], tmp_path / "in")
    Image.fromarray(BYTES[3][:5]).save(folder / "1.png")
    Image.fromarray(BYTES[4]).convert("RGB").save(folder / "10.png")
    read = read_input(folder, 3)
    assert read.names == ("0.png", "1.png", "2.png", "10.png")
    assert read.grey == (True, True, True, False)
    assert [group.names for group in read.groups] == [("0.png", "2.png"), ("1.png",), ("10.png",)]
    assert [group.image_shape for group in read.groups] == [(1, 16, 16), (1, 5, 16), (3, 16, 16)]
    assert torch.equal(read.groups[1].y[0, 0], torch.from_numpy(BYTES[3][:5]) / 255)
    grey = read_input(folder, 1)
    assert [group.names for group in grey.groups] == [("0.png", "2.png", "10.png"), ("1.png",)]


def test_a_model_of_other_images_has_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="image files have 1 or 3 channels, but the model's images have 2"):
        read_input(folder_of(BYTES[:1], tmp_path / "in"), 2)


def test_what_holds_no_pictures_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is neither a folder nor a file"):
        read_input(tmp_path / "nowhere", 1)
    with pytest.raises(UserError, match="has no images"):
        read_input(tmp_path, 1)
    np.savez(tmp_path / "all.npz", y=FLOATS)
    with pytest.raises(UserError, match=r"to restore the images in all\.npz, pass the file itself"):
        read_input(tmp_path, 1)


def test_names() -> None:
    assert parts("a.b.png") == ("a.b", "")
    assert parts("y.npy:3") == ("y", "3")
    assert parts("y.npz:left.png") == ("y", "left")
    assert parts("y.npz:v1.5") == ("y", "v1.5")
    assert parts("12:30.png") == ("12:30", "")
    assert titles("a.png") == ("a.png", "a")
    assert titles("y.npz:left.png") == ("left.png", "left")
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d"]) == "a, b, c ..."
    assert printable("a\udcff.png") == "a\\udcff.png"
