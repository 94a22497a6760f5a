"""How often true values exceed their bounds."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.metrics.statistics import CONFIDENCE, Estimate, checked_pair


def severity_bins(severity: ArrayLike, num_bins: int) -> NDArray[np.int64]:
    """The index of the bin of each severity, among `num_bins` equal bins on [0, 1], (n,); 1 belongs to the last."""
    return np.clip((np.asarray(severity) * num_bins).astype(np.int64), 0, num_bins - 1)


def violation_rate(s2: ArrayLike, bound: ArrayLike) -> Estimate:
    """The fraction of images whose s2 exceeds its bound, with the exact binomial interval (Clopper and Pearson 1934).

    NaN without images.

    Raises:
        UserError: for different lengths, NaN or infinite values.
    """
    from scipy.stats import binomtest

    values, bounds = checked_pair(s2, bound)
    if not values.size:
        return Estimate(math.nan, math.nan, math.nan, 0)
    found = binomtest(int((values > bounds).sum()), values.size)
    interval = found.proportion_ci(CONFIDENCE, method="exact")
    return Estimate(float(found.statistic), float(interval.low), float(interval.high), values.size)


def violation_rates(s2: ArrayLike, bound: ArrayLike, severity: ArrayLike, num_bins: int = 5) -> list[Estimate]:
    """`violation_rate` in each of `num_bins` equal bins of severity on [0, 1], from mild to severe."""
    values, bounds = checked_pair(s2, bound)
    _, levels = checked_pair(values, severity)
    place = severity_bins(levels, num_bins)
    return [violation_rate(values[place == i], bounds[place == i]) for i in range(num_bins)]
