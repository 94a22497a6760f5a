"""Figures of a calibration say what was measured."""

import latent_errors
import numpy as np
import pytest
from latent_errors import SHAPE

from workbench.metrics.calibration import Calibration
from workbench.reporting.calibration import LAWS, laws_figure
from workbench.reporting.curves import Line


@pytest.fixture(scope="module")
def laplace() -> Calibration:
    variance = latent_errors.levels(60, seed=0)
    noise = latent_errors.laplace(np.random.default_rng(0), (60, *SHAPE))
    return latent_errors.summarise(latent_errors.collected(*latent_errors.forward(noise, variance, 0), variance))


def test_the_true_law_runs_through_the_measured_quantiles(
    laplace: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, dict[str, Line]] = {}
    monkeypatch.setattr("workbench.reporting.calibration.curves", lambda panels, **_: drawn.update(panels))
    laws_figure({"blur": laplace})
    lines = {name: np.array([point.mean for point in line.y]) for name, line in drawn["blur"].items()}
    assert lines.keys() == {"measured", *LAWS}
    miss = {law: np.abs(lines[law] - lines["measured"]).max() for law in LAWS}
    assert min(miss, key=lambda law: miss[law]) == "laplace"
    assert miss["gaussian"] > 3 * miss["laplace"]
