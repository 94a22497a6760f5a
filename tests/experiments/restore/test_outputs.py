"""Where restored images go: nothing lost, nothing half written, nothing through a link."""

import csv
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from degraded_pictures import as_input, measured
from PIL import Image

from workbench.core.config import UserError
from workbench.experiments.restore.outputs import Format, Outputs, output_name

GREY = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
COLOUR = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An input folder with two files."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        (folder / name).write_text(name)
    return folder


def outputs(
    folder: Path, source: Path, *names: str, overwrite: bool = False, file_format: Format = "png", grey: bool = True
) -> Outputs:
    group = measured(torch.zeros(len(names or "ab"), 1, 8, 8), *(names or ("a.png", "b.jpg")))
    pictures = as_input(group, source, grey=grey)
    return Outputs(folder, source, pictures, file_format, overwrite=overwrite)


def refused(*arguments: object, **options: bool) -> str:
    with pytest.raises(UserError) as error:
        outputs(*arguments, **options).make()  # type: ignore[arg-type]
    return str(error.value)


def test_names_of_outputs() -> None:
    assert output_name("a.b.tif", "png") == "a.b.png"
    assert output_name("y.npy:3", "npy") == "y_3.npy"
    assert output_name("y.npz:../left.png", "png") == "y_.._left.png"


@pytest.mark.parametrize(("x", "grey", "mode"), [(GREY, True, "L"), (GREY, False, "L"), (COLOUR, False, "RGB")])
def test_pictures_are_as_grey_as_model_and_picture(
    x: torch.Tensor, grey: bool, mode: str, source: Path, tmp_path: Path
) -> None:
    made = outputs(tmp_path / "out", source, grey=grey)
    made.make()
    made.write("b.jpg", x)
    with Image.open(tmp_path / "out" / "b.png") as image:
        assert image.mode == mode
        found = np.asarray(image).reshape(8, 8, -1)
    assert np.array_equal(found, (x.permute(1, 2, 0) * 255).round().numpy().astype(np.uint8))


def test_a_grey_picture_comes_back_grey_from_a_colour_model(source: Path, tmp_path: Path) -> None:
    made = outputs(tmp_path / "out", source)
    made.make()
    made.write("a.png", COLOUR)
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.mode == "L"
        wanted = 255 * np.einsum("chw,c->hw", COLOUR.numpy(), [0.299, 0.587, 0.114])
        assert np.abs(np.asarray(image) - wanted).max() <= 0.51


def test_floats_are_written_as_they_are(source: Path, tmp_path: Path) -> None:
    made = outputs(tmp_path / "out", source, file_format="npy", grey=False)
    made.make()
    made.write("a.png", GREY)
    made.write("b.jpg", COLOUR)
    assert np.array_equal(np.load(tmp_path / "out" / "a.npy"), GREY[0])
    assert np.array_equal(np.load(tmp_path / "out" / "b.npy"), COLOUR.permute(1, 2, 0))


def test_what_is_there_is_not_overwritten_unasked(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "b.png").write_text("precious")
    assert refused(folder, source) == (
        f"--output {folder} already contains b.png (1 of 3 files): add --overwrite to replace them, "
        "or choose another --output"
    )
    assert (folder / "b.png").read_text() == "precious"
    made = outputs(folder, source, overwrite=True)
    made.make()
    made.write("b.jpg", GREY)
    assert Image.open(folder / "b.png").size == (8, 8)


@pytest.mark.parametrize("dangling", [False, True])
def test_nothing_is_written_through_a_link(dangling: bool, source: Path, tmp_path: Path) -> None:
    folder, target = tmp_path / "out", tmp_path / "elsewhere.png"
    folder.mkdir()
    if not dangling:
        target.write_text("precious")
    (folder / "a.png").symlink_to(target)
    assert "already contains a.png" in refused(folder, source)
    made = outputs(folder, source, overwrite=True)
    made.make()
    made.write("a.png", GREY)
    assert not (folder / "a.png").is_symlink(), "the link is replaced"
    assert target.exists() != dangling
    assert dangling or target.read_text() == "precious"
    (folder / "b.png.partial").symlink_to(target)
    assert "b.png.partial is in the way: remove it" in refused(folder, source, overwrite=True)


