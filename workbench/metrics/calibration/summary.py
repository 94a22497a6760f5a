"""All figures of calibration of a group of images, with intervals and tests from resamples of whole images.

Elements of one image are correlated, so p-values of pooled elements are meaningless. Here, whole images are resampled:
- An interval is the BCa interval over resampled images (for `effective_elements`: the jackknife's).
- A distance is the norm of a vector D that is 0 for a calibrated prediction; sampling noise keeps it above 0. With D*
  of a resample, |D* - D| is distributed like |D - true D|, whatever the dependence within images (even with a fitted
  Gaussian: Babu & Rao 2004, "Goodness-of-fit tests when parameters are estimated"). Its mean is the distance's floor,
  the value for a calibrated prediction; how often it reaches the distance is the p-value; and its 95 % quantile to
  either side is the interval of the true distance, which by the triangle inequality has at least that coverage.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.core.config import UserError
from workbench.metrics.calibration import figures, level
from workbench.metrics.calibration.families import Family, Fit, fit_all
from workbench.metrics.calibration.images import Rows
from workbench.metrics.calibration.independence import effective_elements
from workbench.metrics.likeness import radial_counts
from workbench.metrics.statistics import CONFIDENCE, Estimate, Means, figures_of_means

Array = NDArray[np.float64]

NUM_BINS = 10


def bins_for(num_images: int) -> int:
    """Number of bins by var_hat for this many images: `NUM_BINS`, or fewer if there are not two images for each."""
    return max(1, min(NUM_BINS, num_images // 2))


@dataclass(frozen=True)
class Curve:
    """Figures along an axis.

    Attributes:
        x: positions, (k,).
        estimates: k figures with their intervals.
    """

    x: Array
    estimates: tuple[Estimate, ...]

    @property
    def mean(self) -> Array:
        """The figures without intervals, (k,)."""
        return np.array([estimate.mean for estimate in self.estimates])


@dataclass(frozen=True)
class Calibration:
    """The result of `summarise`.

    Attributes:
        num_images: number of images.
        figures: by name (see `summarise`).
        floors: for the figures that are distances: the value from chance alone.
        p_values: for the same: how often chance alone gives as much, over resampled images.
        curves: by name (see `summarise`).
        fits: the distributions fitted to z, most credible first (see `fit_all`).
    """

    num_images: int
    figures: dict[str, Estimate]
    floors: dict[str, float]
    p_values: dict[str, float]
    curves: dict[str, Curve]
    fits: dict[Family, Fit]


def summarise(rows: Rows, num_bins: int = NUM_BINS) -> Calibration:
    """The figures and curves of a group of images. z = e / sqrt(var_hat), in units of the predicted deviation.

    Figures (ideal value):
    - level: `ratio` s2 / var_hat, mean over images (1); `ratio_db` its root mean square in decibels, by which the
      matched SNR is wrong (0); `z2` mean z^2 (1); `nll` nats an element; `crps`, `sharpness` latent units; `ence`,
      `uce`, `miscalibration_area` (0), distances.
    - shape: `skewness` (0), `kurtosis` (3, not the excess); `within_kurtosis`, the mean of each image's own, which
      inexact predictions do not raise (for Gaussian errors 3 less about 6 / d_eff); `ks`, `cvm`, `ad`: distances of z
      from N(0, 1), level and mean included; `shape_ks`, `shape_cvm`, `shape_ad`: from the Gaussian of the group's own
      mean and variance (0).
    - mean: `bias` mean z (0); `image_mean_power` d E[(image's mean z)^2] / E[z^2] (1 if elements are independent).
    - orthogonality: `forward_share` (0 mmse, 1 forward), `corr_estimate`, `corr_clean`, `slope_on_clean`,
      `slope_on_estimate` (see `SecondMoments`).
    - isotropy: `channel_spread`, `position_spread`: coefficients of variation of the variance (0), distances.
    - independence: `neighbour_correlation` along either axis (0); `channel_correlation`, the root mean square between
      channels (0), a distance; `effective_elements` (d) and its share of d, `effective_share` (1).

    Curves (x): `reliability` RMSE of each bin (its root mean var_hat); `calibration` (probability), `coverage` of
    central intervals (probability), `pit` density (PIT); `qq` quantiles of z (level); `channel_bias`,
    `channel_variance` of z, `channel_forward_share` (channel); `position_bias`, `position_variance` of z (cell, row by
    row); `spectrum` in units of its mean (cycles a latent pixel); `autocorrelation` (distance along either axis).

    Raises:
        UserError: for fewer than 2 images per bin, or latents of different shapes.
    """
    latent_shape = _latent_shape(rows)
    counts = radial_counts(*latent_shape[1:])
    averaged = figures.averaged(rows, num_bins)

    def everything(means: Means) -> Means:
        excess = figures.excesses(means)
        return figures.figures(means, excess, math.prod(latent_shape)) | excess | figures.curves(means, counts)

    found = figures_of_means(everything, averaged)
    estimates, draws = found.estimates, found.draws
    values = {name: numbers[0] for name, numbers in estimates.items() if numbers}
    edges = figures.own_edges({"moments": averaged["moments"].mean(0, keepdims=True)})
    num_images = len(averaged["var_hat"])
    floors, p_values = {}, {}
    for name, distance in figures.DISTANCES.items():
        sample = [estimate.mean for estimate in estimates[distance.vector]]
        chance = distance.norm(draws[distance.vector] - sample, edges)
        values[name] = _norm_interval(values[name], chance, distance.squared)
        floors[name] = float(chance.mean())
        p_values[name] = _p_value(values[name].mean, chance)
    values["effective_elements"] = effective_elements(np.asarray(rows["z"], dtype=np.float64))
    values["effective_share"] = values["effective_elements"].scaled(1 / math.prod(latent_shape))
    axes = _axes(averaged, latent_shape)
    effective = values["effective_elements"].mean
    num_independent = num_images * (math.prod(latent_shape) if math.isnan(effective) else effective)
    vectors = {distance.vector for distance in figures.DISTANCES.values()}
    return Calibration(
        num_images=num_images,
        figures={name: value for name, value in values.items() if name not in vectors and name not in axes},
        floors=floors,
        p_values=p_values,
        curves={name: Curve(x, estimates[name]) for name, x in axes.items()},
        fits=fit_all(rows["counts"].sum(0), num_independent),
    )


def ence_of(variance: Array, square: Array, num_bins: int = NUM_BINS) -> Estimate:
    """ENCE of any variances, such as recalibrated ones, with the interval of a distance.

    Args:
        variance: the predicted error variance of each image, (n,).
        square: the mean over its elements of e^2, (n,).

    Raises:
        UserError: for fewer than 2 images per bin.
    """
    member = np.eye(num_bins)[level.equal_mass_bins(variance, num_bins)]

    def excess(means: Means) -> Means:
        return {"bins": level.normalised_excess(means["variance"], means["square"])}

    found = figures_of_means(excess, {"variance": member * variance[:, None], "square": member * square[:, None]})
    sample = np.array([estimate.mean for estimate in found.estimates["bins"]])
    value = Estimate(float(level.ence(sample)), math.nan, math.nan, len(variance))
    return _norm_interval(value, level.ence(found.draws["bins"] - sample), squared=False)


def _norm_interval(value: Estimate, chance: Array, squared: bool) -> Estimate:
    """The true vector's norm differs from the sample's by no more than the norm of the vectors' difference."""
    power = 2 if squared else 1
    norm, reach = value.mean ** (1 / power), float(np.quantile(chance, CONFIDENCE)) ** (1 / power)
    return Estimate(value.mean, max(norm - reach, 0.0) ** power, (norm + reach) ** power, value.num_images)


def _p_value(value: float, chance: Array) -> float:
    return math.nan if math.isnan(value) else (1 + int((chance >= value).sum())) / (1 + len(chance))


def _latent_shape(rows: Rows) -> tuple[int, int, int]:
    shapes = np.unique(rows["latent_shape"], axis=0)
    if len(shapes) != 1:
        raise UserError(f"calibration needs images, of latents of one shape; got the shapes {shapes.tolist()}")
    channels, height, width = shapes[0].tolist()
    return channels, height, width


def _axes(averaged: Means, latent_shape: tuple[int, int, int]) -> Means:
    """The position of each point of each curve."""
    channels, height, width = latent_shape
    variance = averaged["member_variance"].sum(0) / averaged["member"].sum(0)
    cells = averaged["position"][0].size
    return {
        "reliability": np.sqrt(variance),
        "calibration": np.arange(figures.CURVE_LEVELS + 1) / figures.CURVE_LEVELS,
        "coverage": figures.COVERAGES,
        "pit": (np.arange(figures.PIT_BINS) + 0.5) / figures.PIT_BINS,
        "qq": figures.QQ_LEVELS,
        **dict.fromkeys(("channel_bias", "channel_variance", "channel_forward_share"), np.arange(float(channels))),
        **dict.fromkeys(("position_bias", "position_variance"), np.arange(float(cells))),
        "spectrum": np.arange(averaged["spectrum"].shape[1]) / max(height, width),
        "autocorrelation": np.arange(float(averaged["autocovariance"].shape[1])),
    }
