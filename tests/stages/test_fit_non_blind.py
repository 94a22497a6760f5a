"""The regressions of a severity encoder: fitted for each operator, used by a start, and refused on too few images."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_study import tiny_cell

from workbench.core.config import UserError
from workbench.degradations import JPEG, AtSeverity, GaussianBlur, Mixture, members_of
from workbench.severity.variance import Need
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

BOTH = Mixture(members=(GaussianBlur(), JPEG()))


@pytest.fixture
def cell(images: Path, tmp_path: Path) -> Evaluate:
    """A cell with twice as many images: they and their negatives."""
    pixels = np.load(images)
    np.save(tmp_path / "more.npy", np.concatenate([pixels, pixels.max() - pixels]))
    return tiny_cell(tmp_path / "more.npy").replace({"start.variance": "non_blind"})


def test_a_start_is_matched_to_the_variance_that_was_fitted(cell: Evaluate, tmp_path: Path) -> None:
    runtime = Runtime(tmp_path)
    stage = cell.non_blind_stage()
    assert stage is not None
    assert stage in cell.upstream()
    (fit,) = stage.load(runtime).operators
    assert fit.operator == cell.degradation.canonical()
    found = pd.read_parquet(cell.ensure(runtime) / ROWS)
    residual = pd.read_parquet(cell.replace({"start.variance": "residual"}).ensure(runtime) / ROWS)
    columns = (found["var_hat"], residual["start_variance"], found["severity"])
    expected = fit.variance(*(torch.tensor(column.to_numpy()) for column in columns))
    assert found["start_variance"].to_numpy() == pytest.approx(expected.numpy(), rel=1e-3)
    with pytest.raises(UserError, match="fitted to another operator than this jpeg: load a restorer for it"):
        dataclasses.replace(cell.restorer(runtime), degradation=JPEG())
    assert (found["decoder_evals"] > found["nfe"] + 1).all(), "the residual is paid for"


def test_every_operator_of_a_mixture_has_its_own(cell: Evaluate, tmp_path: Path) -> None:
    stage = cell.replace({"degradation": BOTH}).non_blind_stage()
    assert stage is not None
    found = stage.load(Runtime(tmp_path)).operators
    assert [one.operator for one in found] == [member.canonical() for member in BOTH.members]
    assert found[0].informed != found[1].informed


def test_what_cannot_be_fitted_is_refused_before_compute(images: Path) -> None:
    few = tiny_cell(images).replace({"start.variance": "non_blind"})
    with pytest.raises(
        UserError, match=r"20 validation images or more, but the data has 15: set start\.variance=fused"
    ):
        few.check()
    with pytest.raises(UserError, match="fitted to a trained severity encoder, which quick is not"):
        few.replace({"severity_encoder.kind": "quick"})
    assert Need.NON_BLIND in few.start.needs


def test_of_a_mixtures_fit_a_restorer_of_one_operator_takes_its_own(cell: Evaluate, tmp_path: Path) -> None:
    mixed = cell.replace({"degradation": BOTH}).restorer(Runtime(tmp_path))
    alone = dataclasses.replace(mixed, degradation=JPEG())
    assert mixed.non_blind is not None
    assert alone.non_blind is not None
    assert alone.non_blind.operators == mixed.non_blind.operators[1:]


def test_a_mixture_at_one_level_has_a_regression_for_each_member(cell: Evaluate, tmp_path: Path) -> None:
    at_level = cell.replace({"degradation": AtSeverity(member=BOTH, severity=0.5)})
    found = pd.read_parquet(at_level.ensure(Runtime(tmp_path)) / ROWS)
    assert (found["start_variance"] > 0).all()
    assert [member.kind for member in members_of(at_level.degradation)] == ["at_severity"] * 2
