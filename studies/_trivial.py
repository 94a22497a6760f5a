"""What a severity encoder has to beat: numbers that rank images by the true error without a network trained for it."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from pandas import DataFrame

from studies._rows import table
from workbench.metrics import BesideTrivial, Estimate, beside_trivial
from workbench.stages.measure.trivial import LOG_VARIANCE, RESIDUAL

TRIVIAL = {"severity": "known severity", RESIDUAL: "residual norm", LOG_VARIANCE: "log variance of y"}
"""Trivial predictors by their columns; results that are older than a column lack it."""
GAIN = "encoder minus best trivial one"

Columns: TypeAlias = Mapping[str, Any] | DataFrame
"""Arrays by name, of one value per image or (images, levels)."""


def trivial_of(columns: Columns) -> dict[str, NDArray[np.float64]]:
    """The trivial predictors that are there without gaps, by what they are called."""
    found = {title: _array(columns[name]) for name, title in TRIVIAL.items() if name in columns}
    return {title: values for title, values in found.items() if np.isfinite(values).all()}


def trivial_ranks(columns: Columns, *, within: bool = False) -> BesideTrivial:
    """How well var_hat and the trivial predictors rank images by s2: over all, or at one level, mean over levels.

    Raises:
        UserError: without trivial predictors.
    """
    return beside_trivial(_array(columns["var_hat"]), trivial_of(columns), _array(columns["s2"]), within=within)


def trivial_gain(columns: Columns) -> Estimate:
    """By how much more var_hat ranks images by s2 than the best trivial predictor that is there does."""
    return trivial_ranks(columns).gain


def trivial_table(tables: Mapping[str, Columns], index: str, *, within: bool = False) -> Markup:
    """A row for each: the rank correlations with the true error, and what the encoder has over the best trivial one."""
    found = {name: trivial_ranks(columns, within=within) for name, columns in tables.items()}
    rows = {name: {"encoder (σ̂²)": one.own, GAIN: one.gain, **one.trivial} for name, one in found.items()}
    caption = (
        "Spearman's correlation with the true error s²: of the prediction, and of numbers that need no training (the "
        "severity is known to studies alone, the residual is that of D(ẑ)). The encoder knows more where it is above "
        "the largest of theirs, of either sign"
    )
    return table(rows, index, caption=caption + (". Mean over levels of that among images at one" if within else ""))


def _array(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
