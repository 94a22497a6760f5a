"""An autoencoder measured by itself, against what is known of principal components."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_study import source, write_images

from workbench.autoencoders import PCA
from workbench.config import UserError
from workbench.metrics import calibration, statistics
from workbench.stages.measure_autoencoder import LATENTS, LATENTS_FILE, SIZES, MeasureAutoencoder
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "shapes.npy", 200)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 100)


def measure(images: Path, runs: Path, channels: int) -> Path:
    autoencoder = PCA(patch_size=2, latent_channels=channels)
    stage = MeasureAutoencoder(data=source(images), autoencoder=autoencoder, split="train", num_images=10_000)
    return stage.ensure(Runtime(runs))


def test_latents_of_principal_components_are_uncorrelated_channels_of_unit_variance(
    images: Path, tmp_path: Path
) -> None:
    """On the images that they were fitted to; neighbouring patches are alike, which no component removes."""
    found = calibration.from_json((measure(images, tmp_path, 2) / LATENTS_FILE).read_text())[LATENTS]
    assert found.curves["channel_variance"].mean == pytest.approx(1, abs=0.02)
    assert found.figures["z2"].mean == pytest.approx(1, abs=0.02)
    assert found.figures["channel_correlation"].mean < 0.02
    assert found.figures["neighbour_correlation"].low > 0.1


def test_latents_are_not_left_as_a_severity_encoders_calibration(images: Path, tmp_path: Path) -> None:
    """Of every file of that name the tracker reads the calibration of all images."""
    files = {path.name for path in measure(images, tmp_path, 2).iterdir()}
    assert files == {"config.json", "provenance.json", LATENTS_FILE, SIZES, ROWS}
    assert calibration.FILE not in files


def test_as_many_components_as_pixels_lose_nothing(images: Path, tmp_path: Path) -> None:
    lossless, lossy = (pd.read_parquet(measure(images, tmp_path, channels) / ROWS) for channels in (4, 1))
    assert lossless["psnr"].min() > 50  # weights are kept in half precision
    assert lossless["ssim"].min() == pytest.approx(1, abs=1e-3)
    assert (lossy["psnr"] < lossless["psnr"]).all()
    assert np.array_equal(lossy["image_id"], lossless["image_id"])


def test_sizes_are_counted(images: Path, tmp_path: Path) -> None:
    sizes = json.loads((measure(images, tmp_path, 3) / SIZES).read_text())
    assert sizes["latent_shape"] == [3, 8, 8]
    assert sizes["parameters"] == 3 * 4 + 3 + 4, "components, their deviations, the mean patch"
    assert sizes["encoder_parameters"] > sizes["parameters"], "with the network beside"


def test_images_that_do_not_fit_are_refused(images: Path) -> None:
    stage = MeasureAutoencoder(data=source(images), autoencoder=PCA(patch_size=2, latent_channels=5))
    with pytest.raises(UserError, match="latent_channels must be at most that, got 5"):
        stage.check()
