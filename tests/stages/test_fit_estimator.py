"""Estimators fitted to the operator at hand: what is fitted, on which images, and what it claims."""

from pathlib import Path

import deepinv_factories
import numpy as np
import pandas as pd
import pytest
import torch
from small_study import tiny_cell, write_images

from workbench.core.config import UserError
from workbench.data import Npy
from workbench.severity.estimate import error_variance
from workbench.severity.estimator import seen_by
from workbench.severity.quick import ConvolutionalTrunk
from workbench.stages.fit.fit_estimator import FOUND, FitEstimator, Fitted
from workbench.stages.measure.estimates import estimates
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

QUICK = {"severity_encoder.kind": "quick", "severity_encoder.num_train_images": 1600, "start.channel": "mmse"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images.npy")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def cell(path: Path) -> Evaluate:
    return tiny_cell(path, **{**QUICK, "start.variance": "fused", "start.recalibration.kind": "factor"})


def stage_of(cell: Evaluate) -> FitEstimator:
    stage = cell.estimator_stage()
    assert stage is not None
    return stage


def errors(fitted: Fitted, cell: Evaluate, runtime: Runtime) -> torch.Tensor:
    """s2 of each test image."""
    autoencoder, images = cell.autoencoder_stage().load(runtime), cell.data.split("test")
    batches = estimates(autoencoder, fitted.estimator, cell.degradation, images, 7, "cpu")
    return torch.cat([error_variance(estimate.z_hat, z0) for _, estimate, z0 in batches])


def test_fitting_beats_the_autoencoders_own_encoder_on_unseen_images(cell: Evaluate, runtime: Runtime) -> None:
    fitted = stage_of(cell).load(runtime)
    untrained = Fitted(stage_of(cell).severity_encoder.build(cell.autoencoder_stage().load(runtime)), {}, {})
    assert float(errors(fitted, cell, runtime).mean()) < 0.9 * float(errors(untrained, cell, runtime).mean())


def test_the_claim_is_of_images_that_nothing_was_fitted_on(cell: Evaluate, runtime: Runtime) -> None:
    stage = stage_of(cell)
    fitted = stage.load(runtime)
    assert len(fitted.held_out["s2"]) == stage.num_scores() == len(cell.data.split("train")) // 4
    ratio = float((fitted.held_out["s2"] / fitted.held_out["var_hat"]).mean())
    assert fitted.found["ratio"] == pytest.approx(ratio)
    told = f"calibrated on {stage.num_scores()} held-out images (mean of s2 / var_hat {ratio:.2f}"
    assert fitted.claim.startswith(told)
    assert abs(fitted.found["correlation"]) < 0.2
    # read back from the file, the estimate is the same
    assert (stage.folder(runtime) / FOUND).is_file()
    again = stage.load(Runtime(runtime.root))
    measurement = cell.degradation.measure(cell.data.split("test").batch([0]), torch.tensor([0.5]), torch.arange(1), 0)
    seen = seen_by(fitted.estimator, cell.degradation, measurement)
    torch.testing.assert_close(again.estimator.estimate(seen).var_hat, fitted.estimator.estimate(seen).var_hat)


def test_a_cell_starts_from_its_recalibrated_variance_unless_the_residual_contradicts(
    cell: Evaluate, runtime: Runtime
) -> None:
    rows = pd.read_parquet(cell.ensure(runtime) / ROWS)
    fitted = stage_of(cell).load(runtime)
    recalibration = fitted.recalibration(cell.start.recalibration)  # type: ignore[union-attr]
    own = recalibration.apply(torch.tensor(rows["var_hat"].to_numpy())).numpy()
    assert (rows["start_variance"] >= own * 0.999).all()
    trusted = ~rows["distrusted"].to_numpy()
    assert trusted.any()
    assert np.median(rows["start_variance"][trusted] / own[trusted]) < 1.5


def test_images_are_drawn_from_the_prior_once_and_then_nothing_is_claimed(path: Path, runtime: Runtime) -> None:
    drawn = tiny_cell(path, **QUICK, **{"severity_encoder.images": "prior", "severity_encoder.num_images": 80})
    stage = stage_of(drawn)
    samples = stage.samples_stage()
    assert samples is not None
    assert len(stage.clean_images(runtime)) == 80
    folder = samples.folder(runtime)
    before = folder.stat().st_mtime_ns
    assert stage.load(runtime).claim.startswith("uncalibrated: fitted on samples of the prior")
    other = stage_of(drawn.replace({"degradation.kind": "jpeg"}))
    assert other.samples_stage() == samples
    assert other.identity != stage.identity
    assert folder.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"start\.risk holds for images exchangeable with the held-out ones"):
        drawn.replace({"start.risk": 0.2})


