"""Recalibration as a stage: what it fits, where it is used, and what it refuses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from small_study import tiny_cell, write_images

from workbench.core.config import UserError
from workbench.data import Npy
from workbench.severity.calibration.recalibration import Factor
from workbench.severity.start import SNRMatch
from workbench.severity.untrained import NoEncoder
from workbench.stages.fit.fit_recalibration import RECALIBRATION, FitRecalibration
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    path = write_images(tmp_path_factory.mktemp("images") / "images.npy")
    return tiny_cell(path, **{"start.recalibration.kind": "isotonic"})


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


def stage_of(cell: Evaluate) -> FitRecalibration:
    stage = cell.recalibration_stage()
    assert stage is not None
    return stage


def rows(cell: Evaluate, runtime: Runtime) -> pd.DataFrame:
    return pd.read_parquet(cell.ensure(runtime) / ROWS)


def test_the_fit_is_made_once_and_read_back(cell: Evaluate, runtime: Runtime) -> None:
    stage = stage_of(cell)
    fitted = stage.load(runtime)
    assert stage.load(runtime) == fitted
    assert (stage.folder(runtime) / RECALIBRATION).is_file()
    assert len(fitted.scores) == stage.num_scores() == len(stage.images()) // 2
    assert list(fitted.scores) == sorted(fitted.scores)
    assert len(fitted.channel_profile) == 2
    assert np.mean(fitted.channel_profile) == pytest.approx(1)


def test_a_cell_starts_from_the_recalibrated_variance_and_the_bound(cell: Evaluate, runtime: Runtime) -> None:
    fitted = stage_of(cell).load(runtime)
    found = rows(cell, runtime)
    own = torch.tensor(found["var_hat"].to_numpy())
    np.testing.assert_allclose(found["start_variance"], fitted.apply(own), rtol=1e-5)
    bounded = rows(cell.replace({"start.risk": 0.3}), runtime)
    np.testing.assert_allclose(bounded["var_hat"], found["var_hat"])
    np.testing.assert_allclose(bounded["start_variance"], fitted.bound(own, 0.3), rtol=1e-5)


def test_fused_channel_and_risk_go_together(cell: Evaluate, runtime: Runtime) -> None:
    both = cell.replace({"start.variance": "fused", "start.risk": 0.3, "start.noise": "channel"})
    assert {stage.name for stage in both.upstream()} >= {"fit_fusion", "fit_recalibration"}
    found = rows(both, runtime)
    bound = rows(cell.replace({"start.risk": 0.3}), runtime)
    assert (found["start_variance"] >= bound["start_variance"] * (1 - 1e-5)).all()
    assert np.isfinite(found["psnr"]).all()


def test_only_rules_that_ask_have_one_upstream(cell: Evaluate) -> None:
    plain = cell.replace({"start.recalibration.kind": "none"})
    assert plain.recalibration_stage() is None
    for start in ({"start.kind": "full"}, {"start.kind": "official"}, {"start.kind": "oracle_variance"}):
        assert plain.replace(start).recalibration_stage() is None
    alone = stage_of(plain.replace({"start.risk": 0.3}))
    assert alone.recalibration.kind == "none"
    assert stage_of(plain.replace({"start.noise": "channel"})) == alone, "whose profile and scores are one fit's"
    assert alone.identity != stage_of(cell).identity


def test_without_an_encoder_nothing_is_fitted(cell: Evaluate) -> None:
    none = {"severity_encoder.kind": "none", "start.recalibration.kind": "none", "start.variance": "residual"}
    assert cell.replace(none).recalibration_stage() is None


@pytest.mark.parametrize("variance", ["residual", "encoder"])
@pytest.mark.parametrize(
    ("start", "asked"),
    [
        ({"start.risk": 0.1}, "risk=0.1"),
        ({"start.recalibration.kind": "factor"}, "recalibration=factor"),
        ({"start.noise": "channel"}, "noise=channel"),
    ],
)
def test_without_an_encoder_what_is_fitted_to_one_is_refused(
    cell: Evaluate, variance: str, start: dict[str, object], asked: str
) -> None:
    none = {"severity_encoder.kind": "none", "start.recalibration.kind": "none", "start.variance": variance}
    words = f"start: {asked} needs a severity encoder, but there is none: restore with --encoder quick, matched or"
    with pytest.raises(UserError, match=f"^{words}"):
        cell.replace(none | start)


@pytest.mark.parametrize("rule", [SNRMatch(risk=0.1), SNRMatch(recalibration=Factor()), SNRMatch(noise="channel")])
def test_a_rule_made_beforehand_is_refused_in_the_same_words(rule: SNRMatch) -> None:
    with pytest.raises(ValidationError, match="needs a severity encoder, but there is none"):
        Evaluate(severity_encoder=NoEncoder(), start=rule)


def test_a_start_that_has_no_such_field_says_so_without_an_encoder(cell: Evaluate) -> None:
    with pytest.raises(UserError, match=r"unknown field 'start\.risk'"):
        cell.replace({"severity_encoder.kind": "none", "start.kind": "full", "start.risk": 0.1})


@pytest.mark.usefixtures("no_training")
def test_a_risk_beyond_the_validation_images_is_refused_before_anything_runs(cell: Evaluate) -> None:
    risky = cell.replace({"start.risk": 1e-4})
    with pytest.raises(UserError, match=r"risk=0\.0001 needs 9999 validation images"):
        risky.check()


@pytest.mark.usefixtures("no_training")
def test_too_few_validation_images_are_refused(cell: Evaluate, tmp_path: Path) -> None:
    path = write_images(tmp_path / "few.npy", num_images=60)
    few = cell.replace({"data": Npy(path=path, size=16, channels=1), "num_images": 1})
    with pytest.raises(UserError, match="recalibration needs 15 validation images or more, but the data has"):
        few.check()
