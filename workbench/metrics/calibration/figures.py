"""All calibration figures as functions of means over images (batch, ...), by name."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.metrics.calibration import independence, isotropy, level, shape
from workbench.metrics.calibration.grid import EDGES, NUM_LEVELS, at_levels, distribution, quantiles
from workbench.metrics.calibration.images import Rows
from workbench.metrics.calibration.orthogonality import SecondMoments
from workbench.metrics.statistics import Means, quotient

Array = NDArray[np.float64]

PIT_BINS = 20
CURVE_LEVELS = 20
COVERAGES = np.array([0.5, 0.8, 0.9, 0.95, 0.99])
QQ_LEVELS = np.array([0.001, 0.005, 0.01, 0.025, *np.arange(1, 20) / 20, 0.975, 0.99, 0.995, 0.999])


@dataclass(frozen=True)
class Distance:
    """A figure that is the norm of a vector which is zero if the prediction is calibrated.

    Attributes:
        vector: name of the vector in `excesses`.
        norm: (batch,) of that vector (batch, k) and the grid's edges as the group's own Gaussian sees them.
        squared: whether the figure is the square of a norm.
    """

    vector: str
    norm: Callable[[Array, Array], Array]
    squared: bool = False


def _plain(vector: str, norm: Callable[[Array], Array]) -> Distance:
    return Distance(vector, lambda excess, edges: norm(excess))


DISTANCES = {
    "ence": _plain("bins", level.ence),
    "uce": _plain("bin_squares", level.uce),
    "miscalibration_area": _plain("levels", level.miscalibration_area),
    "ks": _plain("predicted", shape.kolmogorov_smirnov),
    "cvm": Distance("predicted", lambda excess, edges: shape.cramer_von_mises(excess, EDGES), squared=True),
    "ad": Distance("predicted", lambda excess, edges: shape.anderson_darling(excess, EDGES), squared=True),
    "shape_ks": _plain("own", shape.kolmogorov_smirnov),
    "shape_cvm": Distance("own", shape.cramer_von_mises, squared=True),
    "shape_ad": Distance("own", shape.anderson_darling, squared=True),
    "channel_spread": _plain("channels", isotropy.root_mean_square),
    "position_spread": _plain("positions", isotropy.root_mean_square),
    "channel_correlation": _plain("channel_pairs", isotropy.root_mean_square),
}

_AS_COLLECTED = (
    *("crps", "error", "estimate", "error_square", "estimate_square", "product"),
    *("position", "position_square", "spectrum", "autocovariance", "channel_covariance"),
)


def averaged(rows: Rows, num_bins: int) -> Means:
    """The statistics whose means define the figures, (n, ...) by name."""
    var_hat, s2, moments = (np.asarray(rows[name], np.float64) for name in ("var_hat", "s2", "moments"))
    counts = np.asarray(rows["counts"], np.float64)
    member = np.eye(num_bins)[level.equal_mass_bins(var_hat, num_bins)]
    square = np.asarray(rows["error_square"], np.float64).mean(1)
    return {
        **{name: np.asarray(rows[name], np.float64) for name in _AS_COLLECTED},
        "var_hat": var_hat,
        "moments": moments,
        "ratio": s2 / var_hat,
        "square_db": (10 * np.log10(s2 / var_hat)) ** 2,
        "nll": level.gaussian_nll(square, var_hat),
        "within_kurtosis": shape.kurtosis(moments),
        "image_mean_square": moments[:, 0] ** 2,
        "channel_mean": np.asarray(rows["error"], np.float64) / np.sqrt(var_hat)[:, None],
        "channel_square": np.asarray(rows["error_square"], np.float64) / var_hat[:, None],
        "member": member,
        "member_variance": member * var_hat[:, None],
        "member_square": member * square[:, None],
        "shares": counts / counts.sum(1, keepdims=True),
    }


def own_edges(means: Means) -> Array:
    """The grid's edges as the group's own Gaussian sees them, (batch, k)."""
    return shape.standard_edges(*shape.central_moments(means["moments"])[:2])


def excesses(means: Means) -> Means:
    """The vectors (batch, k) whose norms are the distances."""
    cdf = distribution(means["shares"])
    channels, positions = _variances(means)
    return {
        "bins": level.normalised_excess(means["member_variance"], means["member_square"]),
        "bin_squares": means["member_square"] - means["member_variance"],
        "levels": at_levels(cdf) - np.arange(NUM_LEVELS + 1) / NUM_LEVELS,
        "predicted": shape.excess_over_gaussian(cdf, EDGES),
        "own": shape.excess_over_gaussian(cdf, own_edges(means)),
        "channels": isotropy.relative_excess(channels),
        "positions": isotropy.relative_excess(positions),
        "channel_pairs": independence.channel_correlations(_centred(means)[1]),
    }


def figures(means: Means, excess: Means, num_elements: int) -> Means:
    """The scalar figures, (batch,): see `summarise`."""
    edges = own_edges(means)
    distance = {name: found.norm(excess[found.vector], edges) for name, found in DISTANCES.items()}
    raw = means["moments"]
    joint = SecondMoments.of(means)
    correlation = independence.autocorrelation(_centred(means)[0])
    return {
        "ratio": means["ratio"],
        "ratio_db": np.sqrt(means["square_db"]),
        "z2": raw[..., 1],
        "nll": means["nll"],
        "crps": means["crps"],
        "sharpness": level.sharpness(means["var_hat"]),
        **_chosen(distance, "ence", "uce", "miscalibration_area"),
        "skewness": shape.skewness(raw),
        "kurtosis": shape.kurtosis(raw),
        "within_kurtosis": means["within_kurtosis"],
        **_chosen(distance, "ks", "cvm", "ad", "shape_ks", "shape_cvm", "shape_ad"),
        "bias": raw[..., 0],
        "image_mean_power": num_elements * quotient(means["image_mean_square"], raw[..., 1]),
        "forward_share": joint.forward_share,
        "corr_estimate": joint.corr_estimate,
        "corr_clean": joint.corr_clean,
        "slope_on_clean": joint.slope_on_clean,
        "slope_on_estimate": joint.slope_on_estimate,
        **_chosen(distance, "channel_spread", "position_spread"),
        "neighbour_correlation": correlation[:, 1] if correlation.shape[1] > 1 else np.full(len(raw), np.nan),
        **_chosen(distance, "channel_correlation"),
    }


def curves(means: Means, counts: NDArray[np.int64]) -> Means:
    """The curves, (batch, k): see `summarise`.

    Args:
        counts: frequencies in each bin of the spectrum.
    """
    cdf = distribution(means["shares"])
    at_level = at_levels(cdf)
    channels, positions = _variances(means)
    power = means["spectrum"]
    each_channel = SecondMoments.of({name: values[..., None] for name, values in means.items()})
    return {
        "reliability": np.sqrt(quotient(means["member_square"], means["member"])),
        "calibration": at_level[..., :: NUM_LEVELS // CURVE_LEVELS],
        "coverage": level.interval_coverage(at_level)[..., (100 * COVERAGES).round().astype(int)],
        "pit": PIT_BINS * np.diff(at_level[..., :: NUM_LEVELS // PIT_BINS]),
        "qq": quantiles(cdf, QQ_LEVELS),
        "channel_bias": means["channel_mean"],
        "channel_variance": channels,
        "channel_forward_share": each_channel.forward_share,
        "position_bias": means["position"].reshape(len(power), -1),
        "position_variance": positions,
        "spectrum": power / (power @ counts / counts.sum())[:, None],
        "autocorrelation": independence.autocorrelation(_centred(means)[0]),
    }


def _chosen(distance: Means, *names: str) -> Means:
    return {name: distance[name] for name in names}


def _variances(means: Means) -> tuple[Array, Array]:
    """The variance of z in each channel and in each position, (batch, k), each about its own mean."""
    channels = means["channel_square"] - means["channel_mean"] ** 2
    positions = means["position_square"] - means["position"] ** 2
    return channels, positions.reshape(len(channels), -1)


def _centred(means: Means) -> tuple[Array, Array]:
    """The autocovariance and the channels' covariance of z, about each channel's mean."""
    mean = means["channel_mean"]
    autocovariance = means["autocovariance"] - (mean**2).mean(-1, keepdims=True)
    return autocovariance, means["channel_covariance"] - mean[:, :, None] * mean[:, None, :]
