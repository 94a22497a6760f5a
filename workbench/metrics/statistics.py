"""Means and paired differences over images, with 95 % bootstrap intervals (BCa, Efron 1987)."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.core.config import UserError

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000

MAX_DRAWN = 4_000_000
"""Image numbers that are drawn at once: bounds the memory, and changes no result."""

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


_NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def mean_interval(values: ArrayLike) -> Estimate:
    """The mean over images. The interval is NaN below 2 images and of zero width for constant values.

    Raises:
        UserError: for NaN or infinite values.
    """
    return mean_intervals(_checked(values)[:, None])[0]


def mean_intervals(columns: ArrayLike) -> list[Estimate]:
    """`mean_interval` of each column of (num_images, num_columns).

    Raises:
        UserError: for NaN or infinite values.
    """
    values = np.asarray(columns, dtype=np.float64)
    if values.size == 0:
        return [_NOTHING] * values.shape[1]
    return list(figures_of_means(lambda means: means, {"columns": values}).estimates["columns"])


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
    both = np.stack(checked_pair(numerator, denominator), axis=1)
    return _figure_of_means(lambda means: quotient(means[:, 0], means[:, 1]), both)


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

    def crossing(means: Values) -> Values:
        reached = means >= level
        after = np.maximum(reached.argmax(-1), 1)
        low, high = (np.take_along_axis(means, i[..., None], -1)[..., 0] for i in (after - 1, after))
        rise = np.divide(level - low, high - low, out=np.zeros_like(low), where=high > low)
        at = positions[after - 1] + rise.clip(0, 1) * (positions[after] - positions[after - 1])
        return np.where(reached[..., 0], positions[0], np.where(reached.any(-1), at, positions[-1]))

    return _figure_of_means(crossing, np.stack(samples, axis=1))


def quotient(numerator: ArrayLike, denominator: ArrayLike) -> Values:
    """numerator / denominator, NaN where the latter is 0."""
    above, below = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0))


def interval_of_counts(statistic: Callable[[Values], Values], num_images: int) -> Estimate:
    """A figure of images taken together, where one value per image does not do: what is resampled is whole images.

    Args:
        statistic: gives (batch,) figures of (batch, num_images) counts: how often each image stands in a sample.
    """
    return intervals_of_counts(lambda counts: statistic(counts)[None], num_images)[0] if num_images else _NOTHING


def intervals_of_counts(statistic: Callable[[Values], Values], num_images: int) -> list[Estimate]:
    """`interval_of_counts` of several figures, all from the same resamples.

    Args:
        statistic: gives (k, batch) figures of (batch, num_images) counts.
    """
    return _estimates(*_sampled(lambda counts: statistic(counts).T, num_images), num_images)


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

    def of_counts(counts: Values) -> Values:
        return np.concatenate(list(of_means(counts @ matrix / counts.sum(1, keepdims=True)).values()), axis=1)

    exact = of_means(matrix.mean(0, keepdims=True))
    sampled, draws, left_out = _sampled(of_counts, num_images)
    estimates = iter(_estimates(sampled, draws, left_out, num_images))
    splits = np.cumsum([figure.shape[1] for figure in exact.values()])[:-1]
    return Resampled(
        {
            # the mean of all images itself, where that of counts is rounded otherwise
            name: tuple(replace(next(estimates), mean=float(mean)) for mean in figure[0])
            for name, figure in exact.items()
        },
        dict(zip(exact, np.split(draws, splits, axis=1), strict=True)),
    )


def _figure_of_means(figure: Callable[[Values], Values], values: Values) -> Estimate:
    """One figure (batch,) of the means (batch, k) of (num_images, k) values."""
    if not len(values):
        return _NOTHING
    return figures_of_means(lambda means: {"figure": figure(means["values"])}, {"values": values}).estimates["figure"][
        0
    ]


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


def _sampled(statistic: Callable[[Values], Values], num_images: int) -> tuple[Values, Values, Values]:
    """Figures of all images (k,), of each resample (resamples, k), and without each image (num_images, k).

    Args:
        statistic: gives (batch, k) figures of (batch, num_images) counts.
    """
    figures = statistic(np.ones((1, num_images)))
    if num_images < 2:
        return figures[0], figures[:0], figures[:0]
    rows = max(MAX_DRAWN // num_images, 1)
    without = [1 - np.eye(min(rows, num_images - k), num_images, k) for k in range(0, num_images, rows)]
    draws, left_out = (np.concatenate([statistic(counts) for counts in some])
                       for some in (_resamples(num_images, rows), without))  # fmt: skip
    return figures[0], draws, left_out


def _resamples(num_images: int, rows: int) -> Iterator[Values]:
    """The counts of all resamples, (rows, num_images) at once: the same ones for every figure of so many images."""
    if rows >= NUM_RESAMPLES:
        yield _all_resamples(num_images, NUM_RESAMPLES)
        return
    rng = np.random.default_rng(0)
    for first in range(0, NUM_RESAMPLES, rows):
        numbers = rng.integers(num_images, size=(min(rows, NUM_RESAMPLES - first), num_images))
        yield multiplicities(numbers, num_images)


@functools.lru_cache(maxsize=8)
def _all_resamples(num_images: int, num_resamples: int) -> Values:
    numbers = np.random.default_rng(0).integers(num_images, size=(num_resamples, num_images))
    return multiplicities(numbers, num_images)


def _estimates(figures: Values, draws: Values, left_out: Values, num_images: int) -> list[Estimate]:
    """Each figure with its BCa interval (Efron 1987), or the percentiles of those draws in which it is defined.

    Args:
        figures: (k,).
        draws: (resamples, k).
        left_out: (num_images, k), the figure without each image.
    """
    from scipy.special import ndtr, ndtri

    if num_images < 2:
        return [Estimate(float(figure), math.nan, math.nan, num_images) for figure in figures]
    tails = np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    ordered = np.sort(draws, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        bias = ndtri(((draws < figures).mean(0) + (draws <= figures).mean(0)) / 2)
        influence = left_out.mean(0) - left_out
        acceleration = (influence**3).sum(0) / (6 * (influence**2).sum(0) ** 1.5)
        shifted = bias + ndtri(tails)[:, None]
        at = (len(draws) - 1) * ndtr(bias + shifted / (1 - acceleration * shifted))
        below = np.nan_to_num(at).astype(int)
        first, second = (np.take_along_axis(ordered, np.minimum(k, len(draws) - 1), 0) for k in (below, below + 1))
        ends = first + (at - below) * (second - first)
        # a constant's draws differ by rounding alone
        constant = np.ptp(draws, axis=0) <= 1e-12 * np.abs(figures)
    ends = np.where(constant, figures, ends)
    for k in np.flatnonzero(~np.isfinite(ends).all(0) | np.isnan(draws).any(0)):
        # draws in which a figure is undefined (constant ranks) say nothing and are left out
        defined = draws[np.isfinite(draws[:, k]), k]
        ends[:, k] = np.quantile(defined, tails) if defined.size and np.isfinite(figures[k]) else math.nan
    return [
        Estimate(float(figure), float(low), float(high), num_images)
        for figure, low, high in zip(figures, *ends, strict=True)
    ]
