"""Which files of a folder are pictures, and what the user is told about the others."""

import os

import numpy as np
import pytest
from PIL import Image

from workbench.core.config import UserError
from workbench.data import ImageFolder
from workbench.data.picture import NEARLY_BLACK, Picture, on_unit_scale, white_of
from workbench.data.reading import PICTURES, list_pictures, natural_order, read_pictures, same_white, say


def grey(value=100, size=16):
    return Image.fromarray(np.full((size, size), value, np.uint8))


def test_numbers_in_names_count_as_numbers():
    names = ["10.png", "2.png", "1.png", "a10b2", "a10b10", "a2", "a", "01.png", "B", "9" * 5000, "8" * 5001, ""]
    ordered = sorted(names, key=natural_order)
    numbers = ["01.png", "1.png", "2.png", "10.png", "9" * 5000, "8" * 5001]
    assert ordered == ["", *numbers, "B", "a", "a2", "a10b2", "a10b10"]


def test_a_folder_of_everything(tmp_path):
    for name in ("10.PNG", "2.png", "1.tga", "z.pgm"):
        grey().save(tmp_path / name)
    for name in (".hidden.png", "._2.png", "Thumbs.db", "notes.txt", "more.TXT", "x.heic", "README"):
        (tmp_path / name).write_text("x")
    for name in ("__MACOSX", ".ipynb_checkpoints", "sub"):
        (tmp_path / name).mkdir()
        grey().save(tmp_path / name / "3.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")

    flat = list_pictures(tmp_path)
    # a link to nothing is read, and then refused by its name: no image is lost without a word
    assert [file.name for file in flat.files] == ["1.tga", "2.png", "10.PNG", "gone.png", "z.pgm"]
    assert flat.num_hidden == 5
    assert {path.name: why for path, why in flat.left_out} == {
        "notes.txt": ".txt",
        "more.TXT": ".txt",
        "x.heic": ".heic",
        "README": "without suffix",
        "sub": "folder",
        "pipe.png": "not a regular file",
    }
    assert flat.line(tmp_path, ["on white", "on white"]) == (
        f"read 5 images from {tmp_path}, left out 11 (5 hidden, 2 .txt, 1 without suffix, 1 not a regular file, "
        "1 folder, 1 .heic); 2: on white"
    )
    deep = list_pictures(tmp_path, recursive=True)
    assert [file.relative_to(tmp_path).as_posix() for file in deep.files][-2:] == ["sub/3.png", "z.pgm"]
    with pytest.raises(UserError, match=r"notes\.txt is not a folder"):
        list_pictures(tmp_path / "notes.txt")


def test_what_this_pillow_cannot_read_is_left_out_with_a_word(tmp_path, monkeypatch):
    grey().save(tmp_path / "a.png")
    (tmp_path / "b.avif").write_text("x")
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    listing = list_pictures(tmp_path)
    assert [file.name for file in listing.files] == ["a.png"]
    assert listing.line("here") == "read 1 image from here, left out 1 (1 .avif (this Pillow cannot read it))"


def test_links_to_folders_are_followed_once(tmp_path):
    real, folder = tmp_path / "real", tmp_path / "folder"
    real.mkdir()
    folder.mkdir()
    for number in range(3):
        grey(number).save(real / f"{number}.png")
    (folder / "class").symlink_to(real)
    (folder / "again").symlink_to(real)
    (folder / "itself").symlink_to("itself")
    (real / "up").symlink_to(folder)
    listing = list_pictures(folder, recursive=True)
    assert [file.relative_to(folder).as_posix() for file in listing.files] == [f"again/{n}.png" for n in range(3)]
    assert sorted(why for _, why in listing.left_out) == [
        *["link to a folder that was already read"] * 2,
        "without suffix",
    ]


def test_folders_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    with pytest.raises(UserError, match=r"cannot read the folder .* \(Permission denied\)"):
        list_pictures(tmp_path)


