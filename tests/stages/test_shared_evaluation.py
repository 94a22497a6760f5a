"""A cell's images on two devices of this machine (two processes) give the rows of one."""

from pathlib import Path

import pandas as pd
import pytest
from safetensors.numpy import load_file
from small_study import tiny_cell

from workbench.core.config import UserError
from workbench.stages.execute.processes import shares_of
from workbench.stages.measure import shared_evaluation
from workbench.stages.rows import EXAMPLES, ROWS
from workbench.stages.runtime import Runtime, choose_devices

TIMES = ["seconds", "start_seconds"]


def test_rows_and_pictures_are_those_of_one_device(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_evaluation, "FEWEST", 3)
    cell = tiny_cell(images, num_images=7)
    alone = Runtime(tmp_path)
    for stage in cell.upstream():
        stage.ensure(alone)
    first, second = tmp_path / "one", tmp_path / "two"
    for folder, runtime in ((first, alone), (second, Runtime(tmp_path, devices=("cpu", "cpu")))):
        folder.mkdir()
        cell.work(folder, runtime)
    one, two = (pd.read_parquet(folder / ROWS).drop(columns=TIMES) for folder in (first, second))
    assert len(one) == 7
    pd.testing.assert_frame_equal(one, two, rtol=1e-4, atol=1e-4)
    before, after = (load_file(folder / EXAMPLES) for folder in (first, second))
    assert before["image_id"].tolist() == after["image_id"].tolist()
    assert abs(before["restored"].astype(int) - after["restored"].astype(int)).max() <= 1
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}


def test_devices_are_shared_equally_among_processes() -> None:
    four = ("cuda:0", "cuda:1", "cuda:2", "cuda:3")
    assert shares_of(four, 2) == [four[:2], four[2:]]
    assert shares_of(four, 4) == [(device,) for device in four]
    assert shares_of(four[:2], 3) == [four[:1], four[1:2], four[:1]]
    assert shares_of(("cpu",), 2) == [("cpu",), ("cpu",)]


def test_devices_that_are_not_there_are_refused() -> None:
    assert choose_devices("cpu", 3) == ("cpu", "cpu", "cpu")
    with pytest.raises(UserError, match="--device=cuda:1 is one device"):
        choose_devices("cuda:1", 2)
