"""Rows of a study's results, one per image: of one cell, differences of two cells, means over several, and tables."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from markupsafe import Markup

from workbench.core.config import UserError
from workbench.metrics import Estimate, first_crossing, mean_interval, mean_intervals
from workbench.reporting import QUANTITIES, html_table

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame, Series

    from workbench.experiments.results import StudyResults

Key = TypeVar("Key")
Value = TypeVar("Value")

ABSENT = Estimate(math.nan, math.nan, math.nan, 0)
"""No results."""


def cells_by(frame: "DataFrame", key: "Callable[[Series], Key]") -> "dict[Key, DataFrame]":
    """Each cell's rows, by image id in its order, under what the report knows the cell by: `key` of its first row.

    Raises:
        UserError: if two cells go by the same key.
    """
    found: dict[Key, DataFrame] = {}
    for _, rows in frame.groupby("cell", sort=False, observed=True):
        name = key(rows.iloc[0])
        words = ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)
        put(found, name, rows.set_index("image_id").sort_index(), words)
    return found


def require_axes(
    results: "StudyResults", axes: Collection[str], *, optional: Collection[str] = (), alone: bool = False
) -> None:
    """Refuse results that lack one of the axes that a report knows or, if `alone`, differ in another one too.

    Args:
        optional: axes that the report knows and can do without.

    Raises:
        UserError: saying which axes there are.
    """
    known = {*axes, *optional}
    others = [axis for axis, labels in results.axes.items() if axis not in known and len(labels) > 1]
    if not {*axes} <= {*results.axes} or (alone and others):
        needed = ", ".join(axes) + (" and no other of several values" if alone else "")
        raise UserError(f"this report needs the axes {needed}; the results have: {', '.join(results.axes)}")


def put(found: dict[Key, Value], key: Key, value: Value, name: str) -> None:
    """Add a cell's value under what the report knows the cell by; `name` is for the error.

    Raises:
        UserError: if another cell goes by the same key.
    """
    if key in found:
        raise UserError(f"two cells are called {name}: this report cannot tell them apart; give other axes one value")
    found[key] = value


def has_column(rows: "DataFrame", column: str) -> bool:
    """Whether the rows hold that column, without gaps: older results lack newer columns, and metrics can be absent.

    A residual beside a noise of 0 is infinite, which no mean survives: such a column counts as absent too.
    """
    return column in rows and bool(np.isfinite(rows[column].to_numpy(dtype=float)).all())


def paired(cells: "Mapping[Key, DataFrame]", column: str) -> "DataFrame":
    """A column of several cells: one row per image, one column per cell.

    Raises:
        UserError: if they are of different images.
    """
    import pandas as pd

    images = [rows.index for rows in cells.values()]
    if not all(index.equals(images[0]) for index in images):
        raise UserError("cells were tested on different images; run the study again")
    return pd.DataFrame({key: rows[column] for key, rows in cells.items()})


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
    if all(cell.index.equals(cells[0].index) for cell in cells):  # a hundred times as fast
        return pd.Series(np.mean(cells, axis=0), cells[0].index)
    means: Series = pd.concat(cells).groupby(level=0).mean()
    return means


def mean_over(cells: "Iterable[Series | None]") -> Estimate:
    """The mean over the cells that have values, one value per image; ABSENT where none has."""
    found = [cell for cell in cells if cell is not None]
    return mean_interval(over_images(found)) if found else ABSENT


def intervals(values: "Sequence[Series | NDArray[np.floating]]") -> list[Estimate]:
    """The mean of each, one value per image, with its interval; those of as many images are resampled at once."""
    arrays = [np.asarray(one, dtype=np.float64) for one in values]
    found: dict[int, Estimate] = {}
    for size in {len(array) for array in arrays}:
        places = [place for place, array in enumerate(arrays) if len(array) == size]
        estimates = mean_intervals(np.stack([arrays[place] for place in places], axis=1))
        found |= dict(zip(places, estimates, strict=True))
    return [found[place] for place in range(len(arrays))]


def log_crossing(values: "DataFrame") -> Estimate | None:
    """Where the mean over images first reaches 0, interpolated in log x; None: nowhere.

    Args:
        values: one row per image, one column per x, which is positive, in the order in which they are passed.
    """
    x, means = values.columns.to_numpy(dtype=float), values.mean().to_numpy()
    if not (means >= 0).any():
        return None
    if means[0] >= 0:
        return Estimate(float(x[0]), math.nan, math.nan, len(values))
    found = first_crossing(np.log(x), values.to_numpy().T, 0.0)
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
    decimals = {QUANTITIES[column].title: QUANTITIES[column].decimals for column in shown}
    return html_table(pd.DataFrame({**found, **(more or {})}, index=pd.Index(cells, name=index)), decimals, caption)


def estimated(rows: Mapping[Key, Mapping[str, object]]) -> dict[Key, dict[str, object]]:
    """Rows of a table in which values per image (a Series) are their mean with its interval."""
    import pandas as pd

    found = {(name, column): v for name, row in rows.items() for column, v in row.items() if isinstance(v, pd.Series)}
    estimates = dict(zip(found, intervals(list(found.values())), strict=True))
    return {name: {column: estimates.get((name, column), v) for column, v in row.items()} for name, row in rows.items()}


def table(
    rows: Mapping[str, Mapping[str, object]],
    index: str,
    decimals: Mapping[str, int] | int | None = None,
    caption: str = "",
) -> Markup:
    """An HTML table of rows by name, each a value for each column; values per image (a Series) become their mean.

    A column that begins with a quantity's label ("SSIM gained") has that quantity's decimals, unless it is in
    `decimals`; others have 2. One number is for all columns.
    """
    import pandas as pd

    frame = pd.DataFrame.from_dict(estimated(rows), orient="index").rename_axis(index)
    if isinstance(decimals, int):
        return html_table(frame, decimals, caption)
    own = {str(name): q.decimals for q in QUANTITIES.values() for name in frame if str(name).startswith(q.label)}
    return html_table(frame, own | dict(decimals or {}), caption)
