"""What is special about random inpainting."""

import math
from itertools import pairwise

import pytest
import torch

from workbench.degradations import RandomInpainting


def masks(severity: float, num_images: int = 32, size: int = 32) -> torch.Tensor:
    levels = torch.full((num_images,), severity)
    return RandomInpainting().parameters(levels, torch.arange(num_images), 5, (3, size, size))["mask"]


@pytest.mark.parametrize("severity", [0.0, 0.3, 0.5, 1.0])
def test_fraction_dropped(severity: float) -> None:
    mask = masks(severity)
    assert mask.shape == (32, 1, 32, 32)
    dropped = 0.9 * severity
    error = math.sqrt(dropped * (1 - dropped) / mask.numel())
    assert 1 - mask.mean().item() == pytest.approx(dropped, abs=4 * error + 1e-7)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_pixels_kept_at_a_level_are_kept_at_milder_ones() -> None:
    levels = [masks(severity) for severity in (0.0, 0.4, 0.8, 1.0)]
    for mild, strong in pairwise(levels):
        assert (strong <= mild).all()
        assert (strong < mild).any()


def test_masks_differ_between_images() -> None:
    mask = masks(0.5)
    agreement = (mask[:-1] == mask[1:]).float().mean((1, 2, 3))
    assert ((agreement > 0.4) & (agreement < 0.6)).all()


def test_something_is_always_kept() -> None:
    assert (masks(1.0, num_images=200, size=2).sum((1, 2, 3)) >= 1).all()


def test_no_signal_noise_or_residual_where_dropped() -> None:
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    measurement = RandomInpainting(noise_std=0.2).measure(x, torch.linspace(0.2, 1, 8), torch.arange(8), 1)
    dropped = (measurement.params["mask"] == 0).expand_as(x)
    assert measurement.observed is not None
    assert torch.equal(measurement.observed, measurement.params["mask"])
    assert (measurement.y[dropped] == 0).all()
    assert (measurement.y[~dropped] != x[~dropped]).all()
    assert (measurement.residual(torch.ones_like(x))[dropped] == 0).all()
    assert torch.equal(measurement.num_observed(), 3 * measurement.params["mask"].sum((1, 2, 3)))
