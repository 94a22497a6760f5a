"""What a severity encoder has to beat: numbers that rank images by the true error without a network trained for it.

The known severity is at hand in studies alone; the residual of the decoded estimate and the log variance of y are so
always. Results that were made before rows held the last two show what they have.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from workbench.metrics import Estimate, gain_over_trivial, spearman, spearman_across, spearman_within
from workbench.reporting import html_table, listed, paragraph
from workbench.stages.measure.trivial import LOG_VARIANCE, RESIDUAL

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.metrics.statistics import Values

TRIVIAL = {"severity": "known severity", RESIDUAL: "residual norm", LOG_VARIANCE: "log variance of y"}
"""Trivial predictors by their columns."""
GAIN = "encoder minus best trivial one"

Columns: TypeAlias = "Mapping[str, Any] | DataFrame"
"""Arrays by name, of one value per image or (images, levels)."""


def trivial_of(columns: Columns) -> "dict[str, Values]":
    """The trivial predictors that are there without gaps, by what they are called."""
    found = {title: _array(columns[name]) for name, title in TRIVIAL.items() if name in columns}
    return {title: values for title, values in found.items() if np.isfinite(values).all()}


def trivial_gain(columns: Columns, *, within: bool = False) -> Estimate:
    """By how much more var_hat ranks images by s2 than the best trivial predictor that is there does.

    Raises:
        UserError: without trivial predictors.
    """
    var_hat, s2 = _array(columns["var_hat"]), _array(columns["s2"])
    return gain_over_trivial(var_hat, trivial_of(columns), s2, within=within)


def trivial_table(tables: Mapping[str, Columns], index: str, *, within: bool = False) -> Markup:
    """A row for each: the rank correlations with the true error, and what the encoder has over the best trivial one."""
    import pandas as pd

    rows = {}
    for name, columns in tables.items():
        s2 = _array(columns["s2"])
        numbers = {"encoder (σ̂²)": _array(columns["var_hat"]), **trivial_of(columns)}
        rows[name] = {title: _rank(values, s2, within) for title, values in numbers.items()}
        rows[name][GAIN] = trivial_gain(columns, within=within)
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis(index)
    frame = frame[[*(column for column in frame.columns if column != GAIN), GAIN]]
    caption = "Rank correlation (Spearman) with the true error s²" + (
        ", mean over levels of that among images at one" if within else ""
    )
    return html_table(frame, 2, caption)


def trivial_text(tables: Mapping[str, Columns]) -> Markup:
    """What is compared, and what these results lack."""
    held = [trivial_of(columns) for columns in tables.values()]
    lacking = [title for title in TRIVIAL.values() if not all(title in one for one in held)]
    text = (
        "Does the encoder beat what needs no training? Beside its prediction stand numbers that rank images by the "
        "true error, too: the known severity, which only a study has; the residual norm, the rms of y - A(D(ẑ)) over "
        "observed entries; and the log variance of y. The last column is the encoder's correlation minus the largest "
        "of theirs, of either sign, in each resample of the images: an interval above 0 says that the encoder knows "
        "more."
    )
    if lacking:
        text += f" These results lack the {listed(lacking)}: they were made before rows held it; a new run has it."
    return paragraph(text)


def _rank(values: "Values", s2: "Values", within: bool) -> Estimate:
    if within:
        return spearman_within(values, s2)
    return spearman(values, s2) if s2.ndim == 1 else spearman_across(values, s2)


def _array(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
