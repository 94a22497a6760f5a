"""How well a number distinguishes levels of a degradation, if each image is seen at every level.

Arrays are (images, levels), levels from mild to severe. An image's values at different levels are dependent, so whole
images are resampled for intervals.
"""

import numpy as np
from numpy.typing import ArrayLike

from workbench.core.config import UserError
from workbench.metrics.ranks import checked_tables
from workbench.metrics.statistics import Estimate, Values, interval_of_counts, mean_interval, quotient


def ordering_accuracy(values: ArrayLike, apart: int | None = None) -> Estimate:
    """How often, of two *different* images at different levels, the one at the higher level has the larger value.

    The mean over all pairs of images and of levels; a tie counts one half, so 0.5 is chance.

    Args:
        values: (images, levels).
        apart: only pairs of levels that are this many places apart; None: all pairs.

    Raises:
        UserError: unless values are (images, levels), finite, and have such pairs of levels.
    """
    right = _in_order(checked_tables(values)[0], apart)
    own = right.diagonal()

    def figure(counts: Values) -> Values:
        # an image that was drawn twice is not a pair of different images
        total = ((counts @ right) * counts).sum(1) - counts**2 @ own
        return quotient(total, counts.sum(1) ** 2 - (counts**2).sum(1))

    return interval_of_counts(figure, len(right))


def own_ordering_accuracy(values: ArrayLike, apart: int | None = None) -> Estimate:
    """The same for *one* image at two levels: the contribution of its content cancels."""
    return mean_interval(_in_order(checked_tables(values)[0], apart).diagonal())


def _in_order(values: Values, apart: int | None) -> Values:
    """(images, images): how often the second image has the larger value at the higher level, over pairs of levels."""
    num_levels = values.shape[1]
    pairs = [(a, b) for a in range(num_levels) for b in range(a + 1, num_levels) if apart in (None, b - a)]
    if not pairs:
        raise UserError(f"{num_levels} levels have no pairs to order" + (f" {apart} apart" if apart else ""))
    difference = np.stack([values[None, :, b] - values[:, None, a] for a, b in pairs])
    share: Values = np.heaviside(difference, 0.5).mean(0)
    return share
