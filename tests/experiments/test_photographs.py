"""Photographs at their own size: all methods on the same measurements, as a table, with a pair that hardly learnt."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import CommandLine, Trained
from PIL import Image

from workbench.core.config import UserError, parse_overrides
from workbench.experiments.photographs import Plan, by_method, by_side, method_table, side_table
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime

NUM_IMAGES, NUM_TUNING = 3, 2
SHAPES = ((130, 140), (150, 131), (130, 140), (134, 134), (140, 130), (131, 133))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth grey pictures of several sizes."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(SHAPES):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def cell(trained: Trained) -> Evaluate:
    quick = {"start.kind": "fixed", "start.timestep": 400, "sampler.num_steps": 3}
    return Evaluate().replace({**parse_overrides(trained.flags), **quick, "metrics": "psnr,residual"})


def test_all_methods_restore_the_same_measurements(cell: Evaluate, folder: Path, trained: Trained) -> None:
    plan, runtime = Plan(folder, NUM_IMAGES, NUM_TUNING, (16, 32)), Runtime(trained.runs)
    plan.check(cell)
    rows = by_method(cell, plan, runtime)
    assert list(rows) == ["whole", "decoded", "tiles", "tv", "wiener"]
    for own in rows.values():
        pd.testing.assert_index_equal(own.index, rows["whole"].index)
    for method in ("tiles", "tv", "wiener"):
        pd.testing.assert_series_equal(rows[method]["severity"], rows["whole"]["severity"])
        assert set(rows[method]["measurement_set"]) == set(rows["whole"]["measurement_set"])
    # networks that have hardly learnt make nothing of it; classical methods do
    degraded = rows["whole"]["psnr_degraded"]
    assert (rows["tv"]["psnr"] > degraded).all()
    assert (rows["wiener"]["psnr"] > degraded).all()
    table = method_table(rows)
    assert table.loc["tv", "whole minus it, dB"].mean == pytest.approx(
        (rows["whole"]["psnr"] - rows["tv"]["psnr"]).mean()
    )
    squares = side_table(by_side(cell, plan, runtime))
    assert squares.index.tolist() == ["16", "32", "whole"]
    assert "s2 / matched" not in squares, "this start matches no variance"
    assert (squares["s2"].map(lambda found: found.num_images) == NUM_IMAGES).all()


def test_the_variance_that_starts_match_is_checked_too(cell: Evaluate, folder: Path, trained: Trained) -> None:
    matched = cell.replace({"start.kind": "snr_match", "start.variance": "encoder"})
    plan, runtime = Plan(folder, NUM_IMAGES, NUM_TUNING, ()), Runtime(trained.runs)
    table = side_table(by_side(matched, plan, runtime))
    assert table.loc["whole", "s2 / matched"].mean == pytest.approx(table.loc["whole", "s2 / var_hat"].mean, rel=1e-4)


def test_tuning_sees_no_photograph_of_the_test(cell: Evaluate, folder: Path) -> None:
    plan = Plan(folder, NUM_IMAGES, NUM_TUNING, ())
    test, tuning = (
        {key for group in plan.cell(cell, **fields)._groups() for key in group.ids.tolist()}
        for fields in ({}, {"part": "tuning", "num_images": NUM_TUNING})
    )
    assert len(test) == NUM_IMAGES
    assert len(tuning) == NUM_TUNING
    assert not test & tuning


def test_too_few_or_too_small_photographs_are_refused(cell: Evaluate, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 6 photographs, 7 are needed"):
        Plan(folder, 5, 2, ()).check(cell)
    with pytest.raises(UserError, match=r"has a photograph of \d+ x \d+, smaller than side=136"):
        Plan(folder, 3, 2, (136,)).check(cell)
    with pytest.raises(UserError, match="has no photographs"):
        Plan(tmp_path, 3, 2, ()).check(cell)


def test_the_command_prints_both_tables(cli: CommandLine, trained: Trained, folder: Path) -> None:
    own = ["--images=2", "--tuning=1", "--sides=16", "--encoder=none", "--operator=random_inpainting"]
    flags = [flag for flag in trained.flags if not flag.startswith(("--severity_encoder", "--num_images"))]
    said = cli("photographs", folder, *own, *flags, f"--runs={trained.runs}", "--sampler.num_steps=3")
    assert said.code == 0, said.err
    assert "random_inpainting, 2 photographs" in said.out
    assert "calibration by size" in said.out
    assert "wiener" not in said.out, "the filter inverts convolutions only"
    assert "--sides must be whole numbers" in cli.refuses("photographs", folder, "--sides=large")


def test_k_space_has_no_tiles(cell: Evaluate, folder: Path, trained: Trained) -> None:
    plan, runtime = Plan(folder, 2, NUM_TUNING, ()), Runtime(trained.runs)
    rows = by_method(cell.replace({"degradation.kind": "mri"}), plan, runtime)
    assert list(rows) == ["whole", "decoded", "view of y", "tv"]
    assert (rows["tv"]["psnr"] > rows["view of y"]["psnr"]).all()
