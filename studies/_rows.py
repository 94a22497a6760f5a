"""Rows of a study's results: those of one cell, one row per image, and differences of two cells, image by image."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from workbench.config import UserError
from workbench.metrics import Estimate
from workbench.reporting import QUANTITIES

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

Key = TypeVar("Key")
Value = TypeVar("Value")

ABSENT = Estimate(math.nan, math.nan, math.nan, 0)
"""No results."""


def cell_rows(results: "StudyResults", **labels: str) -> "DataFrame | None":
    """The rows of the cell with these labels by axis, indexed by image id in its order; None where there is none.

    Raises:
        UserError: for an axis that the results do not have, or labels that several cells have.
    """
    rows = results.frame
    for axis, label in labels.items():
        if axis not in results.axes:
            raise UserError(f"these results have no axis {axis}; they have: {', '.join(results.axes)}")
        rows = rows[rows[axis] == label]
    if rows.empty:
        return None
    if rows["cell"].nunique() > 1:
        raise UserError(f"{rows['cell'].nunique()} cells are called {', '.join(labels.values())}: name more axes")
    return rows.set_index("image_id").sort_index()


def put(found: dict[Key, Value], key: Key, value: Value, name: str) -> None:
    """Add a cell's value under what the report knows the cell by.

    Raises:
        UserError: if another cell goes by the same key; `name` says which.
    """
    if key in found:
        raise UserError(f"two cells are called {name}: this report cannot tell them apart; give other axes one value")
    found[key] = value


def has_column(rows: "DataFrame", column: str) -> bool:
    """Whether the rows hold that column, without gaps: older results lack newer columns, and metrics can be absent.

    A residual beside a noise of 0 is infinite, which no mean survives: such a column counts as absent too.
    """
    return column in rows and bool(np.isfinite(rows[column].to_numpy(dtype=float)).all())


def difference(a: "DataFrame", b: "DataFrame", column: str, names: str = "two cells") -> "Series":
    """a - b, one value per image.

    Raises:
        UserError: if they are of different images; `names` says of what.
    """
    if not a.index.equals(b.index):
        raise UserError(f"{names} were tested on different images; run the study again")
    differences: Series = a[column] - b[column]
    return differences


def lost(a: "DataFrame", b: "DataFrame", column: str, names: str = "two cells") -> "Series":
    """By how much a is worse than b, one value per image; negative where it is better.

    Raises:
        UserError: if they are of different images.
    """
    return -QUANTITIES[column].better * difference(a, b, column, names)


def over_images(cells: "Sequence[Series]") -> "Series":
    """One value per image, its mean over the cells that hold it: intervals over images count no image twice."""
    import pandas as pd

    if not cells:
        return pd.Series(dtype=float)
    means: Series = pd.concat(cells).groupby(level=0).mean()
    return means
