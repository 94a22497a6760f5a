"""Means and paired differences over images, with 95 % bootstrap intervals (BCa, Efron 1987)."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.core.config import UserError

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000

MAX_DRAWN = 2_000_000
"""Image numbers that are drawn at once for figures of means: bounds the memory, and changes no result."""

Values = NDArray[np.float64]
Means = dict[str, Values]


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

    def within(self, low: float, high: float) -> bool | None:
        """Whether the figure lies in [low, high]; None where its interval reaches out of it, or there is none."""
        if low <= self.low and self.high <= high:
            return True
        return False if self.low > high or self.high < low else None

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


def mean_intervals(columns: ArrayLike) -> list[Estimate]:
    """`mean_interval` of each column of (num_images, num_columns), at a fiftieth of the time.

    To rounding; of a few images, whose resamples can equal the sample, rounding decides on which side those count.

    All columns share the resamples that `mean_interval` draws for one, so that their means are one product of matrices.

    Raises:
        UserError: for NaN or infinite values.
    """
    values = np.asarray(columns, dtype=np.float64)
    num_images, num_columns = values.shape
    if num_images == 0 or num_columns == 0:
        return [Estimate(math.nan, math.nan, math.nan, 0)] * num_columns
    found = figures_of_means(lambda means: means, {"columns": values}).estimates["columns"]
    # a constant's resampled means differ by rounding alone
    constant = (np.ptp(values, axis=0) == 0) & (num_images > 1)
    return [replace(e, low=e.mean, high=e.mean) if same else e for e, same in zip(found, constant, strict=True)]


def paired_difference(a: ArrayLike, b: ArrayLike) -> Estimate:
    """The mean of a - b, where both hold one value per image, of the same images in the same order.

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
        return quotient(_mean(a, axis), _mean(b, axis))

    return _estimate(ratio, [*checked_pair(numerator, denominator)])


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


def quotient(numerator: ArrayLike, denominator: ArrayLike) -> Values:
    """numerator / denominator, NaN where the latter is 0."""
    above, below = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0))


def joint_interval(statistic: Callable[[NDArray[np.int64]], Values], num_images: int) -> Estimate:
    """A figure of images taken together, where one value per image does not do: what is resampled is whole images.

    Args:
        statistic: gives (...) figures of (..., n) image numbers, in which an image may stand more than once.
    """

    def figure(numbers: Values, **_: int) -> Values:
        return statistic(numbers.astype(np.int64))

    return _estimate(figure, [np.arange(num_images, dtype=np.float64)])


def joint_intervals(statistic: Callable[[NDArray[np.int64]], Values], num_images: int) -> list[Estimate]:
    """`joint_interval` of several figures, all from the same resamples.

    Args:
        statistic: gives (k, ...) figures of (..., n) image numbers.
    """
    means = statistic(np.arange(num_images))
    if num_images < 2:
        return [Estimate(float(mean), math.nan, math.nan, num_images) for mean in means]

    def figures(numbers: Values, **_: int) -> Values:
        return statistic(numbers.astype(np.int64))

    result = _bootstrap(figures, [np.arange(num_images, dtype=np.float64)])
    low, high = result.confidence_interval
    ends = zip(means, low, high, result.bootstrap_distribution, strict=True)
    return [_interval(*found, num_images) for found in ends]


@dataclass(frozen=True)
class Resampled:
    """Figures of means over images.

    Attributes:
        estimates: by name, one for each of a figure's k numbers.
        draws: by name, (resamples, k): the figure in each resample of the images. Empty below 2 images.
    """

    estimates: dict[str, tuple[Estimate, ...]]
    draws: Means


