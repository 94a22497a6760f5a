"""How much do elements of one error depend on each other, and how many independent ones are they worth?"""

import numpy as np
from numpy.typing import NDArray

from workbench.metrics.statistics import quotient

Array = NDArray[np.float64]

MAX_LAG = 8


def autocovariance(z: Array) -> Array:
    """Mean products of elements of one channel at a distance, summed over channels: (num, lags, 2 lags - 1).

    Entry [dy, dx + lags - 1] is over all pairs of positions that are (dy, dx) apart, -lags < dx < lags; the other half
    is the same by symmetry. `lags` is the shorter side, at most MAX_LAG + 1. The mean is not removed.

    Args:
        z: (num, channel, height, width).
    """
    num, _, height, width = z.shape
    lags = min(height, width, MAX_LAG + 1)
    result = np.empty((num, lags, 2 * lags - 1))
    for dy in range(lags):
        for dx in range(-lags + 1, lags):
            a = z[:, :, dy:, max(dx, 0) : width + min(dx, 0)]
            b = z[:, :, : height - dy, max(-dx, 0) : width - max(dx, 0)]
            result[:, dy, dx + lags - 1] = (a * b).mean((2, 3)).sum(1)
    return result


def channel_covariance(z: Array) -> Array:
    """Mean products of channels at one position, (num, channel, channel). The mean is not removed."""
    return np.asarray(np.einsum("nchw,nkhw->nck", z, z, optimize=True) / z[0, 0].size)


def autocorrelation(covariance: Array) -> Array:
    """Centred `autocovariance` (..., lags, 2 lags - 1) in units of that at lag 0."""
    zero = covariance.shape[-1] // 2
    return quotient(covariance, covariance[..., :1, zero : zero + 1])


def neighbour_correlation(correlation: Array) -> Array:
    """The mean autocorrelation of horizontal and vertical neighbours, (...); NaN where a latent has none."""
    lags = correlation.shape[-2]
    if lags < 2:
        return np.full(correlation.shape[:-2], np.nan)
    return np.asarray((correlation[..., 0, lags] + correlation[..., 1, lags - 1]) / 2)


def channel_correlations(covariance: Array) -> Array:
    """The correlation of each two channels, (..., pairs), of a centred (..., channel, channel) covariance."""
    variance = np.einsum("...cc->...c", covariance)
    first, second = np.triu_indices(covariance.shape[-1], 1)
    return quotient(covariance[..., first, second], np.sqrt(variance[..., first] * variance[..., second]))


def effective_channels(covariance: Array) -> Array:
    """(tr C)^2 / tr C^2 of a centred (..., channel, channel) covariance: how many equal, uncorrelated ones it is."""
    return quotient(np.einsum("...cc->...", covariance) ** 2, (covariance**2).sum((-2, -1)))


def effective_positions(correlation: Array, height: int, width: int) -> Array:
    """P^2 / sum over pairs of positions of rho^2, P = height * width, from autocorrelations (..., lags, 2 lags - 1).

    (tr C)^2 / tr C^2 = (sum of eigenvalues)^2 / (sum of squared ones): Bretherton et al. (1999), "The effective number
    of spatial degrees of freedom of a time-varying field", eq. 5. It is the number that decides how well s2, a second
    moment, is known from one image: for Gaussian errors Var(s2) = 2 var^2 / d_eff. (The mean has another, of rho and
    not of its square; the spread of the images' means tells it without a model.)

    The error is taken for stationary over positions, and together with `effective_channels`, d_eff = channels times
    positions, for separable. Pairs further apart than the lags count as uncorrelated.
    """
    lags = correlation.shape[-2]
    dy, dx = np.arange(lags)[:, None], np.abs(np.arange(-lags + 1, lags))[None]
    # [0, dx] holds both directions itself; a row below stands for that above too
    pairs = (height - dy) * (width - dx) * np.where(dy == 0, 1, 2)
    return quotient((height * width) ** 2, (pairs * correlation**2).sum((-2, -1)))
