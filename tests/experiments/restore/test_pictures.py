"""Reading degraded pictures: folders, single files, arrays."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.core.config import UserError
from workbench.experiments.restore.pictures import parts, printable, read_measured, some, titles

SHAPE = (1, 16, 16)
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 16, 16), dtype=np.uint8)
FLOATS = RNG.normal(0.5, 0.5, (3, 16, 16)).astype(np.float32)


def folder_of(images: np.ndarray, folder: Path) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def test_pictures_stand_in_natural_order(tmp_path: Path) -> None:
    measured = read_measured(folder_of(BYTES, tmp_path / "in"), SHAPE, smaller=False)
    assert measured.names == tuple(f"{number}.png" for number in range(12))
    assert torch.equal(measured.y, torch.from_numpy(BYTES)[:, None] / 255)
    assert measured.lines == (f"read 12 images from {tmp_path / 'in'}, left out 0",)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    folder = folder_of(BYTES[:2], tmp_path / "in")
    np.savez(folder / "masks.npz", mask=np.ones(3))
    (folder / "notes.txt").touch()
    measured = read_measured(folder, SHAPE, smaller=False)
    assert len(measured) == 2
    assert "left out 2 (1 .npz, 1 .txt)" in measured.lines[0] or "left out 2 (1 .txt, 1 .npz)" in measured.lines[0]


def test_one_picture_is_an_input(tmp_path: Path) -> None:
    folder = folder_of(BYTES[:1], tmp_path / "in")
    measured = read_measured(folder / "0.png", SHAPE, smaller=False)
    assert measured.names == ("0.png",)
    assert measured.lines == (f"read 1 image from {folder / '0.png'}, left out 0",)


def test_noise_in_floats_is_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", FLOATS)
    np.savez(tmp_path / "y.npz", y=FLOATS, names=np.array(["a", "b", "c"]))
    Image.fromarray(FLOATS[0]).save(tmp_path / "y.tif")
    array, archive = (read_measured(tmp_path / name, SHAPE, smaller=False) for name in ("y.npy", "y.npz"))
    assert torch.equal(array.y[:, 0], torch.from_numpy(FLOATS))
    assert torch.equal(archive.y, array.y)
    assert array.names == ("y.npy:0", "y.npy:1", "y.npy:2")
    assert archive.names == ("y.npz:a", "y.npz:b", "y.npz:c")
    assert array.lines[0].startswith(f"read 3 images from {tmp_path / 'y.npy'}, left out 0")
    assert torch.equal(read_measured(tmp_path / "y.tif", SHAPE, smaller=False).y[0, 0], torch.from_numpy(FLOATS[0]))


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    deep[0, 1] += 1
    Image.fromarray(deep).save(tmp_path / "y.png")
    measured = read_measured(tmp_path / "y.png", SHAPE, smaller=False)
    assert torch.allclose(measured.y[0, 0], torch.from_numpy(deep / 65535).float(), atol=1e-7)


def test_a_folder_of_arrays_is_an_input(tmp_path: Path) -> None:
    for number in (10, 2):
        np.save(tmp_path / f"{number}.npy", FLOATS[0])
    assert read_measured(tmp_path, SHAPE, smaller=False).names == ("2.npy", "10.npy")


def test_colour_becomes_grey_unclipped_and_is_said(tmp_path: Path) -> None:
    colour = RNG.normal(0.5, 1, (2, 16, 16, 3)).astype(np.float32)
    np.save(tmp_path / "y.npy", colour)
    measured = read_measured(tmp_path / "y.npy", SHAPE, smaller=False)
    assert np.allclose(measured.y[:, 0], colour @ np.array([0.299, 0.587, 0.114]), atol=1e-6)
    assert "2 of 2 images are in colour, but the model is greyscale" in measured.lines[-1]
    assert "scales white noise by 0.67" in measured.lines[-1]
    assert measured.grey == (False, False)


def test_grey_pictures_stored_in_colour_need_no_word(tmp_path: Path) -> None:
    Image.fromarray(BYTES[0]).convert("RGB").save(tmp_path / "0.png")
    measured = read_measured(tmp_path / "0.png", SHAPE, smaller=False)
    assert "colour" not in "".join(measured.lines)
    assert torch.equal(measured.y[0, 0], torch.from_numpy(BYTES[0]) / 255)


def test_a_smaller_picture_stands_in_the_corner(tmp_path: Path) -> None:
    Image.fromarray(BYTES[0][:5, :5]).save(tmp_path / "0.png")
    measured = read_measured(tmp_path / "0.png", SHAPE, smaller=True)
    assert measured.sizes == ((5, 5),)
    assert torch.equal(measured.y[0, 0, :5, :5], torch.from_numpy(BYTES[0][:5, :5]) / 255)
    assert int((measured.y != 0).sum()) == int((BYTES[0][:5, :5] != 0).sum())
    with pytest.raises(UserError, match=r"0\.png is 5 x 5, but the model restores 16 x 16"):
        read_measured(tmp_path / "0.png", SHAPE, smaller=False)
    Image.fromarray(BYTES[0][:5, :4]).save(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"0\.png is 4 x 5, but the model restores 16 x 16"):
        read_measured(tmp_path / "0.png", SHAPE, smaller=True)


def test_what_holds_no_pictures_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is neither a folder nor a file"):
        read_measured(tmp_path / "nowhere", SHAPE, smaller=False)
    with pytest.raises(UserError, match="has no images"):
        read_measured(tmp_path, SHAPE, smaller=False)
    np.savez(tmp_path / "all.npz", y=FLOATS)
    with pytest.raises(UserError, match=r"to restore the images in all\.npz, pass the file itself"):
        read_measured(tmp_path, SHAPE, smaller=False)


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
