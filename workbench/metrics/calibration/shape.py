"""Are standardised errors Gaussian? Moments, and distances between distribution functions.

A distance here is that of a test without its factor for the number of elements: elements of one image are correlated,
so that factor would be wrong. Resamples of whole images show whether a distance is more than chance (see `summary`).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from workbench.metrics.calibration.grid import EDGES
from workbench.metrics.statistics import quotient

Array = NDArray[np.float64]


def central_moments(raw: Array) -> tuple[Array, Array, Array, Array]:
    """(mean, variance, third, fourth central moment) of raw moments m1 ... m4, (..., 4)."""
    m1, m2, m3, m4 = (raw[..., power] for power in range(4))
    return m1, m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3, m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4


def skewness(raw: Array) -> Array:
    """The third central moment in units of the standard deviation, of raw moments (..., 4): 0 for a Gaussian."""
    _, variance, third, _ = central_moments(raw)
    return quotient(third, variance**1.5)


def kurtosis(raw: Array) -> Array:
    """The fourth central moment in units of the variance's square, of raw moments (..., 4).

    Not the excess: 3 for a Gaussian, 6 for a Laplace, 3 + 6 / (df - 4) for a Student t.
    """
    _, variance, _, fourth = central_moments(raw)
    return quotient(fourth, variance**2)


def standard_edges(mean: Array, variance: Array) -> Array:
    """The grid's edges as seen by N(mean, variance), (..., k)."""
    return (EDGES - np.asarray(mean)[..., None]) / np.sqrt(variance)[..., None]


def excess_over_gaussian(cdf: Array, edges: Array) -> Array:
    """D = F - Phi at the edges, (..., k), which the three distances measure."""
    return cdf - ndtr(edges)


def kolmogorov_smirnov(excess: Array) -> Array:
    """sup |F - Phi| over the grid, (...)."""
    return np.asarray(np.abs(excess).max(axis=-1))


def cramer_von_mises(excess: Array, edges: Array) -> Array:
    """The integral of (F - Phi)^2 dPhi, (...): the statistic W^2 of n independent elements, over n."""
    return _integral(excess**2, ndtr(edges))


def anderson_darling(excess: Array, edges: Array) -> Array:
    """The integral of (F - Phi)^2 / (Phi (1 - Phi)) dPhi, (...): A^2 of n independent elements, over n.

    With dPhi / (Phi (1 - Phi)) = d logit(Phi), and the logit from logarithms: exact far out in the tails.
    """
    return _integral(excess**2, log_ndtr(edges) - log_ndtr(-edges))


def _integral(values: Array, position: Array) -> Array:
    return np.asarray(np.trapezoid(values, position, axis=-1))
