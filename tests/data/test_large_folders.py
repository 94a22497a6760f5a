"""Folders of many images: prepared once into a file, resumed after a kill, and the layouts of known data sets."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.core.config import UserError
from workbench.data import ImageFolder, base, growing, image_folder

Save = Callable[..., Path]


@pytest.fixture(autouse=True)
def _on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder counts as a large one, and a kill costs at most seven rows."""
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(image_folder, "IN_MEMORY", 0)
    for module in (image_folder, growing):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)


def source(folder: Path, **fields: Any) -> ImageFolder:
    base._splits.cache_clear()
    return ImageFolder(**{"path": folder, "size": 16, "channels": 3, **fields})


def in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> tuple[np.ndarray, np.ndarray | None]:
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "IN_MEMORY", 2**40)
        return source(folder, **fields).load_arrays()


def counted(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[Path]:
    """The files that are read; reading fails at one of them."""
    read: list[Path] = []
    real = image_folder.read_stored

    def reading(file: Path) -> Any:
        if len(read) == fail_at:
            raise KeyboardInterrupt
        read.append(file)
        return real(file)

    monkeypatch.setattr(image_folder, "read_stored", reading)
    return read


def test_a_file_has_what_memory_would_and_is_made_once(
    tmp_path: Path, pictures: np.ndarray, save: Save, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = save(pictures, tmp_path / "photos")
    expected, _ = in_memory(folder, monkeypatch)
    told = capsys.readouterr().out
    images, test = source(folder).load_arrays()
    assert isinstance(images, np.memmap)
    assert test is None
    assert np.array_equal(images, expected)
    assert capsys.readouterr().out == told
    read = counted(monkeypatch)
    again, _ = source(folder).load_arrays()
    assert not read
    assert np.array_equal(again, expected)
    assert capsys.readouterr().out == told
    assert sorted(p.suffix for p in (tmp_path / "data" / "prepared").iterdir()) == [".json", ".lock", ".npy"]
    save(pictures[:1] // 2, folder)
    changed, _ = source(folder).load_arrays()
    assert len(read) == len(pictures), "a file that was written since is read again, with the others"
    assert not np.array_equal(changed, expected)


def deep_ones(pictures: np.ndarray, folder: Path, save: Save) -> Path:
    """Bytes, and after them files of 12 bits in 16."""
    from PIL import Image

    save(pictures, folder)
    for row, image in enumerate(pictures[:5]):
        Image.fromarray(image[..., 0].astype(np.uint16) * 16).save(folder / f"z{row}.png")
    return folder


def black_and_white(pictures: np.ndarray, folder: Path, save: Save) -> Path:
    """Bytes that are 0 and 1, which only the last file could contradict."""
    return save((pictures > 128).astype(np.uint8), folder)


@pytest.mark.parametrize("make", [None, deep_ones, black_and_white])
@pytest.mark.parametrize("killed_at", [3, 20, 58])
def test_a_killed_preparation_goes_on(
    make: Any, killed_at: int, tmp_path: Path, pictures: np.ndarray, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    (save if make is None else make)(*((pictures, folder) if make is None else (pictures, folder, save)))
    expected, _ = in_memory(folder, monkeypatch)
    with monkeypatch.context() as patch:
        counted(patch, fail_at=killed_at)
        with pytest.raises(KeyboardInterrupt):
            source(folder).load_arrays()
    read = counted(monkeypatch)
    images, _ = source(folder).load_arrays()
    passes = 2 if make is black_and_white else 1
    assert len(read) == passes * len(expected) - killed_at // 7 * 7
    assert images.dtype == expected.dtype
    assert np.array_equal(images, expected)


def test_conversions_of_all_rows_are_not_done_twice(
    tmp_path: Path, pictures: np.ndarray, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = deep_ones(pictures, tmp_path / "photos", save)
    expected, _ = in_memory(folder, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(growing, "record", lambda *_, **__: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            source(folder).load_arrays()
        patch.setattr(growing.RowsInFile, "finish", lambda _: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            source(folder).load_arrays()
    images, _ = source(folder).load_arrays()
    assert np.array_equal(images, expected)


def test_a_small_image_among_many_is_named(tmp_path: Path, pictures: np.ndarray, save: Save) -> None:
    folder = save(pictures, tmp_path / "photos")
    save(pictures[:1, :8, :8], folder, lambda _: "small.png")
    with pytest.raises(UserError, match=r"small.png is 8 x 8 pixels, smaller than size 16:"):
        source(folder).load_arrays()
    (folder / "small.png").unlink()
    (folder / "broken.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"broken\.png"):
        source(folder).load_arrays()


def numbered(pictures: np.ndarray, save: Save, folder: Path, numbers: list[int], name: str) -> None:
    save(pictures[: len(numbers)], folder, lambda row: name.format(numbers[row]))


def test_ffhq(tmp_path: Path, pictures: np.ndarray, save: Save, said: Callable[[], str]) -> None:
    folder = tmp_path / "ffhq"
    numbered(pictures, save, folder / "images1024x1024" / "00000", list(range(40)), "{:05d}.png")
    numbered(pictures[40:], save, folder / "images1024x1024" / "60000", list(range(60_000, 60_010)), "{:05d}.png")
    numbered(pictures // 2, save, folder / "thumbnails128x128" / "00000", list(range(40)), "{:05d}.png")
    train, test = source(folder).load_arrays()
    assert len(train) == 40
    assert test is not None
    assert len(test) == 10
    assert said().endswith("; FFHQ: train 40, test 10 (from 60000 on); not read: thumbnails128x128")


def test_celeba_hq(tmp_path: Path, pictures: np.ndarray, save: Save, said: Callable[[], str]) -> None:
    folder = tmp_path / "CelebAMask-HQ"
    numbered(pictures, save, folder / "CelebA-HQ-img", list(range(50)), "{}.jpg")
    numbered(pictures // 2, save, folder / "CelebAMask-HQ-mask-anno" / "0", list(range(20)), "{:05d}_hair.png")
    first = [100_000 + i for i in range(40)] + [182_638 + i for i in range(10)]
    rows = [f"{i} {number - 1} {number:06d}.jpg" for i, number in enumerate(first)]
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(["idx orig_idx orig_file", *rows]))
    train, test = source(folder).load_arrays()
    assert len(train) == 40
    assert test is not None
    assert len(test) == 10
    line = said()
    assert line.startswith("read 50 images from")
    assert line.endswith("; CelebA-HQ: train 40, test 10 (those of CelebA's); not read: CelebAMask-HQ-mask-anno")
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").unlink()
    assert source(folder).load_arrays()[1] is None
    assert "CelebA-HQ: all images are split by content" in said()


@pytest.mark.parametrize("root", ["", "ILSVRC/Data/CLS-LOC"])
def test_imagenet(root: str, tmp_path: Path, pictures: np.ndarray, save: Save, said: Callable[[], str]) -> None:
    inner = tmp_path / "imagenet" / root
    numbered(pictures, save, inner / "train" / "n01440764", list(range(30)), "n01440764_{}.JPEG")
    numbered(pictures[30:], save, inner / "val", list(range(10)), "ILSVRC2012_val_{:08d}.JPEG")
    numbered(pictures[40:], save, inner / "test", list(range(10)), "ILSVRC2012_test_{:08d}.JPEG")
    train, test = source(tmp_path / "imagenet").load_arrays()
    assert len(train) == 30
    assert test is not None
    assert len(test) == 10
    assert said().endswith("; ImageNet: train train, test val")


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, save: Save) -> None:
    """400 photographs that take 79 MB when prepared."""
    noise = np.random.default_rng(1).integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)
    folder = save(noise.repeat(32, 1).repeat(32, 2), tmp_path / "photos")
    del noise
    tracemalloc.start()
    split = source(folder, size=256).split("train")
    split.batch([0, 1, 2])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert split.store.nbytes > 75e6
    assert peak < 20e6
