"""Is the error equally strong in every channel, position and frequency?"""

import numpy as np
import torch
from numpy.typing import NDArray

from workbench.metrics.statistics import quotient

Array = NDArray[np.float64]

MAX_CELLS = 8
"""Maximum number of cells per side over which positions are averaged: latents up to 8 x 8 keep each position."""


def by_position(values: Array) -> Array:
    """(num, channel, height, width) averaged over channels and, in large latents, neighbours: (num, rows, columns)."""
    cells = (min(MAX_CELLS, values.shape[2]), min(MAX_CELLS, values.shape[3]))
    return np.asarray(torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(values.mean(1)), cells).numpy())


def relative_excess(variance: Array) -> Array:
    """v / mean(v) - 1 along the last axis: 0 everywhere if the error is equally strong everywhere."""
    return np.asarray(variance / variance.mean(axis=-1, keepdims=True) - 1)


def root_mean_square(excess: Array) -> Array:
    """Along the last axis; of a `relative_excess`, the coefficient of variation. NaN for vectors of no elements."""
    return np.asarray(np.sqrt(quotient((excess**2).sum(axis=-1), excess.shape[-1])))
