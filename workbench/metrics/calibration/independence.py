"""How much do elements of one error depend on each other, and what is their effective number?"""

import math

import numpy as np
from numpy.typing import NDArray

from workbench.metrics.statistics import Estimate, quotient

Array = NDArray[np.float64]

MAX_LAG = 8
_CHUNK = 256
_NORMAL = 1.959963984540054
"""The Gaussian quantile of a two-sided 95 % interval."""


def autocovariance(z: Array) -> Array:
    """Mean products of elements of one channel k positions apart along either axis, k = 0, 1 ...: (num, lags).

    Averaged over channels, pairs and the two axes, without removing the mean. `lags` is the shorter side, at most
    MAX_LAG + 1.

    Args:
        z: (num, channel, height, width).
    """
    height, width = z.shape[2:]
    lags = range(min(height, width, MAX_LAG + 1))
    down = [(z[:, :, k:] * z[:, :, : height - k]).mean((1, 2, 3)) for k in lags]
    across = [(z[..., k:] * z[..., : width - k]).mean((1, 2, 3)) for k in lags]
    return (np.stack(down, axis=1) + np.stack(across, axis=1)) / 2


def channel_covariance(z: Array) -> Array:
    """Mean products of channels at one position, (num, channel, channel). The mean is not removed."""
    return np.asarray(np.einsum("nchw,nkhw->nck", z, z, optimize=True) / z[0, 0].size)


def autocorrelation(covariance: Array) -> Array:
    """Centred `autocovariance` (..., lags) in units of that at lag 0."""
    return quotient(covariance, covariance[..., :1])


def channel_correlations(covariance: Array) -> Array:
    """The correlation of each two channels, (..., pairs), of a centred (..., channel, channel) covariance."""
    variance = np.einsum("...cc->...c", covariance)
    first, second = np.triu_indices(covariance.shape[-1], 1)
    return quotient(covariance[..., first, second], np.sqrt(variance[..., first] * variance[..., second]))


def effective_elements(z: NDArray[np.floating]) -> Estimate:
    """(tr C)^2 / tr C^2 of the covariance C of z (num, d), with a 95 % interval from leaving out each image in turn.

    In eigenvalues l of C, (sum l)^2 / sum l^2: Bretherton et al. (1999), "The effective number of spatial degrees of
    freedom of a time-varying field", eq. 5. It is what the covariance alone leaves of d: were errors Gaussian, and of
    one C for all images, Var(s2) = 2 var^2 / d_eff. Heavy tails, and errors in other places in each image, make s2 more
    uncertain than that and are not counted. No model of C is used: correlations at any distance, within and between
    channels, and unequal variances all count. (A mean has another effective number, that `image_mean_power` tells.)

    C of a few hundred images is noise in most directions, which would count as correlation. tr C^2 = E[(z_i . z_j)^2]
    for two different images, so pairs of images give it without that noise (Chen, Zhang & Zhong 2010, "Tests for
    high-dimensional covariance matrices", eq. 2.1); the square of their mean product removes what the common mean,
    itself estimated, leaves. The interval is the jackknife's, of the logarithm (Arvesen 1969, "Jackknifing
    U-statistics"). NaN for fewer than 3 images, or where noise leaves no positive tr C^2.
    """
    num = len(z)
    centred = np.asarray(z, dtype=np.float64)
    centred = centred - centred.mean(0)
    power = (centred**2).sum(1)
    chunks = [((centred[i : i + _CHUNK] @ centred.T) ** 2).sum(1) for i in range(0, num, _CHUNK)]
    squares = np.concatenate(chunks) - power**2

    def logarithm(n: int, power: Array, squares: Array) -> Array:
        trace = power / (n - 1)
        of_square = squares / (n * (n - 1)) - (trace / n) ** 2
        ratio = quotient(trace**2, of_square)
        return np.log(ratio, out=np.full(ratio.shape, np.nan), where=ratio > 0)

    if num < 3:
        return Estimate(math.nan, math.nan, math.nan, num)
    whole = float(logarithm(num, power.sum(keepdims=True), squares.sum(keepdims=True))[0])
    # an image's products are in the total twice: in its own row and in the others'
    without = logarithm(num - 1, power.sum() - power, squares.sum() - 2 * squares)
    half = _NORMAL * math.sqrt((num - 1) * float(without.var()))
    return Estimate(math.exp(whole), math.exp(whole - half), math.exp(whole + half), num)
