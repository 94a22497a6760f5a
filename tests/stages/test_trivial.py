"""Trivial predictors of the error: against numbers by hand, and in rows."""

import math

import numpy as np
import pytest
import torch

from workbench.degradations import GaussianBlur, RandomInpainting
from workbench.stages.measure.trivial import LEAST_VARIANCE, LOG_VARIANCE, RESIDUAL, trivial_predictors


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def test_only_observed_entries_count(x: torch.Tensor) -> None:
    degradation = RandomInpainting(noise_std=0.0)
    measurement = degradation.measure(x, torch.tensor([0.2, 0.5, 0.9]), torch.arange(3), seed=0)
    mask = measurement.observed
    assert mask is not None
    decoded = x + torch.tensor([0.0, 0.1, 0.0])[:, None, None, None]
    found = trivial_predictors(measurement, degradation, decoded)
    for i in range(3):
        kept = mask.expand_as(x)[i] > 0
        assert found[LOG_VARIANCE][i].item() == pytest.approx(math.log(np.var(x[i][kept].numpy())), abs=1e-3)
        residual = (measurement.y[i] - decoded[i].clamp(0, 1))[kept]
        assert found[RESIDUAL][i].item() == pytest.approx(residual.square().mean().sqrt().item(), abs=1e-5)
    assert found[RESIDUAL][0] == pytest.approx(0, abs=1e-5)
    assert found[RESIDUAL][1] > 0.05


def test_a_flat_measurement_stays_finite() -> None:
    flat = torch.full((2, 1, 32, 32), 0.5)
    degradation = GaussianBlur(noise_std=0.0)
    measurement = degradation.measure(flat, torch.tensor([0.2, 0.5]), torch.arange(2), seed=0)
    found = trivial_predictors(measurement, degradation, flat)
    assert found[LOG_VARIANCE].tolist() == pytest.approx([math.log(LEAST_VARIANCE)] * 2)
    assert found[RESIDUAL].tolist() == pytest.approx([0, 0], abs=1e-5)
