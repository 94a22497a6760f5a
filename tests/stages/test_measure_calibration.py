"""The calibration of one encoder on one degradation: its rows and summaries, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_study import NETWORKS, source_overrides, tiny_cell, write_images

from workbench.core.config import UserError
from workbench.metrics.calibration import ALL, FILE, from_json
from workbench.severity.encoder import SeverityEncoder
from workbench.severity.estimate import SeverityEstimate
from workbench.stages.measure.measure_calibration import MeasureCalibration
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

ENCODER = {
    "severity_encoder.num_train_images": 64,
    "severity_encoder.batch_size": 16,
    "severity_encoder.learning_rate": 0.003,
    "sampler.num_steps": 20,
}
SIZES = {"num_images": 40, "num_fit_images": 15, "num_severity_bins": 2, "risks": (0.2, 0.4)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images.npy", num_images=400)


@pytest.fixture(scope="module")
def cell(path: Path) -> MeasureCalibration:
    return MeasureCalibration().replace({**source_overrides(path), **NETWORKS, **ENCODER, **SIZES})


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


def rows(cell: MeasureCalibration, runtime: Runtime) -> pd.DataFrame:
    return pd.read_parquet(cell.ensure(runtime) / ROWS)


def test_a_row_is_what_a_restoration_of_the_same_image_starts_from(
    cell: MeasureCalibration, path: Path, runtime: Runtime
) -> None:
    found = rows(cell, runtime).set_index("image_id")
    assert len(found) == 40
    restored = tiny_cell(path, num_images=4)
    restored = pd.read_parquet(restored.ensure(runtime) / ROWS).set_index("image_id")
    same = found.loc[restored.index]
    for column in ("severity", "var_hat", "s2", "residual_rms_decoded", "log_var_y"):
        np.testing.assert_allclose(same[column], restored[column], rtol=1e-4, err_msg=column)
    assert same["oracle_timestep"].tolist() == restored["oracle_timestep"].tolist()
    assert same["start_timestep"].tolist() == restored["start_timestep"].tolist()


def test_bounds_and_recalibrated_variances_are_those_of_the_fits(cell: MeasureCalibration, runtime: Runtime) -> None:
    found = rows(cell, runtime)
    factor, isotonic = (stage.load(runtime) for stage in cell.recalibration_stages())
    var_hat = torch.tensor(found["var_hat"].to_numpy())
    np.testing.assert_allclose(found["var_factor"], factor.apply(var_hat))
    np.testing.assert_allclose(found["var_isotonic"], isotonic.apply(var_hat))
    np.testing.assert_allclose(found["bound_0.4"], isotonic.bound(var_hat, 0.4))
    assert (found["bound_0.2"] >= found["bound_0.4"]).all()
    assert set(found["num_scores"]) == {7}


def test_all_images_and_every_bin_are_summarised(cell: MeasureCalibration, runtime: Runtime) -> None:
    groups = from_json((cell.ensure(runtime) / FILE).read_text())
    found = rows(cell, runtime)
    assert list(groups) == [ALL, "0 to 0.5", "0.5 to 1"]
    assert groups[ALL].figures["ratio"].mean == pytest.approx((found["s2"] / found["var_hat"]).mean(), rel=1e-5)
    severe = found[found["severity"] >= 0.5]
    assert groups["0.5 to 1"].num_images == len(severe)
    assert groups["0.5 to 1"].figures["z2"].mean == pytest.approx(
        (severe["square"] / severe["var_hat"]).mean(), rel=1e-5
    )


def test_without_bins_there_are_rows_alone(cell: MeasureCalibration, runtime: Runtime) -> None:
    bare = cell.replace({"num_severity_bins": 0, "num_images": 5})
    assert len(rows(bare, runtime)) == 5
    assert not (bare.folder(runtime) / FILE).exists()


def test_one_level_fills_one_bin(cell: MeasureCalibration, runtime: Runtime) -> None:
    level = cell.replace({"degradation": {"kind": "at_severity", "severity": 0.75}})
    assert set(rows(level, runtime)["severity"]) == {0.75}
    assert list(from_json((level.folder(runtime) / FILE).read_text())) == [ALL, "0.5 to 1"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_images": 39}, "num_images=39 is too few for num_severity_bins=2: 20 images per bin need 40"),
        ({"num_images": 10_000}, "asked for 10000 test images, but the split has"),
        ({"risks": (0.01,)}, "risk=0.01 needs 99 validation images"),
    ],
)
def test_too_few_images_are_refused_before_compute(
    cell: MeasureCalibration, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        cell.replace(fields).check()


@pytest.mark.parametrize("risk", [0.0, 1.0, -0.1, float("nan")])
def test_a_risk_is_a_probability(cell: MeasureCalibration, risk: float) -> None:
    with pytest.raises(UserError, match="risks"):
        cell.replace({"risks": (0.1, risk)})


@pytest.mark.parametrize("wrong", [0.0, float("inf")])
def test_a_variance_that_is_none_is_refused(
    cell: MeasureCalibration, wrong: float, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = SeverityEncoder.estimate

    def broken(self: SeverityEncoder, view: Any) -> SeverityEstimate:
        found = estimate(self, view)
        return SeverityEstimate(found.z_hat, found.var_hat * 0 + wrong)

    for stage in cell.recalibration_stages():
        stage.ensure(runtime)
    monkeypatch.setattr(SeverityEncoder, "estimate", broken)
    with pytest.raises(UserError, match="var_hat of 40 of 40 images is zero, negative, infinite or NaN"):
        cell.replace({"seed": 3 + int(wrong > 0)}).ensure(runtime)


def test_training_leaves_how_the_encoder_is_calibrated(cell: MeasureCalibration, runtime: Runtime) -> None:
    stage = cell.severity_stage()
    (found,) = from_json((stage.ensure(runtime) / FILE).read_text()).values()
    assert found.num_images == len(cell.data.split("val"))
    assert found.figures["ratio"].mean > 0
