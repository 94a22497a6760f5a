"""A fixed grid of standardised errors z: counts on it represent the distribution function of any number of images.

Its edges are the Gaussian quantiles at k / 200, so that the PIT histogram, the calibration curve and the coverage of
intervals are exact, continued on both sides up to 100 by factors of 1.05, which follows heavy tails.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]

NUM_LEVELS = 200
_LARGEST = 100.0
_TAIL_RATIO = 1.05


def _edges() -> Array:
    inner = np.asarray(ndtri(np.arange(1, NUM_LEVELS) / NUM_LEVELS))
    outer = np.geomspace(inner[-1], _LARGEST, round(np.log(_LARGEST / inner[-1]) / np.log(_TAIL_RATIO)) + 1)[1:]
    return np.concatenate([-outer[::-1], inner, outer])


EDGES = _edges()
"""(k,) ascending values of z. Bin i of k + 1 holds EDGES[i - 1] < z <= EDGES[i]; the outer two are unbounded."""
_FIRST_LEVEL = (len(EDGES) - (NUM_LEVELS - 1)) // 2


def counts_on_grid(z: NDArray[np.floating]) -> NDArray[np.int32]:
    """The number of each image's standardised elements (num, d) in each bin, (num, k + 1)."""
    num, num_bins = len(z), len(EDGES) + 1
    bins = np.searchsorted(EDGES, z, side="left") + num_bins * np.arange(num)[:, None]
    return np.bincount(bins.ravel(), minlength=num * num_bins).reshape(num, num_bins).astype(np.int32)


def distribution(shares: Array) -> Array:
    """The empirical distribution function at EDGES, (..., k), from the shares of elements in each bin, (..., k + 1)."""
    return np.cumsum(shares, axis=-1)[..., :-1]


def at_levels(cdf: Array) -> Array:
    """The calibration curve (Kuleshov et al. 2018, arXiv 1807.00263, eq. 3): P(z <= Gaussian quantile at p).

    At p = 0, 1/200 ... 1, (..., 201): p itself if the prediction is calibrated.
    """
    inner = cdf[..., _FIRST_LEVEL : _FIRST_LEVEL + NUM_LEVELS - 1]
    ends = np.ones((*cdf.shape[:-1], 1))
    return np.concatenate([0 * ends, inner, ends], axis=-1)


def quantiles(cdf: Array, levels: NDArray[np.floating]) -> Array:
    """z at which the distribution function (..., k) reaches each level, (..., levels), interpolated linearly."""
    rows = cdf.reshape(-1, cdf.shape[-1])
    return np.stack([np.interp(levels, row, EDGES) for row in rows]).reshape(*cdf.shape[:-1], len(levels))
