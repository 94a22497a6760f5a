"""What is special about random inpainting."""

import math
from itertools import pairwise

import pytest
import torch
from given_y import given

from workbench.core.config import UserError
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


def test_dropped_pixels_may_be_measured_as_zeros_with_noise() -> None:
    x, severity, ids = torch.rand(8, 3, 64, 64), torch.linspace(0.2, 1, 8), torch.arange(8)
    measurement = RandomInpainting(noise_std=0.2, dropped="as_zeros").measure(x, severity, ids, 1)
    dropped = (measurement.params["mask"] == 0).expand_as(x)
    noise = measurement.y[dropped]
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.005)
    assert measurement.observed is None
    assert measurement.num_observed().tolist() == [3 * 64 * 64] * 8
    # the residual of any image is y itself there: A leaves nothing of it
    prediction = RandomInpainting().A(torch.rand_like(x), measurement.params)
    torch.testing.assert_close(measurement.residual(prediction)[dropped], noise)
    # masks and the noise of kept pixels are those of `excluded`
    excluded = RandomInpainting(noise_std=0.2).measure(x, severity, ids, 1)
    assert torch.equal(measurement.y[~dropped], excluded.y[~dropped])
    assert torch.equal(measurement.params["mask"], excluded.params["mask"])


def test_the_residual_of_noise_is_as_large_as_the_share_of_kept_pixels_says() -> None:
    """60 % dropped: norms over all pixels are sqrt(1 / 0.4) = 1.6 times as large."""
    x, ids = torch.rand(4, 3, 64, 64), torch.arange(4)
    norms = []
    for dropped in ("excluded", "as_zeros"):
        degradation = RandomInpainting(dropped=dropped)
        measurement = degradation.measure(x, torch.full((4,), 0.6 / 0.9), ids, 1)
        norms.append(measurement.residual(degradation.A(x, measurement.params)).flatten(1).norm(dim=1))
    torch.testing.assert_close(norms[1] / norms[0], torch.full((4,), 0.4**-0.5), rtol=0.05, atol=0)


def test_a_given_y_may_hold_noise_where_zeros_were_measured() -> None:
    x, severity, ids = 0.3 + 0.5 * torch.rand(4, 1, 32, 32), torch.full((4,), 0.6), torch.arange(4)
    as_zeros, excluded = RandomInpainting(dropped="as_zeros"), RandomInpainting()
    measurement = as_zeros.measure(x, severity, ids, 1)
    y, lines = given(as_zeros, measurement.y, measurement.params)
    assert torch.equal(y, measurement.y)
    assert lines == []
    with pytest.raises(UserError, match="y is not zero where the mask drops"):
        given(excluded, measurement.y, measurement.params)
    # a white filling has one reading, and the other images keep their noise
    mask = measurement.params["mask"]
    white = measurement.y.clone()
    white[1:2] = white[1:2].where(mask[1:2] == 1, 1.0)
    y, (line,) = given(as_zeros, white, measurement.params)
    assert line == "y is not zero but 1 throughout where the mask drops, in 1 of 4 images: set to 0"
    assert (y[1:2][mask[1:2] == 0] == 0).all()
    assert torch.equal(y[2:], measurement.y[2:])
    with pytest.raises(UserError, match="y is not zero where the mask drops"):
        given(as_zeros, x, measurement.params)  # never masked
    with pytest.raises(UserError, match="as if inverted"):
        given(as_zeros, x * mask, {"mask": 1 - mask})


def test_the_default_leaves_the_identity_alone() -> None:
    assert "dropped" not in RandomInpainting().canonical()
    assert RandomInpainting(dropped="as_zeros").canonical()["dropped"] == "as_zeros"
