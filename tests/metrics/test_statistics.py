import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from workbench.core.config import UserError
from workbench.metrics import (
    Estimate,
    first_crossing,
    mean_interval,
    mean_intervals,
    paired_difference,
    ratio_of_means,
    spearman,
)
from workbench.metrics.statistics import MAX_DRAWN, figures_of_means


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_interval_agrees_with_the_normal_closed_form() -> None:
    values = np.random.default_rng(1).normal(3, 2, size=400)
    estimate = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(values.size)
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert estimate.num_images == 400


def test_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(2)
    estimates = [mean_interval(rng.normal(size=50)) for _ in range(200)]
    coverage = np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates])
    assert 0.88 <= coverage <= 0.99


def test_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=40)
    assert mean_interval(values) == mean_interval(list(values))


def test_constant_values_have_zero_width() -> None:
    constant = mean_interval([0.1] * 7)
    assert (constant.mean, constant.low, constant.high) == pytest.approx((0.1, 0.1, 0.1))
    assert constant.num_images == 7


@pytest.mark.parametrize("num_images", [1, 2, 30])
def test_columns_together_have_the_intervals_that_they_have_alone(num_images: int) -> None:
    rng = np.random.default_rng(5)
    columns = np.stack([rng.normal(size=num_images), rng.exponential(size=num_images), np.full(num_images, 0.1)], 1)
    for found, column in zip(mean_intervals(columns), columns.T, strict=True):
        alone = mean_interval(column)
        for name in ("mean", "low", "high", "num_images"):
            assert getattr(found, name) == pytest.approx(getattr(alone, name), rel=1e-12, nan_ok=True)
        assert (found.low == found.high) == (alone.low == alone.high)
    assert mean_intervals(np.zeros((0, 1)))[0].num_images == 0


def test_too_few_images() -> None:
    one, none = mean_interval([2.0]), mean_interval([])
    assert one.mean == 2
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.num_images == 1
    assert math.isnan(none.mean)
    assert none.num_images == 0


def test_two_images_have_a_finite_interval() -> None:
    estimate = mean_interval([1.0, 2.0])
    assert 1 <= estimate.low < estimate.mean < estimate.high <= 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_a_number_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="1 of 3"):
        mean_interval([1, bad, 2])
    with pytest.raises(UserError):
        spearman([1, 2, 3], [1, bad, 2])


def test_a_constant_shift_has_a_paired_difference_of_zero_width() -> None:
    b = np.arange(30.0)
    shift = paired_difference(b + 2, b)
    assert (shift.mean, shift.low, shift.high) == (2, 2, 2)


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(4)
    image = rng.normal(0, 5, size=100)
    a, b = image + rng.normal(0, 0.1, size=100) + 1, image + rng.normal(0, 0.1, size=100)
    paired, alone = paired_difference(a, b), mean_interval(a)
    assert paired.low < 1 < paired.high
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)


@pytest.mark.parametrize("function", [paired_difference, spearman, ratio_of_means])
def test_pairs_must_have_one_length(function) -> None:
    with pytest.raises(UserError, match="3 and 2"):
        function([1, 2, 3], [1, 2])


def test_ratio_of_means() -> None:
    rng = np.random.default_rng(5)
    below = rng.normal(4, 1, size=200)
    above = 0.25 * below
    exact = ratio_of_means(above, below)
    assert (exact.mean, exact.low, exact.high) == pytest.approx((0.25, 0.25, 0.25))
    noisy = ratio_of_means(above + rng.normal(0, 0.2, size=200), below)
    assert noisy.low < 0.25 < noisy.high < 0.3
    assert math.isnan(ratio_of_means([1, 2], [-1, 1]).mean)


def test_spearman_agrees_with_scipy() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(6)
    x = rng.integers(0, 10, size=80).astype(float)
    y = x + rng.normal(0, 3, size=80)
    estimate = spearman(x, y)
    assert estimate.mean == pytest.approx(spearmanr(x, y).statistic)
    assert estimate.low < estimate.mean < estimate.high < 1


