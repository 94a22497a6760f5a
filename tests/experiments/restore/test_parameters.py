"""A user's own parameters: which picture each belongs to, and what is refused."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from degraded_pictures import measured
from given_y import given
from PIL import Image

from workbench.core.config import UserError
from workbench.degradations import JPEG, Degradation, GaussianBlur, MotionBlurCRF, RandomInpainting
from workbench.degradations.base import Params
from workbench.experiments.restore.parameters import distinct, named, parameters, read_parameters

N = 12
SEVERITY = torch.full((N,), 0.4)
Y = torch.zeros(N, 1, 16, 16)
MASKS = np.ones((N, 1, 16, 16), np.float32)
MASKS[np.arange(N), 0, 0, np.arange(N)] = 0  # each its own
FILES = tuple(f"{number}.png" for number in range(N))


def taken(path: Path, *names: str) -> tuple[torch.Tensor, list[str]]:
    """The masks as they are paired with these pictures."""
    params, lines = read(RandomInpainting(), path, *names)
    return params["mask"], lines


def read(operator: Degradation, path: Path, *names: str) -> tuple[Params, list[str]]:
    """The operator's parameters of these pictures, and what is said about them."""
    group = measured(Y, *(names or FILES))
    given = read_parameters(operator, path, group.names, group.image_shape)
    params, lines = parameters(operator, given, SEVERITY, group)
    return params, [*given.lines, *lines]


def save(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "params.npz", **arrays)
    return folder / "params.npz"


@pytest.mark.parametrize("dtype", [np.longdouble, ">f8", np.float16, np.uint64, bool])
def test_numbers_of_any_width_are_read(dtype: Any, tmp_path: Path) -> None:
    masks, _ = taken(save(tmp_path, mask=MASKS.astype(dtype)))
    assert torch.equal(masks, torch.from_numpy(MASKS))


def test_without_names_the_order_of_the_pictures_holds(tmp_path: Path) -> None:
    masks, lines = taken(save(tmp_path, mask=MASKS))
    assert torch.equal(masks, torch.from_numpy(MASKS))
    assert lines == []


