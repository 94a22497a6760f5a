import math

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from workbench.core.config import UserError
from workbench.metrics import (
    Estimate,
    gain_over_trivial,
    ordering_accuracy,
    own_ordering_accuracy,
    spearman_across,
    spearman_within,
    statistics,
)

NUM_LEVELS = 5


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 300)


def seen_at_levels(num_images: int, own: float, noise: float, seed: int = 0) -> np.ndarray:
    """level + what the image adds at every level (std `own`) + what it adds at one level (std `noise`)."""
    rng = np.random.default_rng(seed)
    return (
        np.arange(NUM_LEVELS)
        + own * rng.normal(size=(num_images, 1))
        + noise * rng.normal(size=(num_images, NUM_LEVELS))
    )


def expected(std: float, apart: int | None = None) -> float:
    """P(level + normal of the given std is in order) for two independent values, over pairs of levels."""
    gaps = [b - a for a in range(NUM_LEVELS) for b in range(a + 1, NUM_LEVELS) if apart in (None, b - a)]
    return float(np.mean([norm.cdf(gap / (math.sqrt(2) * std)) for gap in gaps]))


@pytest.mark.parametrize("apart", [None, 1, 3])
def test_accuracy_of_different_images_is_the_normal_closed_form(apart: int | None) -> None:
    estimate = ordering_accuracy(seen_at_levels(1000, 1.0, 0.5), apart)
    assert estimate.mean == pytest.approx(expected(math.hypot(1.0, 0.5), apart), abs=0.01)
    assert estimate.low < estimate.mean < estimate.high
    assert estimate.num_images == 1000


def test_what_is_the_images_own_cancels_between_its_levels() -> None:
    values = seen_at_levels(500, 5.0, 0.5)
    assert own_ordering_accuracy(values, 1).mean == pytest.approx(expected(0.5, 1), abs=0.02)
    assert own_ordering_accuracy(seen_at_levels(50, 5.0, 0.0)) == Estimate(1, 1, 1, 50)
    assert ordering_accuracy(values).mean < 0.75


def test_ties_are_chance_and_reversed_levels_are_never_in_order() -> None:
    assert ordering_accuracy(np.ones((6, 3))) == Estimate(0.5, 0.5, 0.5, 6)
    backwards = seen_at_levels(20, 0, 0.001)[:, ::-1]
    assert ordering_accuracy(backwards).mean == own_ordering_accuracy(backwards).mean == 0


def test_interval_of_different_images_covers_the_truth() -> None:
    # a mean of one value per image would give half this width, and a coverage of 0.67
    truth = expected(1.0)
    estimates = [ordering_accuracy(seen_at_levels(40, 1.0, 0.0, seed)) for seed in range(100)]
    assert np.mean([e.low <= truth <= e.high for e in estimates]) >= 0.88


def test_rank_correlations_are_scipys() -> None:
    x, y = seen_at_levels(30, 1.0, 0.5), seen_at_levels(30, 1.0, 2.0, seed=0)
    across, within = spearman_across(x, y), spearman_within(x, y)
    assert across.mean == pytest.approx(spearmanr(x.ravel(), y.ravel()).statistic)
    assert within.mean == pytest.approx(np.mean([spearmanr(x[:, k], y[:, k]).statistic for k in range(NUM_LEVELS)]))
    assert across.low < across.mean < across.high
    assert within.mean < across.mean, "levels have a part in the one, not in the other"


def test_levels_of_one_image_are_no_independent_images() -> None:
    # ten images whose levels all say the same: as uncertain as ten values
    x, y = np.random.default_rng(0).normal(size=(2, 10, 1)).repeat(20, axis=2)
    estimate = spearman_across(x, y)
    assert estimate.high - estimate.low > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ordering_accuracy(np.ones(5)), r"expected \(images, levels\)"),
        (lambda: spearman_across(np.ones((5, 2)), np.ones((5, 3))), r"all of one shape"),
        (lambda: ordering_accuracy(np.full((5, 2), np.nan)), "NaN or infinity"),
        (lambda: ordering_accuracy(np.ones((5, 1))), "1 levels have no pairs"),
        (lambda: own_ordering_accuracy(np.ones((5, 3)), 4), "no pairs to order 4 apart"),
    ],
)
def test_what_is_no_table_of_levels_is_refused(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_a_prediction_is_set_against_the_best_trivial_one() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=300)
    good, fair, poor = (truth + noise * rng.normal(size=300) for noise in (0.3, 1.0, 3.0))
    trivial = {"fair": -fair, "poor": poor, "constant": np.ones(300)}
    gain = gain_over_trivial(good, trivial, truth)
    expected = spearmanr(good, truth).statistic - spearmanr(fair, truth).statistic
    assert gain.mean == pytest.approx(expected), "the best one, whatever its sign"
    assert 0 < gain.low < gain.mean < gain.high
    assert gain_over_trivial(good, {"itself": good}, truth).mean == 0
    assert gain_over_trivial(poor, {"good": good}, truth).high < 0
    assert gain_over_trivial(good, {"constant": np.ones(300)}, truth).mean == pytest.approx(
        spearmanr(good, truth).statistic
    )


def test_within_a_level_the_level_ranks_nothing() -> None:
    rng = np.random.default_rng(6)
    level = np.broadcast_to(np.arange(4.0), (80, 4))
    truth = level + rng.normal(size=(80, 4))
    prediction = truth + 0.5 * rng.normal(size=(80, 4))
    within = gain_over_trivial(prediction, {"level": level}, truth, within=True)
    assert within.mean == pytest.approx(spearman_within(prediction, truth).mean)
    across = gain_over_trivial(prediction, {"level": level}, truth)
    assert across.mean == pytest.approx(spearman_across(prediction, truth).mean - spearman_across(level, truth).mean)


def test_nothing_trivial_is_nothing_to_beat() -> None:
    with pytest.raises(UserError, match="no trivial predictor"):
        gain_over_trivial([1.0, 2.0], {}, [1.0, 2.0])