def test_spearman_sees_ranks_only() -> None:
    x = np.linspace(0.1, 3, 25)
    rising, falling = spearman(x, np.exp(x)), spearman(x, -(x**3))
    assert (rising.mean, rising.low, rising.high) == pytest.approx((1, 1, 1))
    assert (falling.mean, falling.low, falling.high) == pytest.approx((-1, -1, -1))


def test_spearman_of_a_constant_is_undefined() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]).mean)


@pytest.mark.parametrize("num_images", [2, 3, 4])
def test_spearman_of_few_images_stays_in_range(num_images: int) -> None:
    rng = np.random.default_rng(7)
    estimate = spearman(rng.normal(size=num_images), rng.normal(size=num_images))
    assert -1 - 1e-9 <= estimate.low <= estimate.high <= 1 + 1e-9


def test_a_negative_factor_swaps_the_ends() -> None:
    estimate = Estimate(2.0, 1.0, 4.0, 8)
    assert estimate.scaled(-0.5) == Estimate(-1.0, -2.0, -0.5, 8)
    assert estimate.scaled(10) == Estimate(20.0, 10.0, 40.0, 8)
    undefined = Estimate(2.0, math.nan, math.nan, 1).scaled(-1)
    assert undefined.mean == -2
    assert math.isnan(undefined.low)
    assert math.isnan(undefined.high)


def test_within_a_range_outside_or_neither() -> None:
    assert Estimate(1.0, 0.95, 1.05, 8).within(0.9, 1.1) is True
    assert Estimate(1.3, 1.15, 1.4, 8).within(0.9, 1.1) is False
    assert Estimate(1.0, 0.85, 1.15, 8).within(0.9, 1.1) is None
    assert Estimate(1.0, math.nan, math.nan, 1).within(0.9, 1.1) is None


def test_text() -> None:
    estimate = Estimate(23.811, 23.5, 24.119, 128)
    assert str(estimate) == "23.81 [23.50, 24.12]"
    assert f"{estimate:.1f}" == "23.8 [23.5, 24.1]"
    assert str(Estimate(1.0, math.nan, math.nan, 1)) == "1.00"
    assert str(Estimate(math.nan, math.nan, math.nan, 0)) == "n/a"


def test_a_crossing_is_interpolated_on_the_mean_over_images() -> None:
    values = np.array([[0.0, 0.0], [0.0, 0.2], [0.4, 0.6]])  # means 0, 0.1, 0.5
    assert first_crossing([0, 3, 6], values, 0.3).mean == pytest.approx(4.5)
    assert first_crossing([0, 3, 6], values, 0.1).mean == pytest.approx(3)
    assert first_crossing([0, 3, 6], values, 0.6).mean == 6  # never
    assert first_crossing([1, 3, 6], values, -1).mean == 1  # at once
    assert first_crossing([0, 3, 6], -values, 0).mean == 0


def test_the_interval_of_a_crossing_covers_it() -> None:
    rng = np.random.default_rng(0)
    slopes = 0.1 + 0.02 * rng.normal(size=200)
    found = first_crossing([0, 1, 2], np.outer([0, 1, 2], slopes), 0.15)
    assert found.low < 1.5 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 1.5 * 0.2 / np.sqrt(200), rel=0.2)


def test_a_crossing_needs_values_at_each_position() -> None:
    with pytest.raises(UserError, match="got 2"):
        first_crossing([0, 1, 2], np.zeros((2, 4)), 1.0)


