"""A cell on satellite images in EuroSAT's layout: super-resolution from the files to the metrics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_study import EVALUATION, NETWORKS

from workbench.core import places
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

CLASSES = ("AnnualCrop", "Forest", "River")


@pytest.fixture
def eurosat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """120 files as EuroSAT.zip has them: 2750/CLASS/CLASS_NUMBER.jpg, 64 x 64 in colour."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        folder = tmp_path / "data" / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for number in range(1, 41):
            fields = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(fields).save(folder / f"{name}_{number}.jpg")
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "data"))
    assert places.data_root() == tmp_path / "data"
    return tmp_path


def test_super_resolution_of_satellite_images(eurosat: Path) -> None:
    cell = Evaluate().replace(
        {
            "data.kind": "eurosat",
            "data.size": 16,
            "degradation.kind": "super_resolution",
            "severity_encoder.degradation.kind": "super_resolution",
            "start.variance": "encoder",
            "metrics": "psnr,ssim,spectral_angle,residual",
            **NETWORKS,
            **EVALUATION,
        }
    )
    cell.check()
    found = pd.read_parquet(cell.ensure(Runtime(eurosat / "runs")) / ROWS)
    assert cell.data.image_shape == (3, 16, 16)
    assert found["image_id"].tolist() == cell.data.split("test").first(cell.num_images).ids.tolist()
    assert np.isfinite(found[["psnr", "ssim", "spectral_angle", "residual_ratio"]].to_numpy()).all()
    assert (found["spectral_angle"] > 0).all()
    mild, severe = found.sort_values("severity").iloc[[0, -1]]["psnr_degraded"]
    assert mild > severe
