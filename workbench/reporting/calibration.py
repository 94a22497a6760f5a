"""Figures of a calibration: reliability diagram, PIT, QQ and spectrum, a line a group of images.

Each takes panels: a panel's title -> its calibrations by the name of their line.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from workbench.metrics import Estimate
from workbench.metrics.calibration import Calibration
from workbench.reporting.curves import Line, curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Groups = Mapping[str, Mapping[str, Calibration]]

IDEAL = "calibrated"
"""The name of the line on which all points of a calibrated prediction lie."""


def reliability_figure(panels: Groups) -> "Figure":
    """The error of each bin by var_hat over the predicted one, both as standard deviations."""
    lines = {
        panel: {name: _curve(one, "reliability") for name, one in groups.items()} for panel, groups in panels.items()
    }
    return curves(
        {panel: {IDEAL: _diagonal(groups), **groups} for panel, groups in lines.items()},
        title="Reliability",
        x_label="predicted error, root of the mean variance of a bin",
        y_label="true error, root mean square of the bin",
    )


def pit_figure(panels: Groups) -> "Figure":
    """The density of the probability integral transform Phi(z): 1 everywhere for z ~ N(0, 1)."""
    return curves(
        {panel: {name: _curve(one, "pit") for name, one in groups.items()} for panel, groups in panels.items()},
        title="Probability integral transform of the errors",
        x_label="Φ(z), the predicted probability of a smaller error",
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
        y_label="quantile of z = e / σ̂",
    )


def spectrum_figure(panels: Groups) -> "Figure":
    """The power of z at each spatial frequency in units of its mean: 1 everywhere for a white error."""
    return curves(
        {panel: {name: _curve(one, "spectrum") for name, one in groups.items()} for panel, groups in panels.items()},
        title="Power of the errors by spatial frequency",
        x_label="cycles a latent pixel",
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
    """y = x, without intervals."""
    return Line(positions.tolist(), [Estimate(x, math.nan, math.nan, 0) for x in positions.tolist()])