def test_figures_of_means_are_those_of_one_value_an_image() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.exponential(size=(60, 2)), rng.normal(3, 1, size=60)
    found = figures_of_means(
        lambda means: {"mean": means["a"], "ratio": means["a"][:, 0] / means["b"]}, {"a": a, "b": b}
    )
    for estimate, expected in zip(
        [*found.estimates["mean"], *found.estimates["ratio"]],
        [mean_interval(a[:, 0]), mean_interval(a[:, 1]), ratio_of_means(a[:, 0], b)],
        strict=True,
    ):
        assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(
            (expected.mean, expected.low, expected.high), rel=0.02
        )
        assert estimate.num_images == 60
    assert found.draws["mean"].shape == (2000, 2)
    assert np.quantile(found.draws["ratio"], 0.5) == pytest.approx(found.estimates["ratio"][0].mean, rel=0.02)


def test_images_drawn_at_once_do_not_change_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"a": np.random.default_rng(9).normal(size=(30, 3))}
    at_once = figures_of_means(lambda means: means, rows)
    monkeypatch.setattr("workbench.metrics.statistics.MAX_DRAWN", 210)
    piecewise = figures_of_means(lambda means: means, rows)
    assert MAX_DRAWN > 30 * 2000
    for one, other in zip(at_once.estimates["a"], piecewise.estimates["a"], strict=True):
        assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))


def test_a_figure_undefined_in_some_resamples_has_an_interval_from_the_others() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0])
    found = figures_of_means(
        lambda means: {"inverse": np.where(means["x"] > 0, 1 / np.maximum(means["x"], 0.1), np.nan)}, {"x": values}
    ).estimates["inverse"][0]
    assert found.mean == 4
    assert 1 <= found.low < 4 <= found.high


def test_figures_of_one_image_have_no_interval() -> None:
    found = figures_of_means(lambda means: {"x": 2 * means["x"]}, {"x": np.array([3.0])})
    assert found.estimates["x"][0].mean == 6
    assert math.isnan(found.estimates["x"][0].low)
    assert found.draws["x"].shape == (0, 1)


def test_figures_need_the_same_sound_images() -> None:
    with pytest.raises(UserError, match=r"\[2, 3\] images"):
        figures_of_means(lambda means: means, {"a": np.ones(3), "b": np.ones(2)})
    with pytest.raises(UserError, match="1 of 3 values of a"):
        figures_of_means(lambda means: means, {"a": np.array([1, math.nan, 2])})


@pytest.mark.parametrize("num_images", [20, 256])
def test_intervals_are_those_of_scipy(num_images: int) -> None:
    """BCa with the same seed: one set of resamples for all figures is faster, and nothing else.

    With fewer images, resamples that hold each image once are common. Here their mean is that of all images, exactly;
    scipy sums them in another order, and counts them as above or below it by the rounding.
    """
    from scipy.stats import bootstrap

    rng = np.random.default_rng(num_images)
    a, b = rng.exponential(size=num_images), rng.normal(3, 1, size=num_images)
    found = [mean_interval(a), ratio_of_means(a, b)]
    statistics = [
        lambda x, axis=-1: x.mean(axis),
        lambda x, y, axis=-1: x.mean(axis) / y.mean(axis),
    ]
    for estimate, statistic, samples in zip(found, statistics, [(a,), (a, b)], strict=True):
        expected = bootstrap(
            samples, statistic, paired=len(samples) > 1, n_resamples=2000, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), rel=1e-9)


def test_draws_in_which_a_figure_is_undefined_are_left_out() -> None:
    """Of 8 images, 3 are in the bin: 2 % of resamples have none of them."""
    rng = np.random.default_rng(0)
    member = (np.arange(8) < 3).astype(float)
    values = rng.exponential(size=8)
    rows = {"member": member, "value": member * values}
    with np.errstate(invalid="ignore", divide="ignore"):
        found = figures_of_means(lambda means: {"mean": means["value"] / means["member"]}, rows)
    draws = found.draws["mean"][:, 0]
    assert 0 < np.isnan(draws).sum() < 0.1 * len(draws)
    (estimate,) = found.estimates["mean"]
    low, high = np.quantile(draws[np.isfinite(draws)], [0.025, 0.975])
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
