import shutil

import numpy as np
import pytest
from PIL import Image

from workbench.core.config import UserError
from workbench.data import ImageFolder, base

SPLITS = ("train", "val", "test")


def ids(source: ImageFolder) -> list[list[int]]:
    base._splits.cache_clear()
    return [source.split(name).ids.tolist() for name in SPLITS]


def test_names_and_folders_do_not_matter(tmp_path, pictures, save):
    plain = ImageFolder(path=save(pictures, tmp_path / "plain"), size=20)
    renamed = ImageFolder(path=save(pictures, tmp_path / "renamed", lambda row: f"x{997 * row % 61}.png"), size=20)
    nested = tmp_path / "nested"
    save(pictures[:25], nested / "a" / "deep")
    save(pictures[25:], nested / "b")
    assert ids(plain) == ids(renamed) == ids(ImageFolder(path=nested, size=20))

    before = plain.identity
    moved = shutil.move(tmp_path / "plain", tmp_path / "moved")
    assert ImageFolder(path=moved, size=20).identity == before


def test_train_and_test_folders_are_the_official_splits(tmp_path, pictures, save):
    save(pictures[:40], tmp_path / "train")
    save(pictures[30:], tmp_path / "test")
    save(pictures[:5] // 2, tmp_path / "other")
    source = ImageFolder(path=tmp_path, size=20)
    assert {image.tobytes() for image in source.split("test").images} == {image.tobytes() for image in pictures[30:]}
    found = np.concatenate([source.split("train").images, source.split("val").images])
    assert {image.tobytes() for image in found} == {image.tobytes() for image in pictures[:30]}


def test_sizes_formats_and_modes_mix(tmp_path, pictures, save):
    save(pictures, tmp_path)
    tall = Image.fromarray(pictures[0]).resize((50, 90))
    for name in ("a.JPG", "b.jpeg", "c.bmp", "d.webp", "e.tif", "f.tiff"):
        tall.save(tmp_path / name)
    for mode in ("L", "LA", "RGBA", "P", "1"):
        tall.convert(mode).save(tmp_path / f"{mode}.png")
    (tmp_path / "notes.txt").write_text("no image")
    colour = ImageFolder(path=tmp_path, size=16)
    grey = ImageFolder(path=tmp_path, size=16, channels=1)
    assert colour.split("train").store.shape == (71, 16, 16, 3)
    assert grey.split("train").batch([0]).shape == (1, 1, 16, 16)


def test_resizing_does_not_alias(tmp_path, save):
    checkerboard = (np.indices((72, 72)).sum(0) % 2 * 255).astype(np.uint8)
    images = np.stack([checkerboard] * 25)
    store = ImageFolder(path=save(images, tmp_path), size=8, channels=1).load_arrays()[0]
    np.testing.assert_allclose(store / 255, 0.5, atol=0.05)


def test_exif_orientation_is_followed(tmp_path, pictures, save):
    save(pictures, tmp_path)
    upright = Image.fromarray(pictures[0])
    exif = Image.Exif()
    exif[0x0112] = 3
    upright.rotate(180).save(tmp_path / "turned.png", exif=exif)
    assert sum(map(len, ids(ImageFolder(path=tmp_path, size=20)))) == len(pictures)


def test_bad_folders_are_one_clear_line(tmp_path, pictures, save):
    def refused(path, message, size=20):
        with pytest.raises(UserError, match=message) as caught:
            ImageFolder(path=path, size=size).split("train")
        assert "\n" not in str(caught.value)

    refused(tmp_path / "absent", "absent is not a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty has no images")
    refused(save(pictures[:19], tmp_path / "few"), "few has 19 distinct training images")
    refused(save(pictures, tmp_path / "small"), r"small.*000\.png is 20 x 20 pixels, smaller than size 24", size=24)

    save(pictures, tmp_path / "cut")
    content = (tmp_path / "cut" / "030.png").read_bytes()
    (tmp_path / "cut" / "030.png").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "cut", r"cannot read the image .*030\.png")

    save(pictures, tmp_path / "text")
    (tmp_path / "text" / "photo.jpg").write_text("no image")
    refused(tmp_path / "text", r"cannot read the image .*photo\.jpg")

    save(pictures, tmp_path / "deep")
    Image.fromarray(np.full((20, 20), 40000, np.int32)).save(tmp_path / "deep" / "signed.tif")
    refused(tmp_path / "deep", r"signed\.tif has dtype int32, whose white is unknown")
    refused(tmp_path / "deep" / "000.png", "is not a folder")


def test_a_mask_of_0_and_1_beside_pictures_is_noticed(tmp_path, pictures, save, capsys):
    save(pictures, tmp_path)
    Image.fromarray((pictures[0] > 99).astype(np.uint8)).save(tmp_path / "mask.png")
    ImageFolder(path=tmp_path, size=20).load_arrays()
    assert (
        "1: only values 0 and 1 of 255, but other files are brighter: read as nearly black" in capsys.readouterr().out
    )
