"""Images of 13 bands, as EuroSAT's multispectral ones: from a file to metrics, pictures and restored arrays."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import load_file
from small_study import tiny_cell

from workbench.core.config import UserError
from workbench.data.contact_sheet import contact_sheet
from workbench.data.shown import shown
from workbench.experiments.restore.run import Request, restore
from workbench.metrics import spectral_angle
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import EXAMPLES, ROWS
from workbench.stages.runtime import Runtime

BANDS, SIZE = 13, 16
DEGRADED = {"degradation.kind": "super_resolution", "severity_encoder.degradation.kind": "super_resolution"}


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("bands")
    for number, fields in enumerate(rng.integers(0, 12_000, (200, 4, 4, BANDS), np.uint16)):
        tifffile.imwrite(folder / f"Forest_{number}.tif", fields.repeat(4, 0).repeat(4, 1), photometric="minisblack")
    path = folder / "bands.npy"
    # as the user guide says
    np.save(path, np.stack([tifffile.imread(file).clip(0, 10_000) for file in sorted(folder.rglob("*.tif"))]))
    metrics = "psnr,ssim,spectral_angle,residual,lpips,dists"
    return tiny_cell(path, **{"data.channels": BANDS, "data.white": 10_000, **DEGRADED, "metrics": metrics})


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


def test_rows_have_the_metrics_that_bands_have(cell: Evaluate, runtime: Runtime) -> None:
    cell.check()
    folder = cell.ensure(runtime)
    found, kept = pd.read_parquet(folder / ROWS), load_file(folder / EXAMPLES)
    assert kept["restored"].shape == (cell.num_images, BANDS, SIZE, SIZE)
    angles = spectral_angle(kept["restored"] / 255, cell.data.split("test").first(cell.num_images).batch(slice(None)))
    assert found["spectral_angle"].to_numpy() == pytest.approx(angles.numpy(), abs=0.3)
    assert np.isfinite(found[["psnr", "ssim", "residual_ratio"]].to_numpy()).all()
    for metric in ("lpips", "dists"):
        assert metric not in found
        assert "these have 13 channels" in (folder / f"{metric}_absent.txt").read_text()


def test_pictures_show_the_mean_of_the_bands(cell: Evaluate, tmp_path: Path) -> None:
    image = np.random.default_rng(1).random((SIZE, SIZE, BANDS))
    np.testing.assert_allclose(shown(image), image.mean(2, keepdims=True))

    def view(x: torch.Tensor, severity: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return cell.degradation.measure(x, severity, ids, 0).encoder_input()

    with Image.open(contact_sheet(cell.data, view, tmp_path / "sheet.png", num_images=2)) as sheet:
        assert np.asarray(sheet.convert("L")).std() > 10


def test_bands_are_restored_from_an_array_into_arrays(cell: Evaluate, runtime: Runtime, tmp_path: Path) -> None:
    blurred = cell.replace({"degradation.kind": "gaussian_blur", "solver.kind": "decode_only"})  # draws no noise
    images = cell.data.split("test").first(3)
    measured = blurred.degradation.measure(images.batch(slice(None)), torch.full((3,), 0.5), images.ids, 0)
    np.save(tmp_path / "in.npy", measured.y.permute(0, 2, 3, 1).numpy())
    restore(blurred, Request(tmp_path / "in.npy", tmp_path / "out", severity=0.5), runtime)
    restored = [np.load(tmp_path / "out" / f"in_{i}.npy") for i in range(3)]
    assert all(one.shape == (SIZE, SIZE, BANDS) for one in restored)
    expected = blurred.restorer(runtime).restore_all(measured).x_hat.permute(0, 2, 3, 1)
    assert len(pd.read_csv(tmp_path / "out" / "restored.csv")) == 3
    np.testing.assert_allclose(np.stack(restored), expected.numpy(), atol=1e-4)


def test_a_single_image_of_bands_is_read(cell: Evaluate, runtime: Runtime, tmp_path: Path) -> None:
    blurred = cell.replace({"degradation.kind": "gaussian_blur"})
    np.save(tmp_path / "one.npy", np.full((SIZE, SIZE, BANDS), 0.5, np.float32))
    restore(blurred, Request(tmp_path / "one.npy", tmp_path / "out", severity=0.5), runtime)
    assert np.load(tmp_path / "out" / "one.npy").shape == (SIZE, SIZE, BANDS)


def test_what_cannot_hold_bands_is_refused(cell: Evaluate, runtime: Runtime, tmp_path: Path) -> None:
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"image files have 1 or 3 channels.*save them as an .npy file of N x height x"):
        restore(cell, Request(tmp_path / "a.png", tmp_path / "out", severity=0.5), runtime)
    np.save(tmp_path / "in.npy", np.zeros((2, SIZE, SIZE, BANDS), np.float32))
    request = Request(tmp_path / "in.npy", tmp_path / "out", severity=0.5, file_format="png")
    with pytest.raises(UserError, match="png has 1 or 3 channels, but restored images have 13: use --format npy"):
        restore(cell, request, runtime)
    np.save(tmp_path / "other.npy", np.zeros((2, SIZE, SIZE, 5), np.float32))
    with pytest.raises(UserError, match="expected N x H x W or N x H x W x C with C 13"):
        restore(cell, Request(tmp_path / "other.npy", tmp_path / "out", severity=0.5), runtime)