def test_a_folder_may_be_a_link(source: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    made = outputs(tmp_path / "out", source)
    made.make()
    made.write("a.png", GREY)
    assert (tmp_path / "disk" / "a.png").is_file()


def test_inputs_are_never_overwritten(source: Path, tmp_path: Path) -> None:
    line = refused(source / ".." / "in", source, overwrite=True)
    assert "is the input folder" in line
    (tmp_path / "link").symlink_to(source)
    assert "is the input folder" in refused(tmp_path / "link", source, overwrite=True)
    # one picture as input, its own folder as output
    pictures = as_input(measured(torch.zeros(1, 1, 8, 8), "a.png"), source)
    with pytest.raises(UserError, match=r"a\.png is an input and would be overwritten"):
        Outputs(source, source / "a.png", pictures, "png", overwrite=True)


def test_a_hard_link_to_an_input_is_not_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.link(source / "a.png", tmp_path / "out" / "a.png")
    assert "is an input" in refused(tmp_path / "out", source, overwrite=True)


@pytest.mark.parametrize(
    ("first", "second"), [("a.png", "a.jpg"), ("A.png", "a.png"), ("é.png", "e\u0301.png"), ("y.npy:1", "y_1.png")]
)
def test_names_that_clash_are_one_line(first: str, second: str, source: Path, tmp_path: Path) -> None:
    line = refused(tmp_path / "out", source, first, second)
    assert f"{first} and {second} would both become {output_name(first, 'png')}" in line
    assert not (tmp_path / "out").exists()


def test_a_folder_in_the_way_is_one_line(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    assert "a.png is a folder" in refused(tmp_path / "out", source, overwrite=True)


def test_a_name_that_the_disk_does_not_take_is_one_line(source: Path, tmp_path: Path) -> None:
    assert "allows names of" in refused(tmp_path / "out", source, f"{'n' * 250}.png")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_that_cannot_be_written_is_one_line(place: str, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(tmp_path / place, source)


def test_a_read_only_output_is_refused(read_only: Path) -> None:
    made = Outputs(
        read_only, read_only / "in", as_input(measured(torch.zeros(1, 1, 8, 8), "a.png")), "png", overwrite=False
    )
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
        made.make()


def half_written(image: Image.Image, path: Path, kind: str) -> None:
    """As a write ends on a full disk: the error names no file."""
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_and_leaves_no_half_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = outputs(tmp_path / "out", source)
    made.make()
    made.write("b.jpg", GREY)
    monkeypatch.setattr(Image.Image, "save", half_written)
    with pytest.raises(UserError) as error:
        made.write("a.png", GREY)
    assert str(error.value) == (
        f"--output {tmp_path / 'out'} has no space left (No space left on device) at a.png: fix this and run the same "
        "command again"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


def test_names_in_the_table_are_safe(source: Path, tmp_path: Path) -> None:
    made = outputs(tmp_path / "out", source)
    made.make()
    names = ["=1+1.png", "+a.png", "-a.png", "@a.png", "\ta.png", "\ra.png", "a\udcff.png", "ä, b.png", "[bold]x.png"]
    made.write_report([{"image": name, "nfe": -3} for name in names])
    text = (tmp_path / "out" / "restored.csv").read_bytes().decode("utf-8")
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    wanted = ["'=1+1.png", "'+a.png", "'-a.png", "'@a.png", "'\ta.png", "'\ra.png"]
    assert [row["image"] for row in rows] == [*wanted, "a\\udcff.png", "ä, b.png", "[bold]x.png"]
    assert {row["nfe"] for row in rows} == {"-3"}, "numbers stay numbers"
