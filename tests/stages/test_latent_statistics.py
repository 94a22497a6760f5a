from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from small_study import tiny_cell

from workbench.core.config import UserError
from workbench.degradations import GaussianBlur, GaussianNoise
from workbench.metrics import radial_spectrum
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.latent_statistics import NUM_BINS, STATISTICS, LatentStatistics, _summary, read_statistics
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_severity import degrade

NUM_IMAGES = 140
CHOSEN = {"split": "train", "num_images": NUM_IMAGES}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("statistics"))


@pytest.fixture(scope="module")
def cell(images: Path) -> Evaluate:
    # latents of 2 x 4 x 4
    return tiny_cell(images)


def stage(cell: Evaluate, **fields) -> LatentStatistics:
    given = {"degradation": GaussianBlur(), **CHOSEN, **fields}
    return LatentStatistics(data=cell.data, autoencoder=cell.autoencoder, **given)


@pytest.fixture(scope="module")
def encoded(cell: Evaluate, runtime: Runtime) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """E(y), z0 and severity, worked out once more in one batch."""
    autoencoder = cell.autoencoder_stage().load(runtime)
    images = cell.data.split("train").first(NUM_IMAGES)
    measurement = degrade(GaussianBlur(), images, torch.arange(NUM_IMAGES), seed=0)
    with torch.no_grad():
        z, z0 = autoencoder.encode(measurement.encoder_input()), autoencoder.encode(images.batch(slice(None)))
    return z, z0, measurement.severity.numpy()


def test_statistics_are_those_of_the_latents_and_errors(cell: Evaluate, runtime: Runtime, encoded) -> None:
    z, z0, severity = encoded
    found = stage(cell).load(runtime)
    assert set(found) == {"latent", "error"}
    for what, values in {"latent": z, "error": z - z0}.items():
        vectors = values.flatten(1).double().numpy()
        moments = found[what].moments()
        assert moments.num == NUM_IMAGES
        np.testing.assert_allclose(moments.mean, vectors.mean(0), atol=1e-5)
        np.testing.assert_allclose(moments.covariance, np.cov(vectors.T), atol=1e-5)
        np.testing.assert_allclose(found[what].spectrum(), radial_spectrum(values.numpy()), rtol=1e-4)
        assert found[what].latent_shape == (2, 4, 4)
        for tenth in range(NUM_BINS):
            inside = (severity >= tenth / NUM_BINS) & (severity < (tenth + 1) / NUM_BINS)
            part = found[what].bins[tenth]
            assert part.num == inside.sum()
            np.testing.assert_allclose(part.mean, vectors[inside].mean(0), atol=1e-5)
    halves = [found["error"].moments(range(5 * half, 5 * half + 5)) for half in range(2)]
    assert np.trace(halves[0].covariance) < np.trace(halves[1].covariance), "errors grow with severity"


def test_tenths_of_no_image_and_of_one_do_no_harm(tmp_path: Path) -> None:
    errors = np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32)
    summary = _summary(errors, np.array([0, 3, 3, 3, 9]))
    tensors = {f"error.{name}": array for name, array in summary.items()} | {"latent_shape": np.array([2, 4, 4])}
    save_file(tensors, tmp_path / STATISTICS)
    found = read_statistics(tmp_path)
    assert set(found) == {"error"}
    np.testing.assert_allclose(found["error"].moments().covariance, np.cov(errors.reshape(5, -1).T), atol=1e-6)
    np.testing.assert_allclose(found["error"].spectrum(), radial_spectrum(errors))
    np.testing.assert_allclose(found["error"].spectrum([0, 1]), radial_spectrum(errors[:1]))
    assert [part.num for part in found["error"].bins] == [1, 0, 0, 3, 0, 0, 0, 0, 0, 1]


def test_batches_do_not_matter(cell: Evaluate, runtime: Runtime, tmp_path: Path, monkeypatch) -> None:
    from workbench.stages.measure import latent_statistics

    whole = stage(cell).load(runtime)
    monkeypatch.setattr(latent_statistics, "BATCH_SIZE", 33)
    stage(cell).work(tmp_path, runtime)
    again = read_statistics(tmp_path)
    for what in whole:
        np.testing.assert_allclose(again[what].moments().covariance, whole[what].moments().covariance, atol=1e-5)


def test_every_degradation_gets_the_same_images_and_severities(cell: Evaluate, runtime: Runtime) -> None:
    blur, noise = (stage(cell, degradation=d).load(runtime)["latent"] for d in (GaussianBlur(), GaussianNoise()))
    assert [part.num for part in blur.bins] == [part.num for part in noise.bins]
    assert not np.allclose(blur.moments().covariance, noise.moments().covariance)


def test_the_errors_of_a_severity_encoder_are_kept_beside(cell: Evaluate, runtime: Runtime, encoded) -> None:
    _, z0, _ = encoded
    chosen = stage(cell, severity_encoder=cell.severity_encoder)
    found = chosen.load(runtime)
    severity_stage = chosen.severity_stage()
    assert severity_stage in chosen.upstream()
    images = cell.data.split("train").first(NUM_IMAGES)
    view = degrade(GaussianBlur(), images, torch.arange(NUM_IMAGES), seed=0).encoder_input()
    error = severity_stage.load(runtime).estimate(view).z_hat - z0
    np.testing.assert_allclose(found["encoder_error"].moments().mean, error.flatten(1).mean(0), atol=1e-5)
    plain = stage(cell)
    assert plain.identity != chosen.identity
    np.testing.assert_array_equal(found["error"].moments().mean, plain.load(runtime)["error"].moments().mean)


@pytest.mark.parametrize(
    "changed", [{"num_images": 150}, {"seed": 1}, {"degradation": GaussianBlur(noise_std=0.1)}, {"split": "val"}]
)
def test_what_changes_the_statistics_changes_the_identity(cell: Evaluate, changed) -> None:
    assert stage(cell, **changed).identity != stage(cell).identity


def test_a_second_call_finds_everything(cell: Evaluate, runtime: Runtime) -> None:
    folder = stage(cell).ensure(runtime)
    written = (folder / "provenance.json").stat().st_mtime_ns
    assert stage(cell).missing(runtime) == []
    assert (stage(cell).ensure(runtime) / "provenance.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_images": 32}, "more than 32 images"),
        ({"num_images": 10_000}, "the split has"),
        ({"split": "val", "num_images": 129}, "the split has"),
    ],
)
def test_too_few_images_are_refused_before_compute(cell: Evaluate, changed, message: str) -> None:
    with pytest.raises(UserError, match=message):
        stage(cell, **changed).check()


def test_latents_too_large_for_a_covariance_are_refused(cell: Evaluate, monkeypatch) -> None:
    from workbench.stages.measure import latent_statistics

    monkeypatch.setattr(latent_statistics, "MAX_SIZE", 31)
    with pytest.raises(UserError, match="at most 31 elements"):
        stage(cell).check()