def test_what_it_cannot_do_is_refused_before_compute(cell: Evaluate, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"start\.variance=mahalanobis needs errors on other degradations"):
        cell.replace({"start.variance": "mahalanobis"})
    with pytest.raises(UserError, match=r"risk=0\.001 needs 999"):
        cell.replace({"start.risk": 0.001}).check()
    few = write_images(tmp_path / "few.npy", num_images=60)
    with pytest.raises(UserError, match="needs 80 clean training images or more, but there are 50"):
        cell.replace({"data": Npy(path=few, size=16, channels=1), "num_images": 1}).check()


def test_a_network_beside_the_autoencoder_learns_too(cell: Evaluate, runtime: Runtime) -> None:
    own = cell.replace({"severity_encoder.network": "convolutional", "severity_encoder.num_train_images": 3200})
    stage, autoencoder = stage_of(own), own.autoencoder_stage().load(runtime)
    assert isinstance(stage.load(runtime).estimator.trunk, ConvolutionalTrunk)
    untrained = Fitted(stage.severity_encoder.build(autoencoder), {}, {})  # whose error is that of a constant, or more
    assert float(errors(stage.load(runtime), own, runtime).mean()) < 0.6 * float(errors(untrained, own, runtime).mean())


RECONSTRUCTOR = {"severity_encoder.kind": "reconstructor", "severity_encoder.num_images": 160}


@pytest.mark.parametrize("name", ["inverted", "smoothed", "Inverse"])
def test_another_methods_estimate_gets_a_calibrated_variance(name: str, path: Path, runtime: Runtime) -> None:
    cell = tiny_cell(path, **RECONSTRUCTOR, **{"severity_encoder.reconstructor": f"deepinv_factories:{name}"})
    fitted = stage_of(cell).load(runtime)
    s2 = errors(fitted, cell, runtime)
    autoencoder, images = cell.autoencoder_stage().load(runtime), cell.data.split("test")
    batches = estimates(autoencoder, fitted.estimator, cell.degradation, images, 7, "cpu")
    var_hat = torch.cat([estimate.per_image() for _, estimate, _ in batches])
    assert 0.5 < fitted.found["ratio"] < 2
    assert torch.corrcoef(torch.stack([s2.log(), var_hat.log()]))[0, 1] > 0.3
    rows = pd.read_parquet(cell.ensure(runtime) / ROWS)
    np.testing.assert_allclose(rows["start_variance"], rows["var_hat"], rtol=1e-5)


def test_the_latent_is_that_of_the_reconstruction(path: Path, runtime: Runtime) -> None:
    cell = tiny_cell(path, **RECONSTRUCTOR, **{"severity_encoder.reconstructor": "deepinv_factories:inverted"})
    autoencoder = cell.autoencoder_stage().load(runtime)
    estimator = stage_of(cell).load(runtime).estimator
    x = cell.data.split("test").batch([0, 1])
    measurement = cell.degradation.measure(x, torch.tensor([0.2, 0.8]), torch.arange(2), 0)
    estimate = estimator.estimate(seen_by(estimator, cell.degradation, measurement))
    reconstructed = cell.degradation.reconstruct(deepinv_factories.inverted, measurement)
    torch.testing.assert_close(estimate.z_hat, autoencoder.encode(reconstructed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("half", r"half\(y, physics\) must return images of shape"),
        ("missing", "deepinv_factories has no missing"),
        ("SIZE", "deepinv_factories has no SIZE"),
    ],
)
def test_a_reconstructor_that_cannot_be_used_is_named(name: str, told: str, path: Path, runtime: Runtime) -> None:
    with pytest.raises(UserError, match=told):
        stage_of(
            tiny_cell(path, **RECONSTRUCTOR, **{"severity_encoder.reconstructor": f"deepinv_factories:{name}"})
        ).load(runtime)
