"""Split conformal's promise: by hand, in simulation, and broken where images are of another kind."""

import math

import numpy as np
import pytest

from workbench.core.config import UserError
from workbench.metrics import violation_rate
from workbench.severity.calibration.conformal import check_sample, num_above, promised_range, upper_quantile


@pytest.mark.parametrize(
    ("num_scores", "risk", "rank"),
    [(19, 0.05, 19), (9, 0.1, 9), (99, 0.1, 90), (100, 0.1, 91), (99, 0.29, 71), (3, 0.5, 2)],
)
def test_the_rank_of_the_bound(num_scores: int, risk: float, rank: int) -> None:
    """ceil((n + 1)(1 - risk)), on scores 1, 2, ... n."""
    assert upper_quantile(range(1, num_scores + 1), risk) == rank


@pytest.mark.parametrize(("risk", "needed"), [(0.1, 9), (0.05, 19), (0.01, 99), (1 / 49, 48), (0.3, 3), (0.99, 1)])
def test_too_few_scores_promise_nothing(risk: float, needed: int) -> None:
    check_sample(needed, risk)
    assert num_above(needed, risk) >= 1
    with pytest.raises(
        UserError, match=rf"risk={risk:g} needs {needed} validation images .* are {needed - 1}: .* 1/{needed}"
    ):
        upper_quantile([0.0] * (needed - 1), risk)


@pytest.mark.parametrize("risk", [1 - 1e-12, math.nextafter(1, 0)])
def test_a_risk_close_to_one_is_the_smallest_score(risk: float) -> None:
    assert num_above(9, risk) == 9
    assert upper_quantile(range(1, 10), risk) == 1
    low, high = promised_range(risk, 9, 100)
    assert 0 < low < high <= 1


@pytest.mark.parametrize("risk", [0.05, 0.1, 0.2])
def test_the_promise_is_kept_on_average_over_draws(risk: float) -> None:
    """Heavy tails and few scores: nothing is assumed but that images are alike."""
    rng, num_scores, num_draws = np.random.default_rng(0), 30, 5000
    scores = np.sort(rng.standard_t(2, (num_draws, num_scores)), axis=1)
    bounds = np.array([upper_quantile(row.tolist(), risk) for row in scores])
    found = violation_rate(rng.standard_t(2, num_draws), bounds)
    assert found.low <= num_above(num_scores, risk) / (num_scores + 1) <= found.high
    assert found.low <= risk
    assert found.high >= risk - 1 / (num_scores + 1)


@pytest.mark.parametrize("risk", [0.05, 0.1, 0.2])
def test_measured_rates_lie_in_the_promised_range_as_often_as_is_said(risk: float) -> None:
    rng, num_draws = np.random.default_rng(1), 1000
    low, high = promised_range(risk, 200, 500)
    rates = []
    for _ in range(num_draws):
        bound = upper_quantile(np.sort(rng.normal(size=200)).tolist(), risk)
        rates.append(float((rng.normal(size=500) > bound).mean()))
    inside = np.mean([low <= rate <= high for rate in rates])
    assert 0.94 <= inside <= 0.99  # of a discrete count: never less than 95 %, but for this simulation's own error
    assert low < risk < high


def test_more_of_either_narrow_the_range() -> None:
    def width(num_scores: int, num_images: int) -> float:
        low, high = promised_range(0.1, num_scores, num_images)
        return high - low

    assert width(200, 500) > width(2000, 500) > width(2000, 5000)


def test_under_another_distribution_the_promise_breaks_and_the_rate_says_so() -> None:
    rng = np.random.default_rng(2)
    bound = upper_quantile(np.sort(rng.normal(size=1000)).tolist(), 0.1)
    found = violation_rate(rng.normal(1.0, 1.0, 1000), np.full(1000, bound))
    assert found.mean == pytest.approx(1 - 0.5 * (1 + math.erf((1.2816 - 1) / math.sqrt(2))), abs=0.05)
    assert found.low > promised_range(0.1, 1000, 1000)[1]
