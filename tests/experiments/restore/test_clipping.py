"""Noise that was cut off at 0 and 1."""

import pytest
import torch
from scipy.stats import truncnorm

from workbench.core.measurement import Measurement
from workbench.degradations import GaussianNoise
from workbench.experiments.restore.clipping import beyond, unclipped


def of(y: torch.Tensor, noise_std: float, observed: torch.Tensor | None = None) -> Measurement:
    return Measurement(y, torch.arange(len(y)), torch.full((len(y),), noise_std), observed=observed)


def flat(level: float, noise_std: float, num: int = 4) -> torch.Tensor:
    noise = torch.randn(num, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    return level + noise_std * noise


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_mean_of_what_was_clipped_comes_back(level: float) -> None:
    """On flat images, where the model of the estimate is exact."""
    y = flat(level, 0.5)
    made, number = unclipped(GaussianNoise(), of(y.clamp(0, 1), 0.5))
    assert number == 4
    # the mean of the clipped images is off by up to 0.2; local means within [0, 1] pull a little inwards
    assert float(made.y.mean()) == pytest.approx(level, abs=0.09)
    if level != 0.5:
        assert abs(float(y.clamp(0, 1).mean()) - level) > 2 * abs(float(made.y.mean()) - level)


def test_a_clipped_value_becomes_its_expectation() -> None:
    """Where the mean is known, it is that of a truncated normal distribution, by scipy."""
    y = torch.full((1, 1, 9, 9), 0.3)
    y[0, 0, 4, 4] = 0.0
    found = beyond(y, torch.tensor([0.2]), torch.ones_like(y))[0, 0, 4, 4]
    mean = _fixed_point(0.3, 0.2)
    assert float(found) == pytest.approx(mean, abs=1e-4)


def _fixed_point(around: float, sigma: float) -> float:
    offset = torch.arange(-3, 4, dtype=torch.float64)
    weights = torch.exp(-offset.square() / 2)
    share = float(1 / weights.sum() ** 2)  # of the pixel itself in its local mean
    value = 0.0
    for _ in range(100):
        mean = (1 - share) * around + share * value
        value = float(truncnorm.mean(-torch.inf, -mean / sigma, loc=mean, scale=sigma))
    return value


def test_only_what_was_clipped_changes() -> None:
    y = flat(0.4, 0.5).clamp(0, 1)
    made, _ = unclipped(GaussianNoise(), of(y, 0.5))
    inside = (y > 0) & (y < 1)
    assert torch.equal(made.y[inside], y[inside])
    assert bool((made.y[y == 0] < 0).all())
    assert bool((made.y[y == 1] > 1).all())


def test_floats_little_noise_and_black_parts_stay() -> None:
    noisy = flat(0.1, 0.5)
    for y, noise_std in ((noisy, 0.5), (noisy.clamp(0, 1), 0.05), (flat(0.5, 0.1).clamp(0, 1), 0.1)):
        made, number = unclipped(GaussianNoise(), of(y, noise_std))
        assert number == 0
        assert torch.equal(made.y, y)


def test_dropped_pixels_are_not_clipped_ones() -> None:
    mask = (torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    y = flat(0.5, 0.1).clamp(0.01, 0.99) * mask
    assert unclipped(GaussianNoise(), of(y, 0.2, mask))[1] == 0
    clipped = flat(0.1, 0.5).clamp(0, 1) * mask
    made, number = unclipped(GaussianNoise(), of(clipped, 0.5, mask))
    assert number == 4
    assert bool((made.y[mask == 0] == 0).all())
    assert float(made.y[mask == 1].mean()) == pytest.approx(0.1, abs=0.09)


def test_however_unlikely_a_value_is_it_stays_finite() -> None:
    """Black pixels amid white with little noise: 30 standard deviations off."""
    y = torch.ones(1, 1, 16, 16)
    y[:, :, ::2] = 0
    made, number = unclipped(GaussianNoise(), of(y, 0.1))
    assert number == 1
    assert bool(made.y.isfinite().all())
    assert float(made.y.abs().max()) < 3
