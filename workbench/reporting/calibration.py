"""Figures of a calibration: reliability diagram, PIT, QQ, fitted distributions and spectrum, a line per image group.

Each takes panels: title of the panel -> its calibrations by name of the line.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from workbench.metrics import Estimate
from workbench.metrics.calibration import Calibration, Family
from workbench.reporting.curves import Line, curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Groups = Mapping[str, Mapping[str, Calibration]]

LAWS: tuple[Family, ...] = ("gaussian", "student_t", "laplace")
IDEAL = "calibrated"
"""Name of the line of a calibrated prediction."""


def reliability_figure(panels: Groups) -> "Figure":
    """The true error of each bin by var_hat over the predicted one, both as standard deviations."""
    lines = {
        panel: {name: _curve(one, "reliability") for name, one in groups.items()} for panel, groups in panels.items()
    }
    return curves(
        {panel: {IDEAL: _diagonal(groups), **groups} for panel, groups in lines.items()},
        title="Reliability",
        x_label="predicted error",
        y_label="true error, root mean square of a bin",
    )


def pit_figure(panels: Groups) -> "Figure":
    """The density of the probability integral transform Phi(z): 1 everywhere for z ~ N(0, 1)."""
    return curves(
        {panel: {name: _curve(one, "pit") for name, one in groups.items()} for panel, groups in panels.items()},
        title="Probability integral transform of the errors",
        x_label="Φ(z)",
        y_label="density",
        y_marks={IDEAL: 1.0},
    )


def qq_figure(panels: Groups) -> "Figure":
    """Quantiles of z over those of N(0, 1)."""
    lines = {
        panel: {
            name: Line(ndtri(one.curves["qq"].x).tolist(), one.curves["qq"].estimates) for name, one in groups.items()
        }
        for panel, groups in panels.items()
    }
    ideal = {
        panel: _line_of(np.unique([x for line in groups.values() for x in line.x])) for panel, groups in lines.items()
    }
    return curves(
        {panel: {IDEAL: ideal[panel], **groups} for panel, groups in lines.items()},
        title="Quantiles of the standardised errors",
        x_label="Gaussian quantile",
        y_label="quantile of z, true over predicted error",
    )


def laws_figure(calibrations: Mapping[str, Calibration]) -> "Figure":
    """Quantiles of z, and of each distribution fitted to it, over those of N(0, 1): a QQ plot for all distributions."""
    panels: dict[str, dict[str, Line]] = {}
    for panel, found in calibrations.items():
        curve = found.curves["qq"]
        x = ndtri(curve.x)
        laws: dict[str, Line] = {name: _exact(x, found.fits[name].quantile(curve.x)) for name in LAWS}
        panels[panel] = {"measured": Line(x.tolist(), curve.estimates), **laws}
    return curves(
        panels,
        title="Quantiles of the standardised errors and of the distributions fitted to them",
        x_label="Gaussian quantile",
        y_label="quantile of z, true over predicted error",
    )


def spectrum_figure(panels: Groups) -> "Figure":
    """The power of z at each spatial frequency, divided by its mean: 1 everywhere for a white error."""
    return curves(
        {panel: {name: _curve(one, "spectrum") for name, one in groups.items()} for panel, groups in panels.items()},
        title="Power of the errors by spatial frequency",
        x_label="cycles per latent pixel",
        y_label="power, in units of the mean",
        y_marks={"white": 1.0},
    )


def _curve(found: Calibration, name: str) -> Line:
    curve = found.curves[name]
    return Line(curve.x.tolist(), curve.estimates)


def _diagonal(lines: Mapping[str, Line]) -> Line:
    positions = [x for line in lines.values() for x in line.x]
    return _line_of(np.array([min(positions), max(positions)]))


def _line_of(positions: np.ndarray) -> Line:
    """y = x."""
    return _exact(positions, positions)


def _exact(x: np.ndarray, y: np.ndarray) -> Line:
    """A line without intervals."""
    return Line(x.tolist(), [Estimate(value, math.nan, math.nan, 0) for value in y.tolist()])
