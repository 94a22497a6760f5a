import dataclasses

import pandas as pd
import pytest
from synthetic_study import (
    DEGRADATIONS,
    MISMATCH_LOSS,
    SEED_STEP,
    SEEDS,
    UNIVERSAL,
    UNSEEN_LOSS,
    make_full_results,
    make_results,
)

from studies._robustness_grid import OWN, UNSEEN, first_seed, read_grid, seeds_of
from studies._rows import over_images
from workbench.config import UserError
from workbench.results import StudyResults

PAIR = ("jpeg", "gaussian_blur")


@pytest.fixture(scope="module")
def full() -> StudyResults:
    return make_full_results(12)


def rows_of(results: StudyResults, encoder: str, degradation: str, rule: str = OWN) -> pd.DataFrame:
    frame = results.frame
    chosen = (frame["encoder"] == encoder) & (frame["degradation"] == degradation) & (frame["variance"] == rule)
    return frame[chosen]


def test_two_axes_are_read_as_they_are() -> None:
    results = make_results(8)
    grid = read_grid(results)
    assert grid.encoders == (*DEGRADATIONS, UNIVERSAL)
    assert grid.universal == UNIVERSAL
    frame = results.frame
    rows = frame[(frame["encoder"] == "gaussian_blur") & (frame["degradation"] == "gaussian_noise")]
    cell = grid.frames["gaussian_blur", "gaussian_noise"]
    pd.testing.assert_series_equal(cell["psnr"], rows.set_index("image_id")["psnr"].sort_index())


def test_seeds_are_averaged_image_by_image_and_counted_once(full: StudyResults) -> None:
    shuffled = dataclasses.replace(full, frame=full.frame.sample(frac=1, random_state=0))
    grid = read_grid(shuffled)
    rows = rows_of(full, *PAIR)
    cell = grid.frames[PAIR]
    assert len(rows) == 3 * len(cell) == 36
    pd.testing.assert_series_equal(cell["psnr"], rows.groupby("image_id")["psnr"].mean())
    assert set(cell["cell"]) == set(rows[rows["seed"] == SEEDS[0]]["cell"]), "the first seed's, for its examples"
    assert grid.seeds[PAIR] == SEEDS
    assert grid.seeds[UNSEEN, "jpeg"] == SEEDS[:1]


def test_the_mean_of_ratios_is_over_seeds_too(full: StudyResults) -> None:
    frame = full.frame.copy()
    mine = (frame["encoder"] == PAIR[0]) & (frame["degradation"] == PAIR[1]) & (frame["seed"] == SEEDS[2])
    frame.loc[mine, "var_hat"] /= 100
    rows = rows_of(dataclasses.replace(full, frame=frame), *PAIR)
    expected = (rows["s2"] / rows["var_hat"]).groupby(rows["image_id"]).mean()
    found = read_grid(dataclasses.replace(full, frame=frame)).frames[PAIR]["variance_ratio"]
    pd.testing.assert_series_equal(found, expected, check_names=False)


def test_one_seed_can_be_read_alone(full: StudyResults) -> None:
    assert seeds_of(full) == list(SEEDS)
    assert first_seed(full) == SEEDS[0]
    assert first_seed(make_results(2)) is None
    first, mean = (read_grid(full, seed=seed).frames[PAIR]["psnr"] for seed in (SEEDS[0], None))
    assert (first - mean).to_numpy() == pytest.approx(SEED_STEP)


def test_a_rule_s_rows_alone_are_its_grid(full: StudyResults) -> None:
    own, fused = read_grid(full, OWN, SEEDS[0]), read_grid(full, "fused", SEEDS[0])
    assert own.frames.keys() == fused.frames.keys()
    assert (fused.frames[PAIR]["psnr"] > own.frames[PAIR]["psnr"]).all()
    assert ("none", "jpeg") in read_grid(full, "residual").frames
    assert "none" not in read_grid(full, "residual").encoders


def test_leave_one_out_encoders_are_one_row(full: StudyResults) -> None:
    grid = read_grid(full)
    assert grid.encoders[-2:] == (UNIVERSAL, UNSEEN)
    assert grid.universal == UNIVERSAL
    for degradation in grid.degradations:
        pd.testing.assert_series_equal(
            grid.frames[UNSEEN, degradation]["psnr"],
            rows_of(full, f"all but {degradation}", degradation).set_index("image_id")["psnr"].sort_index(),
        )
        assert grid.loss("psnr", UNSEEN, degradation).mean == pytest.approx(UNSEEN_LOSS, abs=0.3)
        assert UNSEEN not in grid.mismatched(degradation)
    assert grid.mismatch_losses(grid.degradations).mean() == pytest.approx(MISMATCH_LOSS, abs=0.1)


def test_an_encoder_that_saw_the_degradation_is_not_called_unseen(full: StudyResults) -> None:
    seen = rows_of(full, "all but jpeg", "jpeg").assign(degradation="gaussian_blur", psnr=99.0)
    grid = read_grid(dataclasses.replace(full, frame=pd.concat([full.frame, seen])))
    assert grid.frames[UNSEEN, "gaussian_blur"]["psnr"].max() < 99


def test_images_that_several_cells_hold_count_once() -> None:
    one, two = pd.Series([1.0, 2.0], index=[7, 8]), pd.Series([3.0, 5.0], index=[8, 9])
    assert over_images([one, two]).to_dict() == {7: 1.0, 8: 2.5, 9: 5.0}


def test_other_axes_are_taken_with_one_value_and_refused_with_several(full: StudyResults) -> None:
    def with_axis(labels: list[str]) -> StudyResults:
        frame = full.frame.assign(solver=labels[0])
        return dataclasses.replace(full, axes={**full.axes, "solver": labels}, frame=frame)

    assert read_grid(with_axis(["ldps"])).frames.keys() == read_grid(full).frames.keys()
    with pytest.raises(UserError, match=r"several values of solver \(ldps, psld\)"):
        read_grid(with_axis(["ldps", "psld"]))
    with pytest.raises(UserError, match=r"several values of variance \(residual, max\)"):
        read_grid(dataclasses.replace(full, axes={**full.axes, "variance": ["residual", "max"]}))
    with pytest.raises(UserError, match="two axes"):
        read_grid(dataclasses.replace(full, axes={"encoder": ["a"]}))
