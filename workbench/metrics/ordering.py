"""Whether a number tells levels of a degradation apart, where each image is seen at every level.

Arrays are (images, levels), levels from mild to severe. An image's values at different levels belong together, so what
is resampled for intervals is whole images.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.config import UserError
from workbench.metrics.statistics import Estimate, Values, joint_interval, mean_interval, rank_correlation

Index = NDArray[np.int64]


def spearman_across(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Spearman's rank correlation of x and y over all images and levels.

    Raises:
        UserError: unless both are (images, levels) of one shape and finite.
    """
    first, second = _tables(x, y)

    def figure(images: Index) -> Values:
        pooled = (*images.shape[:-1], -1)
        return rank_correlation(first[images].reshape(pooled), second[images].reshape(pooled), axis=-1)

    return joint_interval(figure, len(first))


def spearman_within(x: ArrayLike, y: ArrayLike) -> Estimate:
    """The mean over levels of Spearman's rank correlation of x and y over the images of one level.

    Raises:
        UserError: unless both are (images, levels) of one shape and finite.
    """
    first, second = _tables(x, y)

    def figure(images: Index) -> Values:
        by_level = rank_correlation(first[images], second[images], axis=-2)
        return np.asarray(by_level.mean(axis=-1))

    return joint_interval(figure, len(first))


def gain_over_trivial(
    prediction: ArrayLike, trivial: Mapping[str, ArrayLike], truth: ArrayLike, *, within: bool = False
) -> Estimate:
    """By how much more a prediction's rank correlation with the truth is than that of the best trivial predictor.

    A trivial predictor counts by the size of its correlation, since whoever used it would know its sign, and a constant
    one counts 0. Images are resampled together, and the best is chosen anew in each resample: the choice is then not
    taken for a finding, and what luck it has is the trivial predictors'.

    Args:
        prediction, truth: one value per image, or (images, levels).
        trivial: the same, by name.
        within: the mean over levels of the correlation over the images of one level, not over all together.

    Raises:
        UserError: without trivial predictors, for arrays of different shapes or values that are not finite.
    """
    if not trivial:
        raise UserError("there is no trivial predictor to compare with")
    tables = [np.asarray(array, dtype=np.float64) for array in (truth, prediction, *trivial.values())]
    true, *numbers = _tables(*(table[:, None] if table.ndim == 1 else table for table in tables))

    def rank(x: Values, images: Index) -> Values:
        if within:
            return np.asarray(rank_correlation(x[images], true[images], axis=-2).mean(axis=-1))
        pooled = (*images.shape[:-1], -1)
        return rank_correlation(x[images].reshape(pooled), true[images].reshape(pooled), axis=-1)

    def figure(images: Index) -> Values:
        own, *others = (rank(x, images) for x in numbers)
        return np.asarray(own - np.max([np.abs(np.nan_to_num(other)) for other in others], axis=0))

    return joint_interval(figure, len(true))


def ordering_accuracy(values: ArrayLike, apart: int | None = None) -> Estimate:
    """How often, of two *different* images at different levels, the one at the higher level has the larger value.

    The mean over all pairs of images and of levels; a tie counts one half, so 0.5 is chance.

    Args:
        values: (images, levels).
        apart: only pairs of levels that are so many places apart; None: all pairs.

    Raises:
        UserError: unless values are (images, levels), finite, and have such pairs of levels.
    """
    right = _in_order(_tables(values)[0], apart)
    own = right.diagonal()

    def figure(images: Index) -> Values:
        flat = images.reshape(-1, images.shape[-1])
        times = np.zeros((len(flat), len(right)))
        np.add.at(times, (np.arange(len(flat))[:, None], flat), 1)
        # an image that was drawn twice is still no pair of different images
        total = ((times @ right) * times).sum(1) - (times**2) @ own
        pairs = flat.shape[1] ** 2 - (times**2).sum(1)
        share = np.divide(total, pairs, out=np.full_like(total, np.nan), where=pairs > 0)
        return np.asarray(share.reshape(images.shape[:-1]))

    return joint_interval(figure, len(right))


def own_ordering_accuracy(values: ArrayLike, apart: int | None = None) -> Estimate:
    """The same of *one* image at two levels: what its own content adds to the value cancels."""
    return mean_interval(_in_order(_tables(values)[0], apart).diagonal())


def _in_order(values: Values, apart: int | None) -> Values:
    """(images, images): how often the second image has the larger value at the higher level, over pairs of levels."""
    num_levels = values.shape[1]
    pairs = [(a, b) for a in range(num_levels) for b in range(a + 1, num_levels) if apart in (None, b - a)]
    if not pairs:
        raise UserError(f"{num_levels} levels have no pairs to order" + (f" {apart} apart" if apart else ""))
    difference = np.stack([values[None, :, b] - values[:, None, a] for a, b in pairs])
    share: Values = np.heaviside(difference, 0.5).mean(0)
    return share


def _tables(*arrays: ArrayLike) -> list[Values]:
    tables = [np.asarray(array, dtype=np.float64) for array in arrays]
    shapes = {table.shape for table in tables}
    if len(shapes) > 1 or any(table.ndim != 2 for table in tables):
        raise UserError(f"expected (images, levels), all of one shape, got {', '.join(map(str, sorted(shapes)))}")
    if not all(np.isfinite(table).all() for table in tables):
        raise UserError("values at levels hold NaN or infinity; statistics over images refuse them")
    return tables