@pytest.fixture
def images_of(pictures, save, said):
    """Three different images of each named subfolder, as a source; what was said about them."""

    def make(folder, *names, count=24):
        for i, name in enumerate(names):
            save(np.roll(pictures, i, -1)[:count], folder / name)
        source = ImageFolder(path=folder, size=20)
        source.split("test")
        return source, said()

    return make


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (("train", "val"), "train", "val"),
        (("Train", "Test"), "Train", "Test"),
        (("TRAINING", "testing"), "TRAINING", "testing"),
        (("train", "validation"), "train", "validation"),
        (("train", "Valid"), "train", "Valid"),
        (("train", "test", "Test", "val"), "train", "test"),
    ],
)
def test_official_splits_by_other_names(tmp_path, images_of, names, train, test):
    source, line = images_of(tmp_path, *names, "other")
    assert len(source.split("test")) == 24
    assert len(source.split("train")) + len(source.split("val")) == 24
    unread = ", ".join(sorted({*names, "other"} - {train, test}))
    assert line.endswith(f"; official splits: train {train}, test {test}; not read: {unread}")
    assert line.startswith(f"read 48 images from {tmp_path}, left out 0;")


def test_half_a_split_is_none_and_said_to_be_none(tmp_path, images_of):
    source, line = images_of(tmp_path, "test", "other")
    assert len(source.split("test")) == 4
    assert line.endswith("; test alone is not an official split; all images are split by content")
    assert images_of(tmp_path / "plain", "cats")[1] == f"read 24 images from {tmp_path / 'plain'}, left out 0"


def test_the_home_folder(tmp_path, images_of, monkeypatch):
    images_of(tmp_path / "pictures", "cats")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ImageFolder(path="~/pictures", size=20).path == tmp_path / "pictures"
    assert str(ImageFolder(path="~no_such_user/x", size=20).path) == "~no_such_user/x"


def test_names_that_are_no_text_can_be_told(tmp_path, said):
    grey().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"\xff.png"))
    listing = list_pictures(tmp_path)
    say(listing.line(listing.files[0]))
    assert said().encode().endswith(b"\\udcff.png, left out 0")


def deep(name, peak, white=None):
    stored = np.array([[0], [peak]], np.uint16)[..., None]
    value, notes = white_of(stored.dtype, peak, white)
    return Picture(name, on_unit_scale(stored, value), 1, ("turned", *notes), value, peak, stored.dtype)


def test_files_of_one_folder_have_one_white():
    full, dark = "highest value 4095 of 65535, read as 12 bits in 16", "no value above 4000 of 65535, read as very dark"
    bright, saturated, under = deep("a", 60000), deep("b", 4095), deep("c", 4000)
    assert saturated.notes == ("turned", full)
    assert under.notes == ("turned", dark)

    twelve = same_white([saturated, under])
    assert [p.white for p in twelve] == [4095, 4095]
    assert [p.pixels.max() for p in twelve] == pytest.approx([1, 4000 / 4095])
    assert [p.notes for p in twelve] == [("turned", full)] * 2

    sixteen = same_white([bright, saturated, under])
    assert [p.pixels.max() for p in sixteen] == pytest.approx([60000 / 65535, 4095 / 65535, 4000 / 65535])
    assert [p.notes for p in sixteen] == [("turned",)] * 3

    stated = deep("d", 3000, white=4095)
    assert same_white([bright, stated])[1] is stated


def test_bytes_of_0_and_1_are_black_and_white_if_all_files_are(tmp_path):
    for name, top in (("a", 1), ("b", 1), ("c", 200)):
        Image.fromarray(np.array([[0, top]], np.uint8)).save(tmp_path / f"{name}.png")
    a, b, c = (read_pictures(tmp_path / f"{name}.png")[0] for name in "abc")
    assert [p.pixels.max() for p in same_white([a, b])] == [255, 255]
    assert [p.pixels.max() for p in same_white([a, b, c])] == [1, 1, 200]
    assert [p.notes for p in same_white([a, b, c])] == [(NEARLY_BLACK,), (NEARLY_BLACK,), ()]


def test_a_name_with_a_line_break_stays_on_one_line(capsys):
    say("read 1 image from a\nb\x1b[31m \udcff \u00fc")
    assert capsys.readouterr().out == "read 1 image from a\\nb\\x1b[31m \\udcff \u00fc\n"


def test_every_format_that_is_listed_can_be_written_and_read(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    Image.init()
    for suffix in sorted(set(PICTURES) & set(Image.registered_extensions()) - {".pfm", ".apng"}):
        mode = "1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB"
        image.convert(mode).save(tmp_path / f"x{suffix}")
        (picture,) = read_pictures(tmp_path / f"x{suffix}")
        assert picture.pixels.shape == (16, 16, 3 if mode == "RGB" else 1)
        assert picture.pixels.dtype == np.uint8