def figures_of_means(figures: Callable[[Means], Means], rows: Mapping[str, ArrayLike]) -> Resampled:
    """Figures that depend on the images through means over images alone, all from the same resamples of whole images.

    The images' elements may depend on each other as they like: what is taken for independent is images. All resamples'
    means are one product of matrices, so that thousands of numbers an image stay cheap.

    Args:
        figures: gives figures (batch, k) or (batch,), by name, of means (batch, ...), by name.
        rows: by name, (n, ...): what is averaged over the n images.

    Raises:
        UserError: for rows of different numbers of images, NaN or infinite values.
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in rows.items()}
    num_images = _common_length(arrays)
    matrix = np.concatenate([values.reshape(num_images, -1) for values in arrays.values()], axis=1)
    ends = np.cumsum([values[:1].size for values in arrays.values()])[:-1]

    def of_means(means: Values) -> Means:
        parts = np.split(means, ends, axis=1)
        named = {
            name: part.reshape(len(means), *array.shape[1:])
            for (name, array), part in zip(arrays.items(), parts, strict=True)
        }
        return {name: figure.reshape(len(means), -1) for name, figure in figures(named).items()}

    def stacked(numbers: Values, **_: int) -> Values:
        """(figures, batch) of (batch, m) image numbers, or (figures,) of (m,)."""
        means = multiplicities(np.atleast_2d(numbers).astype(np.int64), num_images) @ matrix / numbers.shape[-1]
        result = np.concatenate(list(of_means(means).values()), axis=1).T
        return result if numbers.ndim > 1 else result[:, 0]

    found = of_means(matrix.mean(0, keepdims=True))
    sizes = [figure.shape[1] for figure in found.values()]
    means = np.concatenate(list(found.values()), axis=1)[0]
    if num_images < 2:
        alone = [Estimate(float(mean), math.nan, math.nan, num_images) for mean in means]
        empty = {name: np.zeros((0, size)) for name, size in zip(found, sizes, strict=True)}
        return Resampled(_split(found, alone), empty)
    result = _bootstrap(stacked, [np.arange(num_images, dtype=np.float64)], max(MAX_DRAWN // num_images, 1))
    low, high = result.confidence_interval
    draws = result.bootstrap_distribution
    estimates = [_interval(*numbers, num_images) for numbers in zip(means, low, high, draws, strict=True)]
    return Resampled(
        _split(found, estimates),
        dict(zip(found, np.split(draws.T, np.cumsum(sizes)[:-1], axis=1), strict=True)),
    )


def _split(found: Means, estimates: Sequence[Estimate]) -> dict[str, tuple[Estimate, ...]]:
    remaining = iter(estimates)
    return {name: tuple(next(remaining) for _ in range(figure.shape[1])) for name, figure in found.items()}


def _common_length(arrays: Mapping[str, Values]) -> int:
    lengths = {len(values) for values in arrays.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise UserError(f"figures need the same images, at least one, in all rows; got {sorted(lengths)} images")
    for name, values in arrays.items():
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise UserError(f"{bad} of {values.size} values of {name} are NaN or infinite; statistics refuse them")
    return lengths.pop()


def multiplicities(numbers: NDArray[np.int64], num_images: int) -> Values:
    """How often each image stands in each row of image numbers, (rows, images)."""
    rows = len(numbers)
    offset = num_images * np.arange(rows)[:, None]
    counts = np.bincount((numbers + offset).ravel(), minlength=rows * num_images)
    return counts.reshape(rows, num_images).astype(np.float64)


def _mean(values: Values, axis: int) -> Values:
    return np.asarray(values.mean(axis=axis))


def _checked(values: ArrayLike) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise UserError(f"statistics over images need one value per image, got an array of shape {array.shape}")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise UserError(f"{bad} of {array.size} values are NaN or infinite; statistics over images refuse them")
    return array


def checked_pair(a: ArrayLike, b: ArrayLike) -> tuple[Values, Values]:
    """Both as float64, one value per image.

    Raises:
        UserError: for different lengths, NaN or infinite values.
    """
    first, second = _checked(a), _checked(b)
    if first.size != second.size:
        raise UserError(f"paired statistics need the same images on both sides, got {first.size} and {second.size}")
    return first, second


def _estimate(statistic: Callable[..., Values], samples: Sequence[Values]) -> Estimate:
    """`statistic(*samples, axis)` with its interval; resamples draw images, the same ones for every sample."""
    num_images = samples[0].size
    if num_images == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(statistic(*[sample[None] for sample in samples], axis=-1)[0])
    if num_images < 2 or math.isnan(mean):
        return Estimate(mean, math.nan, math.nan, num_images)
    if all(np.ptp(sample) == 0 for sample in samples):
        return Estimate(mean, mean, mean, num_images)
    result = _bootstrap(statistic, samples)
    low, high = result.confidence_interval
    return _interval(mean, low, high, result.bootstrap_distribution, num_images)


def _bootstrap(statistic: Callable[..., Values], samples: Sequence[Values], batch: int | None = None) -> Any:
    """scipy's result, for one seed; `batch` resamples are drawn at once (None: all)."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():
        # a degenerate sample (all resamples nearly alike) has no BCa interval; `_interval` gives another
        warnings.simplefilter("ignore", DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        return bootstrap(
            samples,
            statistic,
            paired=len(samples) > 1,
            vectorized=True,
            n_resamples=NUM_RESAMPLES,
            batch=batch,
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(0),
        )


def _interval(mean: float, low: float, high: float, draws: Values, num_images: int) -> Estimate:
    """BCa's interval or, where there is none, the percentiles of those draws in which the figure is defined."""
    if math.isnan(low) or math.isnan(high):
        # resamples in which the statistic is undefined (constant ranks) say nothing and are left out
        defined = draws[np.isfinite(draws)]
        if defined.size == 0 or math.isnan(mean):
            return Estimate(float(mean), math.nan, math.nan, num_images)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(float(mean), float(low), float(high), num_images)
