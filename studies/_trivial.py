"""What a severity encoder has to beat: numbers that rank images by the true error without a network trained for it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from studies._rows import table
from workbench.metrics import Estimate, gain_over_trivial, spearman, spearman_across, spearman_within
from workbench.stages.measure.trivial import LOG_VARIANCE, RESIDUAL

if TYPE_CHECKING:
    from pandas import DataFrame

TRIVIAL = {"severity": "known severity", RESIDUAL: "residual norm", LOG_VARIANCE: "log variance of y"}
"""Trivial predictors by their columns; results that are older than a column lack it."""
GAIN = "encoder minus best trivial one"

Columns: TypeAlias = "Mapping[str, Any] | DataFrame"
"""Arrays by name, of one value per image or (images, levels)."""


def trivial_of(columns: Columns) -> dict[str, NDArray[np.float64]]:
    """The trivial predictors that are there without gaps, by what they are called."""
    found = {title: _array(columns[name]) for name, title in TRIVIAL.items() if name in columns}
    return {title: values for title, values in found.items() if np.isfinite(values).all()}


def trivial_gain(columns: Columns, *, within: bool = False) -> Estimate:
    """By how much more var_hat ranks images by s2 than the best trivial predictor that is there does.

    Raises:
        UserError: without trivial predictors.
    """
    return gain_over_trivial(_array(columns["var_hat"]), trivial_of(columns), _array(columns["s2"]), within=within)


def trivial_ranks(columns: Columns, *, within: bool = False) -> dict[str, Estimate]:
    """Spearman's correlation of each trivial predictor with s2: over all, or at one level in the mean over levels."""
    return {title: _rank(values, columns, within) for title, values in trivial_of(columns).items()}


def trivial_table(tables: Mapping[str, Columns], index: str, *, within: bool = False) -> Markup:
    """A row for each: the rank correlations with the true error, and what the encoder has over the best trivial one."""
    rows = {
        name: {
            "encoder (σ̂²)": _rank(_array(columns["var_hat"]), columns, within),
            GAIN: trivial_gain(columns, within=within),
            **trivial_ranks(columns, within=within),
        }
        for name, columns in tables.items()
    }
    caption = (
        "Spearman's correlation with the true error s²: of the prediction, and of numbers that need no training (the "
        "severity is known to studies alone, the residual is that of D(ẑ)). The encoder knows more where it is above "
        "the largest of theirs, of either sign"
    )
    return table(rows, index, caption=caption + (". Mean over levels of that among images at one" if within else ""))


def _rank(values: NDArray[np.float64], columns: Columns, within: bool) -> Estimate:
    s2 = _array(columns["s2"])
    if within:
        return spearman_within(values, s2)
    return spearman(values, s2) if s2.ndim == 1 else spearman_across(values, s2)


def _array(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
