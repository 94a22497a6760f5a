"""Means, paired differences and rank correlations over images, with 95 % bootstrap intervals (BCa, Efron 1987)."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.config import UserError

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure from `num_images` images and its 95 % interval. NaN where a figure or an interval is undefined."""

    mean: float
    low: float
    high: float
    num_images: int

    def scaled(self, factor: float) -> "Estimate":
        """The figure times a constant; a negative one swaps the interval's ends."""
        ends = (factor * self.low, factor * self.high)
        return Estimate(factor * self.mean, min(ends), max(ends), self.num_images)

    def __format__(self, spec: str) -> str:
        """`f"{estimate:.1f}"` applies the number format to all three: "23.8 [23.5, 24.1]"."""
        spec = spec or ".2f"
        if math.isnan(self.mean):
            return "n/a"
        if math.isnan(self.low) or math.isnan(self.high):
            return format(self.mean, spec)
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, ".2f")


def mean_interval(values: ArrayLike) -> Estimate:
    """The mean over images. The interval is NaN below 2 images and of zero width for constant values.

    Raises:
        UserError: for NaN or infinite values.
    """
    return _estimate(_mean, [_checked(values)])


def paired_difference(a: ArrayLike, b: ArrayLike) -> Estimate:
    """The mean of a - b, where both hold one value an image, of the same images in the same order.

    Raises:
        UserError: for different lengths, NaN or infinite values.
    """
    first, second = checked_pair(a, b)
    return mean_interval(first - second)


def ratio_of_means(numerator: ArrayLike, denominator: ArrayLike) -> Estimate:
    """mean(numerator) / mean(denominator) over the same images, resampled together. NaN where the latter is 0.

    Raises:
        UserError: for different lengths, NaN or infinite values.
    """

    def ratio(a: Values, b: Values, axis: int) -> Values:
        below = _mean(b, axis)
        quotient: Values = np.divide(_mean(a, axis), below, out=np.full_like(below, np.nan), where=below != 0)
        return quotient

    return _estimate(ratio, [*checked_pair(numerator, denominator)])


def spearman(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Spearman's rank correlation over images, ties at their average rank; NaN where either is constant.

    Raises:
        UserError: for different lengths, NaN or infinite values.
    """
    return _estimate(rank_correlation, [*checked_pair(x, y)])


def first_crossing(x: ArrayLike, values: ArrayLike, level: float) -> Estimate:
    """The first x at which the mean over images reaches `level`, interpolated linearly; the last x where it never does.

    Args:
        x: positions in the order in which they are passed, (num_positions,).
        values: one a position and image, (num_positions, num_images).

    Raises:
        UserError: for shapes that do not belong together, NaN or infinite values.
    """
    positions = _checked(x)
    samples = [_checked(row) for row in np.asarray(values, dtype=np.float64)]
    if len(samples) != positions.size or positions.size < 2:
        raise UserError(f"a crossing needs values at each of 2 or more positions, got {len(samples)}")

    def crossing(*rows: Values, axis: int) -> Values:
        means = np.stack([_mean(row, axis) for row in rows], axis=-1)
        reached = means >= level
        after = np.maximum(reached.argmax(-1), 1)
        low, high = (np.take_along_axis(means, i[..., None], -1)[..., 0] for i in (after - 1, after))
        rise = np.divide(level - low, high - low, out=np.zeros_like(low), where=high > low)
        at = positions[after - 1] + rise.clip(0, 1) * (positions[after] - positions[after - 1])
        return np.where(reached[..., 0], positions[0], np.where(reached.any(-1), at, positions[-1]))

    return _estimate(crossing, samples)


def rank_correlation(x: Values, y: Values, axis: int) -> Values:
    """Spearman's rank correlation along an axis, ties at their average rank; NaN where either is constant."""
    from scipy.stats import rankdata

    x_rank, y_rank = rankdata(x, axis=axis), rankdata(y, axis=axis)
    x_rank = x_rank - x_rank.mean(axis=axis, keepdims=True)
    y_rank = y_rank - y_rank.mean(axis=axis, keepdims=True)
    scale = np.sqrt((x_rank**2).sum(axis=axis) * (y_rank**2).sum(axis=axis))
    undefined = np.full_like(scale, np.nan)
    correlation: Values = np.divide((x_rank * y_rank).sum(axis=axis), scale, out=undefined, where=scale > 0)
    return correlation


def joint_interval(statistic: Callable[[NDArray[np.int64]], Values], num_images: int) -> Estimate:
    """A figure of images taken together, where one value an image does not do: what is resampled is whole images.

    Args:
        statistic: gives (...) figures of (..., n) image numbers, in which an image may stand more than once.
    """

    def figure(numbers: Values, **_: int) -> Values:
        return statistic(numbers.astype(np.int64))

    return _estimate(figure, [np.arange(num_images, dtype=np.float64)])


def _mean(values: Values, axis: int) -> Values:
    return np.asarray(values.mean(axis=axis))


def _checked(values: ArrayLike) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise UserError(f"statistics over images need one value an image, got an array of shape {array.shape}")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise UserError(f"{bad} of {array.size} values are NaN or infinite; statistics over images refuse them")
    return array


def checked_pair(a: ArrayLike, b: ArrayLike) -> tuple[Values, Values]:
    """Both as float64, one value an image.

    Raises:
        UserError: for different lengths, NaN or infinite values.
    """
    first, second = _checked(a), _checked(b)
    if first.size != second.size:
        raise UserError(f"paired statistics need the same images on both sides, got {first.size} and {second.size}")
    return first, second


def _estimate(statistic: Callable[..., Values], samples: Sequence[Values]) -> Estimate:
    """`statistic(*samples, axis)` with its interval; resamples draw images, the same ones for every sample."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    num_images = samples[0].size
    if num_images == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(statistic(*[sample[None] for sample in samples], axis=-1)[0])
    if num_images < 2 or math.isnan(mean):
        return Estimate(mean, math.nan, math.nan, num_images)
    if all(np.ptp(sample) == 0 for sample in samples):
        return Estimate(mean, mean, mean, num_images)
    with warnings.catch_warnings():
        # a degenerate sample (all resamples nearly alike) has no BCa interval; the percentile below stands in
        warnings.simplefilter("ignore", DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = bootstrap(
            samples,
            statistic,
            paired=len(samples) > 1,
            vectorized=True,
            n_resamples=NUM_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(0),
        )
    low, high = map(float, result.confidence_interval)
    if math.isnan(low) or math.isnan(high):
        # resamples in which the statistic is undefined (constant ranks) say nothing and are left out
        defined = result.bootstrap_distribution[np.isfinite(result.bootstrap_distribution)]
        if defined.size == 0:
            return Estimate(mean, math.nan, math.nan, num_images)
        tail = (1 - CONFIDENCE) / 2
        low, high = map(float, np.quantile(defined, [tail, 1 - tail]))
    return Estimate(mean, low, high, num_images)
