"""Rows of a study's results: those of one cell, one row per image, and differences of two cells, image by image."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from markupsafe import Markup

from workbench.config import UserError
from workbench.metrics import Estimate, first_crossing, mean_intervals
from workbench.reporting import QUANTITIES, html_table

if TYPE_CHECKING:
    from numpy.typing import NDArray
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


def require_axes(results: "StudyResults", axes: Collection[str], *, alone: bool = False) -> None:
    """Refuse results that lack one of the axes that a report knows or, if `alone`, differ in another one too.

    Raises:
        UserError: saying which axes there are.
    """
    others = [axis for axis, labels in results.axes.items() if axis not in axes and len(labels) > 1]
    if not {*axes} <= {*results.axes} or (alone and others):
        needed = ", ".join(axes) + (" and no other of several values" if alone else "")
        raise UserError(f"this report needs the axes {needed}; the results have: {', '.join(results.axes)}")


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


def intervals(values: "Sequence[Series | NDArray[np.floating]]") -> list[Estimate]:
    """The mean of each, one value per image, with its interval; those of as many images are resampled at once."""
    arrays = [np.asarray(one, dtype=np.float64) for one in values]
    found: dict[int, Estimate] = {}
    for size in {len(array) for array in arrays}:
        places = [place for place, array in enumerate(arrays) if len(array) == size]
        estimates = mean_intervals(np.stack([arrays[place] for place in places], axis=1))
        found |= dict(zip(places, estimates, strict=True))
    return [found[place] for place in range(len(arrays))]


def log_crossing(x: Sequence[float], values: "Sequence[Series]") -> Estimate | None:
    """The x at which the mean over images first reaches 0, interpolated in the logarithm of x; None: at no x.

    Args:
        x: positive, in the order in which they are passed.
        values: at each, one value per image.
    """
    reached = [float(row.mean()) >= 0 for row in values]
    if not any(reached):
        return None
    if reached[0]:
        return Estimate(x[0], math.nan, math.nan, len(values[0]))
    found = first_crossing(np.log(x), np.stack(values), 0.0)
    mean, low, high = np.exp([found.mean, found.low, found.high]).tolist()
    return Estimate(mean, low, high, found.num_images)


def means(cells: "Sequence[DataFrame]", column: str) -> list[Estimate]:
    """A column's mean in each cell, in the unit that is shown."""
    return intervals([QUANTITIES[column].scale * cell[column].to_numpy(dtype=float) for cell in cells])


def means_table(
    cells: "Mapping[str, DataFrame]",
    columns: Sequence[str],
    index: str,
    caption: str = "",
    more: Mapping[str, Sequence[object]] | None = None,
) -> Markup:
    """A row for each cell: those of `columns` that all cells hold, and `more` columns by heading."""
    import pandas as pd

    shown = [column for column in columns if all(has_column(cell, column) for cell in cells.values())]
    found = {QUANTITIES[column].title: means(list(cells.values()), column) for column in shown}
    table = pd.DataFrame({**found, **(more or {})}, index=pd.Index(cells, name=index))
    return html_table(table, {QUANTITIES[column].title: QUANTITIES[column].decimals for column in shown}, caption)


def table(
    rows: Mapping[str, Mapping[str, object]], index: str, decimals: Mapping[str, int] | int = 2, caption: str = ""
) -> Markup:
    """An HTML table of rows by name, each a value for each column."""
    import pandas as pd

    return html_table(pd.DataFrame.from_dict(dict(rows), orient="index").rename_axis(index), decimals, caption)
