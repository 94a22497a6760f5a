import math

import numpy as np
import pytest
from latent_errors import calibration_of, forward, mmse

from workbench.metrics import Estimate
from workbench.metrics.calibration import SecondMoments, holding_channel

VARIANCE = 0.225  # the mean of `levels`


def within(estimate: Estimate, expected: float) -> bool:
    half = (estimate.high - estimate.low) / 2
    return abs(estimate.mean - expected) <= 2 * half


def test_forward() -> None:
    figures = calibration_of(channel=forward).figures
    assert within(figures["forward_share"], 1)
    assert within(figures["corr_clean"], 0)
    assert within(figures["corr_estimate"], math.sqrt(VARIANCE / (1 + VARIANCE)))
    assert within(figures["slope_on_clean"], 1)
    assert within(figures["slope_on_estimate"], 1 / (1 + VARIANCE))
    assert holding_channel(figures["forward_share"]) == "forward"


def test_mmse_shrinks() -> None:
    figures = calibration_of(channel=mmse).figures
    assert within(figures["forward_share"], 0)
    assert within(figures["corr_estimate"], 0)
    assert within(figures["corr_clean"], -math.sqrt(VARIANCE))
    assert within(figures["slope_on_clean"], 1 - VARIANCE)
    assert within(figures["slope_on_estimate"], 1)
    assert holding_channel(figures["forward_share"]) == "mmse"


def test_each_channel_by_itself() -> None:
    def half_shrunk(noise, variance, seed):
        z_hat, z0 = forward(noise, variance, seed)
        shrunk = mmse(noise, variance, seed)
        z_hat[:, 2:], z0[:, 2:] = shrunk[0][:, 2:], shrunk[1][:, 2:]
        return z_hat, z0

    found = calibration_of(channel=half_shrunk)
    np.testing.assert_allclose(found.curves["channel_forward_share"].mean, [1, 1, 0, 0], atol=0.05)
    assert holding_channel(found.figures["forward_share"]) == "neither"


def test_means_of_channels_do_not_count() -> None:
    """A bias of the error beside a mean of the latents is no covariance."""
    rng = np.random.default_rng(0)
    error, estimate = rng.normal([1, -1], 0.5, (9000, 2)), rng.normal([5, -5], 1, (9000, 2))
    names = ("error", "estimate", "error_square", "estimate_square", "product")
    values = (error, estimate, error**2, estimate**2, error * estimate)
    found = SecondMoments.of({name: value.mean(0, keepdims=True) for name, value in zip(names, values, strict=True)})
    assert found.forward_share == pytest.approx(0, abs=0.05)
    assert found.error == pytest.approx(0.25, rel=0.05)
    assert found.clean == pytest.approx(1.25, rel=0.05)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.9, 1.1, "forward"), (-0.1, 0.2, "mmse"), (0.3, 0.7, "neither"), (0.2, 0.3, "undecided"), (-1, 2, "undecided")],
)
def test_the_whole_interval_decides(low: float, high: float, expected: str) -> None:
    assert holding_channel(Estimate((low + high) / 2, low, high, 9)) == expected
    assert holding_channel(Estimate(1.0, math.nan, math.nan, 1)) == "undecided"
