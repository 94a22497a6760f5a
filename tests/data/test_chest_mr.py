"""The MR slices that ship: no patient in two splits, whole slices and crops."""

import numpy as np
import pytest

from workbench.core.config import UserError
from workbench.data import ChestMR, chest_mr
from workbench.reporting.verify import verify


def test_slices_that_look_alike_are_in_the_same_split() -> None:
    slices = chest_mr._slices(1).astype(np.float64)
    small = slices.reshape(chest_mr.NUM_SLICES, 32, 8, 32, 8).mean((2, 4)).reshape(chest_mr.NUM_SLICES, -1)
    alike = np.corrcoef(small) > 0.6
    split = np.zeros(chest_mr.NUM_SLICES, dtype=int)
    split[list(chest_mr.TEST)], split[list(chest_mr.VAL)] = 1, 2
    assert not alike[split[:, None] != split[None, :]].any()
    assert np.bincount(split).tolist() == [62, 24, 14]


@pytest.mark.parametrize(("settings", "side"), [({}, 64), ({"size": 128}, 128), ({"size": 256, "zoom": 1}, 256)])
def test_whole_slices_and_crops(settings: dict[str, int], side: int) -> None:
    source = ChestMR(**settings)
    parts = {name: source.split(name) for name in ("train", "val", "test")}
    assert all(part.batch([0]).shape == (1, 1, side, side) for part in parts.values())
    ids = [set(part.ids.tolist()) for part in parts.values()]
    assert sum(map(len, ids)) == len(set.union(*ids))
    if side > 64:
        assert [len(part) for part in parts.values()] == [4 * 62, 14, 24]
    else:
        assert parts["test"].batch(slice(None)).mean((1, 2, 3)).min() > chest_mr.LEAST
        assert len(parts["train"]) > 6000


def test_training_images_are_mirrored_and_test_images_are_not() -> None:
    train, test = (ChestMR(size=128).split(name).batch(slice(None)) for name in ("train", "test"))
    for images, expected in ((train, 62), (test, 24)):
        flat = {image.numpy().tobytes() for image in images}
        kept = {min(image.flip(dims).contiguous().numpy().tobytes() for dims in ((), (1,), (2,), (1, 2)))
                for image in images}  # fmt: skip
        assert len(kept) == expected
        assert len(flat) == len(images)


def test_a_crop_larger_than_the_slice_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.size=200, but slices at data\.zoom=2 have 128 pixels a side"):
        ChestMR(size=200).split("test")


def test_a_damaged_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    lines: list[str] = []
    verify(tmp_path, lines.append)
    assert any(str(chest_mr.FILE.parent) in line and "as they shipped" in line for line in lines)
    monkeypatch.setattr(chest_mr, "FILE", chest_mr.FILE.parent / "nothing.png")
    with pytest.raises(UserError, match=r"nothing\.png is missing: restore from version control"):
        ChestMR(size=32).split("test")
