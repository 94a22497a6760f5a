"""Is the latent error zero-mean, independent and Gaussian with the predicted variance? Instruments, with intervals.

`collect` turns batches of (z_hat, z0, var_hat) into rows of statistics, one row per image; `summarise` turns a group of
rows into figures with intervals over images, distances with their floors, curves and fitted distributions.
"""

from workbench.metrics.calibration.families import Family, Fit, fit, fit_all
from workbench.metrics.calibration.images import Rows, collect, join, take
from workbench.metrics.calibration.level import (
    ence,
    equal_mass_bins,
    gaussian_crps,
    gaussian_nll,
    miscalibration_area,
    sharpness,
    uce,
)
from workbench.metrics.calibration.orthogonality import SecondMoments, holding_channel
from workbench.metrics.calibration.stored import ALL, FILE, as_json, from_json, from_plain
from workbench.metrics.calibration.summary import NUM_BINS, Calibration, Curve, bins_for, ence_of, summarise

__all__ = [
    "ALL",
    "FILE",
    "NUM_BINS",
    "Calibration",
    "Curve",
    "Family",
    "Fit",
    "Rows",
    "SecondMoments",
    "as_json",
    "bins_for",
    "collect",
    "ence",
    "ence_of",
    "equal_mass_bins",
    "fit",
    "fit_all",
    "from_json",
    "from_plain",
    "gaussian_crps",
    "gaussian_nll",
    "holding_channel",
    "join",
    "miscalibration_area",
    "sharpness",
    "summarise",
    "take",
    "uce",
]
