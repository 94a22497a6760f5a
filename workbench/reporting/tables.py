"""Tables for terminals (rich) and reports (HTML) from data frames whose cells are estimates, numbers or text."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from workbench.metrics import Estimate, mean_interval
from workbench.reporting.formats import image_count, number
from workbench.reporting.labels import QUANTITIES, described_images, readable

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

    from workbench.experiments.results import StudyResults

_MOST_AXES = 4
"""Maximum number of label columns in the terminal; more labels share one column."""
_TERMINAL_COLUMNS = (
    *("psnr", "ssim", "ssim_valid", "lpips", "dists", "niqe", "spectral_angle", "si_sdr", "log_spectral_distance"),
    *("nfe", "seconds"),
)


def column_estimate(frame: "DataFrame", column: str) -> Estimate:
    """Mean and interval of a results column over a cell's images, in the displayed unit."""
    return mean_interval(frame[column].to_numpy(dtype=float) * QUANTITIES[column].scale)


def html_table(frame: "DataFrame", decimals: Mapping[str, int] | int = 2, caption: str = "") -> Markup:
    """`frame` as an HTML table that can be sorted by column, with its index as row headings.

    An estimate's interval is in small print below its figure. The number of images is above the table if it is the same
    for all estimates, else in a column if it is the same within each row, else with each interval. `decimals` is one
    number for all columns, or a number per column name (2 by default).
    """
    rows = [(str(label), row) for label, row in zip(frame.index, frame.itertuples(index=False, name=None), strict=True)]
    counts = [{v.num_images for v in row if isinstance(v, Estimate) and v.num_images} for _, row in rows]
    common, by_row = len(set().union(*counts)) <= 1, all(len(found) <= 1 for found in counts)
    columns = [str(name) for name in frame.columns]
    names = [*columns, *([] if common or not by_row else ["n"])]
    heading = Markup().join(Markup("<th scope=col>{}</th>").format(name) for name in names)
    corner = Markup("<th scope=col>{}</th>").format(frame.index.name or "")
    lines = []
    for (label, row), count in zip(rows, counts, strict=True):
        cells = [_html_cell(v, _places(decimals, c), with_count=not by_row) for c, v in zip(columns, row, strict=True)]
        if len(names) > len(columns):
            cells.append(_html_cell(max(count, default=math.nan), 0))
        lines.append(Markup("<tr><th scope=row>{}</th>{}</tr>").format(label, Markup().join(cells)))
    note = image_count(v for _, row in rows for v in row if isinstance(v, Estimate)) if common else ""
    # above the scrolling box, so that it wraps on a phone
    title = Markup('<p class="note">{}</p>').format(". ".join(part for part in (caption, note) if part))
    return (title if caption or note else Markup()) + Markup(
        '<div class="table"><table class="sortable"><thead><tr>{}{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(corner, heading, Markup().join(lines))


def rich_table(frame: "DataFrame", title: str, decimals: Mapping[str, int] | int = 2) -> "Table":
    """`frame` as a terminal table, with its index as the first column; estimates as "23.81 [23.50, 24.12]"."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column(str(frame.index.name or ""))
    for name in frame.columns:
        table.add_column(str(name), justify="right")
    for label, row in zip(frame.index, frame.itertuples(index=False, name=None), strict=True):
        cells = (_plain(v, _places(decimals, str(c))) for c, v in zip(frame.columns, row, strict=True))
        table.add_row(str(label), *cells)
    return table


def terminal_table(results: "StudyResults") -> "Table":
    """A study in the terminal: one line per cell with the number of images, PSNR with its interval, and other means."""
    from rich.table import Table

    shown = [name for name in _TERMINAL_COLUMNS if name in results.frame and results.frame[name].notna().all()]
    images = described_images(results)
    title = f"{results.name} ({results.preset})" + (f": {images}" if images else "")
    table = Table(title=title, title_justify="left", header_style="bold")
    together = len(results.axes) > _MOST_AXES
    for axis in ["cell"] if together else results.axes:
        table.add_column(readable(axis))
    table.add_column("images", justify="right")
    for name in shown:
        heading = QUANTITIES[name].title + (" [95 %]" if name == "psnr" else "")
        table.add_column(heading, justify="right", no_wrap=name == "psnr")
    for labels, cell in _cells(results):
        texts = []
        for name in shown:
            quantity = QUANTITIES[name]
            if name == "psnr":
                texts.append(f"{column_estimate(cell, name):.{quantity.decimals}f}")
            else:
                texts.append(number(float(cell[name].mean()) * quantity.scale, quantity.decimals))
        names = list(map(readable, labels))
        # axes that a cell does not have repeat the label of its start
        table.add_row(*([", ".join(dict.fromkeys(names))] if together else names), str(len(cell)), *texts)
    return table


def _cells(results: "StudyResults") -> list[tuple[tuple[str, ...], "DataFrame"]]:
    """The cells with results, in the order of the axes' labels."""
    if not results.axes:
        return [((), results.frame)]
    order = {name: {label: i for i, label in enumerate(labels)} for name, labels in results.axes.items()}
    groups = [(tuple(map(str, key)), cell) for key, cell in results.frame.groupby(list(results.axes), observed=True)]
    return sorted(groups, key=lambda group: [order[n][label] for n, label in zip(order, group[0], strict=True)])


def _places(decimals: Mapping[str, int] | int, column: str) -> int:
    return decimals if isinstance(decimals, int) else decimals.get(column, 2)


def _html_cell(value: Any, decimals: int, with_count: bool = False) -> Markup:
    """A table cell that sorts by its unrounded figure (`data-value`)."""
    figure, small, key = _plain(value, decimals), [], value
    if isinstance(value, Estimate):
        figure, key = number(value.mean, decimals), value.mean
        if not math.isnan(value.low) and value.low != value.high:
            small.append(f"{number(value.low, decimals)} to {number(value.high, decimals)}")
        if with_count and value.num_images:
            small.append(f"n = {value.num_images}")
    text = Markup("<small>{}</small>").format(", ".join(small)) if small else Markup()
    attribute = Markup(' data-value="{}"').format(repr(float(key))) if isinstance(key, int | float) else Markup()
    return Markup("<td{}>{}{}</td>").format(attribute, figure, text)


def _plain(value: Any, decimals: int) -> str:
    if isinstance(value, Estimate):
        return format(value, f".{decimals}f")
    if isinstance(value, float):
        return number(value, decimals)
    return str(value)
