"""Does the predicted variance match the size of the error? Scores of N(0, var_hat) as a prediction of the latent error.

Errors are elements of e = z_hat - z0 in latent units; var_hat is one number per image.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from workbench.core.config import UserError
from workbench.metrics.statistics import quotient

Array = NDArray[np.float64]


def gaussian_nll(square: Array, variance: Array) -> Array:
    """-log N(error; 0, variance) = 1/2 (error^2 / variance + log(2 pi variance)), in nats per element.

    Args:
        square: error^2, or its mean over elements of the same variance.
    """
    return np.asarray(0.5 * (square / variance + np.log(2 * math.pi * variance)))


def gaussian_crps(error: Array, variance: Array) -> Array:
    """The continuous ranked probability score of N(0, variance), in latent units; lower is better.

    Gneiting & Raftery (2007), eq. 21: sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), z = error / sigma.
    """
    sigma = np.sqrt(variance)
    z = error / sigma
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.asarray(sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi)))


def sharpness(mean_variance: Array) -> Array:
    """The root of the mean predicted variance, in latent units."""
    return np.asarray(np.sqrt(mean_variance))


def equal_mass_bins(var_hat: Array, num_bins: int) -> NDArray[np.int64]:
    """The index of each image's bin, (n,), among `num_bins` bins with equal numbers of images by ascending var_hat.

    Bins are assigned by rank, so equal predictions are split in their order and every bin is filled.

    Raises:
        UserError: for fewer than 2 images per bin.
    """
    if num_bins < 1 or len(var_hat) < 2 * num_bins:
        raise UserError(
            f"{num_bins} bins by var_hat need at least {2 * max(num_bins, 1)} images (2 per bin), got {len(var_hat)}: "
            f"use more images or fewer bins"
        )
    order = np.argsort(var_hat, kind="stable")
    bins = np.empty(len(var_hat), dtype=np.int64)
    bins[order] = np.arange(len(var_hat)) * num_bins // len(var_hat)
    return bins


def normalised_excess(mean_variance: Array, mean_square: Array) -> Array:
    """(RMSE - RMV) / RMV of each bin, averaged by ENCE. Positive: the bin's errors are larger than predicted.

    Args:
        mean_variance: the mean of var_hat over a bin (RMV is its root).
        mean_square: the mean of e^2 over the bin's images and elements (RMSE is its root).
    """
    return np.sqrt(quotient(mean_square, mean_variance)) - 1


def ence(excess: Array) -> Array:
    """Expected normalised calibration error (ENCE): the mean over bins of |RMV - RMSE| / RMV.

    Levi et al. (2022), "Evaluating and calibrating uncertainty prediction in regression tasks", eq. 8. Empty bins (NaN)
    are ignored.
    """
    return np.asarray(np.nanmean(np.abs(excess), axis=-1))


def uce(excess: Array) -> Array:
    """Uncertainty calibration error (UCE): sum over bins of (share of images) |mean e^2 - mean var_hat|.

    Laves et al. (2020), "Well-calibrated regression uncertainty in medical imaging with deep learning", eq. 13; in
    units of the latents' variance.

    Args:
        excess: (share of images) (mean e^2 - mean var_hat) of each bin, (..., bins).
    """
    return np.asarray(np.abs(excess).sum(axis=-1))


def miscalibration_area(excess: Array) -> Array:
    """The area between a calibration curve and the diagonal: the integral over p in [0, 1] of |observed - p|.

    Kuleshov et al. (2018) with the absolute in place of the squared distance, as in Uncertainty Toolbox (Chung et al.
    2021). The curve is linear between its levels, and areas on both sides of a crossing count.

    Args:
        excess: observed - p at evenly spaced p from 0 to 1, (..., levels).
    """
    left, right = np.abs(excess[..., :-1]), np.abs(excess[..., 1:])
    total = left + right
    # two triangles where the curve crosses the diagonal, else a trapezium
    crossing = excess[..., :-1] * excess[..., 1:] < 0
    areas = np.where(crossing, (left**2 + right**2) / np.where(total > 0, 2 * total, 1), total / 2)
    return np.asarray(areas.sum(axis=-1) / (excess.shape[-1] - 1))


def interval_coverage(curve: Array) -> Array:
    """The share of elements inside the central interval of probability p, at p = 0, 1/100 ... 1, (..., 101).

    Args:
        curve: the calibration curve at 0, 1/200 ... 1, (..., 201) (see `grid.at_levels`).
    """
    middle = curve.shape[-1] // 2
    return np.asarray(curve[..., middle:] - curve[..., middle::-1])
