"""Spearman's rank correlation over images, and in any resample of them without sorting again.

A resample is given by its counts, how often each image was drawn. A value's rank in it is the number of drawn values up
to its own, so cumulative counts give the ranks of all resamples at once, with ties at their average rank.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from workbench.core.config import UserError
from workbench.metrics.statistics import (
    Estimate,
    Values,
    checked_pair,
    interval_of_counts,
    intervals_of_counts,
    quotient,
)


def spearman(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Spearman's rank correlation over images, with ties at their average rank; NaN if either is constant.

    Raises:
        UserError: for different lengths, NaN or infinite values.
    """
    first, second = checked_pair(x, y)
    return interval_of_counts(lambda counts: rank_correlations([first], second, counts)[0], first.size)


def spearman_across(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Spearman's rank correlation of x and y over all images and levels.

    Raises:
        UserError: unless both are (images, levels) of one shape and finite.
    """
    first, second = checked_tables(x, y)
    return interval_of_counts(lambda counts: rank_correlations([first], second, counts)[0], len(first))


def spearman_within(x: ArrayLike, y: ArrayLike) -> Estimate:
    """The mean over levels of Spearman's rank correlation of x and y over the images at one level.

    Raises:
        UserError: unless both are (images, levels) of one shape and finite.
    """
    first, second = checked_tables(x, y)
    return interval_of_counts(lambda counts: _within_levels([first], second, counts)[0], len(first))


class BesideTrivial(NamedTuple):
    """Rank correlations with the truth: a prediction's own, those of trivial predictors by name, and the gain."""

    own: Estimate
    gain: Estimate
    trivial: dict[str, Estimate]


def beside_trivial(
    prediction: ArrayLike, trivial: Mapping[str, ArrayLike], truth: ArrayLike, *, within: bool = False
) -> BesideTrivial:
    """Spearman's correlations of a prediction and of trivial predictors with the truth, from the same resamples.

    The gain is the difference to the best trivial predictor. A trivial predictor counts by the absolute value of its
    correlation, because its sign would be known in practice, and a constant one counts 0. The best one is chosen in
    each resample, so that the choice is part of the uncertainty, and its luck counts for the trivial predictors.

    Args:
        prediction, truth: one value per image, or (images, levels).
        trivial: the same, by name.
        within: the mean over levels of the correlation over the images at one level, instead of over all together.

    Raises:
        UserError: without trivial predictors, for arrays of different shapes or values that are not finite.
    """
    if not trivial:
        raise UserError("there is no trivial predictor to compare with")
    tables = [np.asarray(array, dtype=np.float64) for array in (truth, prediction, *trivial.values())]
    true, *numbers = checked_tables(*(table[:, None] if table.ndim == 1 else table for table in tables))
    correlations = _within_levels if within else rank_correlations

    def figures(counts: Values) -> Values:
        own, *others = correlations(numbers, true, counts)
        gain = own - np.max([np.abs(np.nan_to_num(other)) for other in others], axis=0)
        return np.stack([own, gain, *others])

    own, gain, *others = intervals_of_counts(figures, len(true))
    return BesideTrivial(own, gain, dict(zip(trivial, others, strict=True)))


def gain_over_trivial(
    prediction: ArrayLike, trivial: Mapping[str, ArrayLike], truth: ArrayLike, *, within: bool = False
) -> Estimate:
    """Only the gain of `beside_trivial`."""
    return beside_trivial(prediction, trivial, truth, within=within).gain


def rank_correlations(columns: Sequence[Values], truth: Values, counts: Values) -> list[Values]:
    """Spearman's correlation of each column with the truth in resamples; NaN if either is constant.

    Args:
        columns, truth: one value per image, or (images, levels), with all levels of an image drawn together.
        counts: (batch, images).

    Returns:
        (batch,) for each column.
    """
    each = counts if truth.ndim == 1 else np.repeat(counts, truth.shape[1], axis=1)
    true = _centred_ranks(truth.ravel(), each)
    spread = np.einsum("bi,bi->b", each, true**2)
    found = []
    for column in columns:
        ranks = _centred_ranks(column.ravel(), each)
        weighted = each * ranks
        scale = np.sqrt(np.einsum("bi,bi->b", weighted, ranks) * spread)
        found.append(quotient(np.einsum("bi,bi->b", weighted, true), scale))
    return found


def _within_levels(columns: Sequence[Values], truth: Values, counts: Values) -> list[Values]:
    """The mean over levels of the correlations over the images at one level."""
    levels = range(truth.shape[1])
    by_level = [rank_correlations([column[:, k] for column in columns], truth[:, k], counts) for k in levels]
    return [np.asarray(np.mean(of_column, axis=0)) for of_column in zip(*by_level, strict=True)]


def _centred_ranks(values: Values, counts: Values) -> Values:
    """Average ranks in each resample minus their mean, (batch, n), of (n,) values that are drawn `counts` times."""
    distinct, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    first = np.searchsorted(place[order], np.arange(distinct.size))
    drawn = np.take(counts, order, axis=1)  # several times as fast as counts[:, order]
    if distinct.size < values.size:
        drawn = np.add.reduceat(drawn, first, axis=1)
    ranks = np.cumsum(drawn, axis=1)
    ranks -= (drawn - 1) / 2
    ranks -= (counts.sum(axis=1, keepdims=True) + 1) / 2
    return np.take(ranks, place, axis=1)


def checked_tables(*arrays: ArrayLike) -> list[Values]:
    """Arrays (images, levels) as float64.

    Raises:
        UserError: for other shapes, NaN or infinite values.
    """
    tables = [np.asarray(array, dtype=np.float64) for array in arrays]
    shapes = {table.shape for table in tables}
    if len(shapes) > 1 or any(table.ndim != 2 for table in tables):
        raise UserError(f"expected (images, levels), all of one shape, got {', '.join(map(str, sorted(shapes)))}")
    if not all(np.isfinite(table).all() for table in tables):
        raise UserError("values at levels hold NaN or infinity; statistics over images refuse them")
    return tables
