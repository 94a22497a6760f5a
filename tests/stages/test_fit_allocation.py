"""An allocated start in a cell: its fit on validation images, and its rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_study import tiny_cell

from workbench.core.config import UserError
from workbench.degradations import AtSeverity, GaussianBlur, GaussianNoise, Mixture, Skewed, TwoPoint
from workbench.severity.start import Allocated, MissingNoise, SNRMatch
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.trivial import RESIDUAL
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

PREDICTORS = ["start_variance", RESIDUAL]
RULE = Allocated(budget=2.0, candidates=(0, 1, 3, 6), degree=1, num_val_images=12)


@pytest.fixture(scope="module")
def cell(images: Path) -> Evaluate:
    return tiny_cell(images, start=RULE)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


def rows(cell: Evaluate, runtime: Runtime) -> pd.DataFrame:
    return pd.read_parquet(cell.ensure(runtime) / ROWS).set_index("image_id")


def test_the_rows_are_those_of_each_images_number_of_evaluations(cell: Evaluate, runtime: Runtime) -> None:
    found = rows(cell, runtime)
    stage = cell.allocation_stage()
    assert stage is not None
    allocation = stage.load(runtime)
    nfe = np.array(RULE.candidates)[allocation.index(np.log(found[PREDICTORS].to_numpy()), np.zeros(len(found), int))]
    assert found["nfe"].tolist() == nfe.tolist()
    for n in RULE.candidates:
        fixed = rows(cell.replace({"start": MissingNoise(nfe=n, of=RULE.of)}), runtime)
        assert (fixed["nfe"] == n).all()
        taken = found["nfe"] == n
        assert found["psnr"][taken].to_numpy() == pytest.approx(fixed["psnr"][taken].to_numpy(), abs=1e-3)
    assert (found["decoder_evals"] == 2 + found["nfe"]).all(), "one for the residual, one at the end"
    decoded = rows(cell.replace({"start": MissingNoise(nfe=0)}), runtime)
    assert decoded["psnr"].to_numpy() == pytest.approx(decoded["psnr_decoded"].to_numpy(), abs=1e-3)


def test_the_fit_is_of_validation_images_and_serves_the_match(cell: Evaluate, runtime: Runtime) -> None:
    stage = cell.allocation_stage()
    assert stage is not None
    assert {one.split for one in stage.cells()} == {"val"}
    assert stage in cell.upstream()
    known = rows(stage.cells()[0], runtime)[PREDICTORS].to_numpy()
    assert (
        np.array(RULE.candidates)[stage.load(runtime).index(np.log(known), np.zeros(len(known), int))].mean()
        <= RULE.budget
    )
    other = cell.replace({"start.budget": 3.0}).allocation_stage()
    assert other is not None
    assert [one.identity for one in other.cells()] == [one.identity for one in stage.cells()]
    assert other.identity != stage.identity


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start.metric": "nfe"}, "start.metric=nfe is no column with a better direction"),
        ({"start.num_val_images": 10**6}, "images"),
        ({"start.candidates": (3, 1)}, "ascending and different"),
        ({"start.of": SNRMatch(risk=0.1)}, "without recalibration"),
        ({"start.candidates": (1, 30)}, "more than the 20 steps"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_runs(
    change: dict[str, object], words: str, cell: Evaluate
) -> None:
    with pytest.raises(UserError, match=words):
        cell.replace(change).check()


def test_severities_follow_the_distribution_in_their_order(images: Path, runtime: Runtime) -> None:
    plain = tiny_cell(images, num_images=20)
    uniform = rows(plain, runtime)
    skewed = rows(plain.replace({"severities": Skewed(power=2)}), runtime)
    assert skewed["severity"].to_numpy() == pytest.approx(uniform["severity"].to_numpy() ** 2)
    two = rows(plain.replace({"severities": TwoPoint(low=0.25, high=0.75)}), runtime)
    assert two["severity"].tolist() == np.where(uniform["severity"] < 0.5, 0.25, 0.75).tolist()
    sets = {frame["measurement_set"].iloc[0] for frame in (uniform, skewed, two)}
    assert len(sets) == 3, "only results on the same measurements may be compared"


def test_severities_are_part_of_the_identity_unless_uniform(images: Path) -> None:
    plain = tiny_cell(images)
    assert "severities" not in plain.canonical()
    assert plain.replace({"severities.kind": "skewed"}).identity != plain.identity


def test_one_severity_has_no_distribution(images: Path) -> None:
    with pytest.raises(UserError, match="all images are at one severity"):
        tiny_cell(images, degradation=AtSeverity(), severities=TwoPoint())
    with pytest.raises(UserError, match="low must not exceed high"):
        tiny_cell(images, severities={"kind": "two_point", "low": 0.9, "high": 0.1})


def test_a_control_of_known_severity_averages_over_images_at_one_level(images: Path, runtime: Runtime) -> None:
    cell = tiny_cell(images, severities=TwoPoint(), num_images=12)
    control = cell.replace({"start.kind": "equal_cost", "start.control": "known_severity", "start.num_val_images": 15})
    matched, val = (rows(stage, runtime) for stage in control.matched_stages())
    known = rows(control, runtime)
    assert known["severity"].nunique() == 2
    assert known["severity"].tolist() == matched["severity"].tolist()
    for level, group in known.groupby("severity"):
        assert group["start_variance"].nunique() == 1
        logs = np.log(val["s2"][val["severity"] == level])
        assert np.log(group["start_variance"].iloc[0]) == pytest.approx(logs.mean(), abs=1e-3)


def test_images_of_a_mixture_are_told_apart(images: Path, runtime: Runtime) -> None:
    mixed = Mixture(members=(GaussianBlur(), GaussianNoise()))
    cell = tiny_cell(images, degradation=mixed, start=RULE, num_images=12)
    found = rows(cell, runtime)
    assert set(found["operator"]) == {0, 1}
    stage = cell.allocation_stage()
    assert stage is not None
    allocation = stage.load(runtime)
    assert allocation.curves.num_operators == 2
    index = allocation.index(np.log(found[PREDICTORS].to_numpy()), found["operator"].to_numpy())
    assert found["nfe"].tolist() == np.array(RULE.candidates)[index].tolist()