@pytest.mark.parametrize(
    "name",
    [
        lambda number: f"{number}.png",
        lambda number: str(number),
        lambda number: number,
        lambda number: f"{number}.png".encode(),
    ],
)
def test_names_say_which_picture_a_parameter_is_for(name: Callable[[int], Any], tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(N)
    path = save(tmp_path, mask=MASKS[order], names=np.array([name(number) for number in order.tolist()]))
    masks, _ = taken(path)
    assert torch.equal(masks, torch.from_numpy(MASKS))


def test_pictures_in_an_array_have_names_of_their_own(tmp_path: Path) -> None:
    path = save(tmp_path, mask=MASKS[::-1], names=np.arange(N)[::-1])
    masks, _ = taken(path, *(f"y.npy:{number}" for number in range(N)))
    assert torch.equal(masks, torch.from_numpy(MASKS))


def test_one_parameter_is_for_all_pictures_and_said_to_be(tmp_path: Path) -> None:
    masks, lines = taken(save(tmp_path, mask=MASKS[3:4]))
    assert torch.equal(masks, torch.from_numpy(MASKS[3:4]).expand(N, -1, -1, -1))
    assert lines == [f"mask in {tmp_path / 'params.npz'}: its single entry is used for all 12 images"]


def test_names_without_a_picture_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    path = save(tmp_path, mask=np.concatenate([MASKS, MASKS[:2]]), names=np.array([*FILES, "x.png", "y.png"]))
    masks, lines = taken(path)
    assert torch.equal(masks, torch.from_numpy(MASKS))
    assert lines == [f"{path}: 2 of 14 names match no image and are ignored"]


def test_arrays_of_other_names_are_said_to_be_left_out(tmp_path: Path) -> None:
    _, lines = taken(save(tmp_path, mask=MASKS, note=np.zeros(3)))
    assert lines == [f"{tmp_path / 'params.npz'}: note ignored, not a parameter of random_inpainting"]


def test_a_kernel_may_have_a_size_of_its_own(tmp_path: Path) -> None:
    path = save(tmp_path, filter=np.full((N, 1, 5, 5), 1 / 25))
    params, _ = read(GaussianBlur(), path)
    assert params["filter"].shape == (N, 1, 5, 5)


def test_a_folder_has_one_file_for_each_picture(tmp_path: Path) -> None:
    """Masks as pictures, arrays and archives, of whatever size their pictures have."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for number, mask in enumerate(MASKS[:, 0]):
        Image.fromarray((255 * mask).astype(np.uint8)).save(folder / f"{number}.png")
    (folder / "3.png").unlink()
    np.save(folder / "3.npy", MASKS[3])
    (folder / "4.png").unlink()
    np.savez(folder / "4.npz", mask=MASKS[4:5])
    with Image.open(folder / "5.png") as image:
        image.convert("RGB").save(folder / "5.png")
    masks, lines = taken(folder, *(f"{number}.jpg" for number in range(N)))
    assert torch.equal(masks, torch.from_numpy(MASKS))
    assert lines == []


def test_masks_of_several_sizes_belong_to_their_pictures(tmp_path: Path) -> None:
    for name, mask in (("a", np.ones((1, 4, 6))), ("b", np.eye(5)[None])):
        np.save(tmp_path / f"{name}.npy", mask)
    given = read_parameters(RandomInpainting(), tmp_path, ("a.png", "b.png"), (1, 4, 6))
    for name, shape in (("a.png", (1, 1, 4, 6)), ("b.png", (1, 1, 5, 5))):
        params, _ = parameters(RandomInpainting(), given, SEVERITY[:1], measured(torch.zeros(shape), name))
        assert params["mask"].shape == shape
    with pytest.raises(UserError, match=r"mask in .* has shape \(1, 5, 5\) for b\.png, but \(1, 4, 6\) for a\.png"):
        given.stacked(("a.png", "b.png"))


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", MASKS[0])
    with pytest.raises(UserError, match=r"has no file for 1\.png \(1 of 2 images\)"):
        read_parameters(RandomInpainting(), tmp_path, ("0.png", "1.png"), (1, 16, 16))
    with pytest.raises(UserError, match=r"motion_blur_crf has filter and gain: save them in an \.npz"):
        read_parameters(MotionBlurCRF(), tmp_path, ("0.png",), (1, 16, 16))
    np.savez(tmp_path / "0.npz", mask=MASKS[0])
    (tmp_path / "0.npy").unlink()
    with pytest.raises(UserError, match=r"0\.npz lacks filter, expected \(1, 19, 19\); it has mask"):
        read_parameters(GaussianBlur(), tmp_path, ("0.png",), (1, 16, 16))


def test_a_number_in_a_folder_needs_no_axis(tmp_path: Path) -> None:
    for name, quality in (("0", 30), ("1", [50])):
        np.savez(tmp_path / f"{name}.npz", quality=quality)
    given = read_parameters(JPEG(), tmp_path, ("0.png", "1.png"), (1, 16, 16))
    assert given.stacked(("0.png", "1.png"))["quality"].tolist() == [30, 50]


def arrays(**given: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **given)


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def claims_much(path: Path) -> None:
    """A header of 12 TiB with nothing behind it."""
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (12, 1, 400000, 400000), }"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mask.npy", header.ljust(127) + b"\n")


def damaged(path: Path) -> None:
    """Packed data with flipped bits: zlib's own error, not numpy's."""
    np.savez_compressed(path, mask=np.random.default_rng(0).random((N, 1, 16, 16)))
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(255 - value for value in content[200:260])
    path.write_bytes(content)


BAD_PARAMS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "cannot read .npz {path} (No such file or directory)"),
    "one of all": (
        arrays(mask=MASKS[0, 0]),
        "for 12 images: give one per image, or 1 for all (its shape",
    ),
    "text": (lambda path: path.write_text("masks"), "cannot read .npz {path}"),
    "empty": (Path.touch, "cannot read .npz {path}"),
    "folder": (Path.mkdir, "{path} has no file for 0.png, 1.png, 2.png ... (12 of 12 images)"),
    "cut": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(20)), "cannot read .npz {path}"),
    "damaged": (damaged, "cannot read .npz {path}"),
    "12 TiB": (claims_much, "claims 15,360,000,000,000 bytes"),
    "one array": (one_array, "cannot read .npz {path}"),
    "objects": (arrays(mask=np.array([{}], dtype=object)), "contains Python objects"),
    "words": (arrays(mask=np.array(["one"] * N)), "mask in {path} contains text, expected numbers"),
    "a number": (arrays(mask=np.array(1.0)), "mask in {path} is a single number"),
    "other name": (arrays(masks=MASKS), "{path} lacks mask, expected (12, 1, 16, 16); it has masks"),
    "too few": (arrays(mask=MASKS[:-1]), "mask in {path} has 11 entries for 12 images"),
    "flat": (arrays(mask=MASKS[:, 0]), "has shape (12, 16, 16)"),
    "other size": (arrays(mask=MASKS[..., :8]), "has shape (12, 1, 16, 8)"),
    "colour": (arrays(mask=MASKS.repeat(3, 1)), "has shape (12, 3, 16, 16)"),
    "nan": (arrays(mask=MASKS * np.nan), "contains values that are not finite"),
    "greys": (arrays(mask=MASKS * 0.5), "0.png, 1.png, 2.png ... (12 of 12 images): mask of random_inpainting"),
    "a name twice": (arrays(mask=MASKS, names=np.array([*FILES[:-1], "3.png"])), "contains 3.png more than once"),
    "a name lacks": (
        arrays(mask=MASKS[1:], names=np.array(FILES[1:])),
        "names in {path} lacks 0.png (1 of 12 images)",
    ),
    "names of floats": (arrays(mask=MASKS, names=np.zeros(N)), "expected one string per image"),
    "names of other pictures": (arrays(mask=MASKS[1:], names=np.array(FILES)), "has 11 entries for 12 images"),
    "both names": (
        arrays(mask=np.concatenate([MASKS, MASKS[:1]]), names=np.array([*FILES, "0"])),
        "contains 0.png both with and without its suffix",
    ),
}


@pytest.mark.parametrize("case", BAD_PARAMS)
def test_bad_parameters_are_one_line(case: str, tmp_path: Path) -> None:
    make, message = BAD_PARAMS[case]
    path = tmp_path / "params.npz"
    make(path)
    with pytest.raises(UserError) as error:
        taken(path)
    assert message.format(path=path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_drawn_operator_asks_for_its_parameters() -> None:
    with pytest.raises(UserError, match=r"pass yours with --params FILE\.npz, with mask \(12, 1, 16, 16\)"):
        parameters(RandomInpainting(), None, SEVERITY, measured(Y))


def test_a_refused_measurement_names_its_picture() -> None:
    y = torch.rand(N, 1, 16, 16)
    mask = torch.from_numpy(MASKS)
    mask[1:, 0, 8:] = 0
    operator, pictures = RandomInpainting(), measured(y)
    y[0] *= mask[0]
    with (
        pytest.raises(UserError, match=r"^1\.png, 2\.png, 3\.png \.\.\. \(11 of 12 images\): y is not zero"),
        named(pictures),
    ):
        given(operator, y, {"mask": mask})


def test_ids_differ_where_parameters_do_and_nowhere_else() -> None:
    ids = torch.tensor([7, 8, 7, 7])
    same = {"mask": torch.ones(4, 1, 2, 2)}
    assert torch.equal(distinct(ids, same), ids)
    assert torch.equal(distinct(ids, {}), ids)
    masks = torch.ones(4, 1, 2, 2)
    masks[2] = 0
    found = distinct(ids, {"mask": masks})
    assert found[1] == 8, "one picture with one set of parameters keeps its id"
    assert found[0] == found[3] != found[2]
    assert not {int(found[0]), int(found[2])} & {7}, "none of several has a claim to it"
    assert torch.equal(distinct(ids.flip(0), {"mask": masks.flip(0)}), found.flip(0)), "order does not matter"
