"""Figures for reports: matplotlib as inline SVG.

Text outside coloured cells has the page's own text colour, so that the same figure works on light and dark pages.
Figures are laid out in pixels of the page and shown at their own width or wider, never narrower, so that their smallest
text has 10 pixels; figures that do not fit a phone scroll in a box.
"""

import functools
import io
import math
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from html import unescape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

from workbench.core.config import UserError
from workbench.metrics import Estimate
from workbench.reporting.formats import image_count, number
from workbench.reporting.labels import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

Scale = Literal["sequential", "diverging", "ratio"]
Red = Literal["high", "low"]

# placeholder for the page's text colour; svg() replaces it by currentColor
_INK = "#0a0b0c"
_POINTS = 72.0
_WIDTH = 360.0
_SMALL, _LABEL, _FIGURE, _TITLE = 10.0, 10.5, 13.0, 13.0
"""Text sizes in pixels."""


def heat_map(
    matrix: Sequence[Sequence[Estimate]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    row_title: str = "",
    column_title: str = "",
    decimals: int = 2,
    scale: Scale = "sequential",
    red: Red = "high",
    span: float | None = None,
    outlined: Collection[tuple[int, int]] = (),
    links: Mapping[tuple[int, int], str] | None = None,
) -> "Figure":
    """A matrix with each cell's figure and interval written in it, and the number of images below the title.

    `scale`: "sequential" (dark is low), "diverging" (around 0) or "ratio" (around 1, on a log scale). The last two go
    from blue to red, and `red` is the undesirable end; `span` is where they saturate, by default at the largest value.
    `outlined` cells (row, column) get a frame; those in `links` link to the given address.

    Raises:
        UserError: when `matrix` is not rows x columns.
    """
    if len(matrix) != len(rows) or any(len(line) != len(columns) for line in matrix):
        raise UserError(f"heat map {title!r}: the matrix is not {len(rows)} rows x {len(columns)} columns")
    texts = [[_cell_text(cell, decimals) for cell in line] for line in matrix]
    longest = max(len(small) for line in texts for _, small in line)
    gutter, cell_height = 62.0, 42.0
    cell_width = max((_WIDTH - gutter) / len(columns), 0.5 * _SMALL * longest + 4, 56.0)
    width = gutter + cell_width * len(columns)
    title_lines = _title_lines(title, width)
    note = image_count(cell for line in matrix for cell in line)
    column_labels = [_wrapped(column, 11) for column in columns]
    label_lines = max(map(len, column_labels))
    note_top = 2 + 1.3 * _TITLE * len(title_lines)
    labels_bottom = note_top + (1.6 * _SMALL if note else 0) + (16 if column_title else 6) + 1.25 * _LABEL * label_lines
    top = labels_bottom + 5
    height = top + cell_height * len(rows) + 1

    told = f": rows by {row_title}, columns by {column_title}" if row_title and column_title else ""
    figure, axes = _canvas(width, height, f"Heat map, {title}{told}")
    _text(axes, (0, 2), title_lines, _TITLE, va="top", weight="bold")
    if note:
        _text(axes, (0, note_top + 2), [note], _SMALL, va="top", alpha=0.75)
    if column_title:
        at = labels_bottom - 1.25 * _LABEL * label_lines - 3
        _text(axes, (gutter + 2, at), [f"{column_title} →"], _SMALL, va="bottom", alpha=0.75)
    if row_title:
        _text(axes, (0, labels_bottom), _wrapped(f"{row_title} ↓", 13), _SMALL, va="bottom", alpha=0.75)
    for j, label in enumerate(column_labels):
        _text(axes, (gutter + (j + 0.5) * cell_width, labels_bottom), label, _LABEL, va="bottom", ha="center")
    colours = _colours(np.array([[cell.mean for cell in line] for line in matrix]), scale, span, red)
    for i, line in enumerate(texts):
        middle = top + (i + 0.5) * cell_height
        _text(axes, (gutter - 5, middle), _wrapped(rows[i], 11), _LABEL, va="center", ha="right")
        for j, (large, small) in enumerate(line):
            left, ink = gutter + j * cell_width, _contrast(colours[i, j])
            box = (left + 0.75, middle - cell_height / 2 + 0.75, cell_width - 1.5, cell_height - 1.5)
            _rectangle(axes, box, facecolor=colours[i, j])
            centre = left + cell_width / 2
            _text(axes, (centre, middle - (7 if small else 0)), [large], _FIGURE, "center", color=ink, ha="center")
            _text(axes, (centre, middle + 10), [small], _SMALL, "center", color=ink, ha="center")
            if (i, j) in outlined:
                _rectangle(axes, (box[0] + 2, box[1] + 2, box[2] - 4, box[3] - 4), edgecolor=ink, linewidth=1.4)
            if links and (i, j) in links:
                name = f"{readable(rows[i])}, {readable(columns[j])}: {_named(matrix[i][j], decimals)}"
                _rectangle(axes, box, url=links[i, j], label=name)
    return figure


def position_maps(panels: Mapping[str, NDArray[np.float64]], *, title: str, scale: Scale, span: float) -> "Figure":
    """A small image of each panel's values (height, width), three per row, in the colours of `heat_map`.

    The minimum and the maximum are below each. `span` is where the colours of all saturate.
    """
    header, gap, side, num_columns = 30.0, 16.0, 100.0, 3
    step = side + 46
    num_rows = math.ceil(len(panels) / num_columns)
    figure, axes = _canvas(_WIDTH, header + num_rows * step, f"Maps, {title}")
    _text(axes, (0, 2), _title_lines(title, _WIDTH), _TITLE, va="top", weight="bold")
    for place, (name, values) in enumerate(panels.items()):
        row, column = divmod(place, num_columns)
        left, top = column * (side + gap), header + row * step
        _text(axes, (left, top + 4), [readable(name)], _LABEL, va="top")
        height, width = values.shape
        colours = _colours(values, scale, span, "high")
        for i, j in np.ndindex(height, width):
            box = (left + j * side / width, top + 20 + i * side / height, side / width, side / height)
            _rectangle(axes, box, facecolor=colours[i, j])
        ends = f"{number(float(values.min()), 2)} to {number(float(values.max()), 2)}"
        _text(axes, (left, top + side + 22), [ends], _SMALL, va="top", alpha=0.75)
    return figure


def distributions(
    panels: Mapping[str, Mapping[str, ArrayLike]], *, title: str, unit: str, num_bins: int = 24
) -> "Figure":
    """Histograms of every panel's groups below each other, on a common axis; a tick marks each mean.

    `panels` maps a panel's title to its groups, each with a name and the values of its images.
    """
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(name for groups in panels.values() for name in groups))
    arrays = {key: {name: np.asarray(v, float) for name, v in groups.items()} for key, groups in panels.items()}
    samples = [values for groups in arrays.values() for values in groups.values()]
    low, high = float(min(v.min() for v in samples)), float(max(v.max() for v in samples))
    edges = np.linspace(low, high if high > low else low + 1, num_bins + 1)
    num_columns = 2 if len(panels) > 1 else 1
    num_rows = math.ceil(len(panels) / num_columns)
    row_height, panel_header, footer, header, gutter, gap = 28.0, 26.0, 36.0, 36.0, 62.0, 14.0
    panel_height = panel_header + row_height * len(names)
    width, height = _WIDTH, header + num_rows * panel_height + footer
    panel_width = (width - gutter - 8 - gap * (num_columns - 1)) / num_columns

    figure, canvas = _canvas(width, height, f"Histograms, {title}")
    _text(canvas, (0, 2), [title], _TITLE, va="top", weight="bold")
    note = image_count(Estimate(math.nan, math.nan, math.nan, v.size) for v in samples)
    _text(canvas, (0, 4 + 1.3 * _TITLE), [f"{note} each"], _SMALL, va="top", alpha=0.75)
    for index, (panel, groups) in enumerate(arrays.items()):
        row, column = divmod(index, num_columns)
        left = gutter + column * (panel_width + gap)
        bottom = height - header - (row + 1) * panel_height
        axes = figure.add_axes((left / width, bottom / height, panel_width / width, row_height * len(names) / height))
        for position, name in enumerate(names):
            if name in groups:
                _ridge(axes, groups[name], edges, base=len(names) - 1 - position)
            if column == 0:
                middle = height - bottom - (len(names) - position - 0.6) * row_height
                _text(canvas, (gutter - 5, middle), _wrapped(name, 11), _SMALL, va="center", ha="right")
        axes.set(xlim=(edges[0], edges[-1]), ylim=(-0.05, len(names)), yticks=())
        # without the labels at the ends, which would overlap those of the next panel
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, prune="both"))
        last_in_column = index + num_columns >= len(panels)
        axes.tick_params(colors=_INK, length=0, labelsize=_SMALL, labelbottom=last_in_column)
        axes.spines[["left", "right", "top", "bottom"]].set_visible(False)
        axes.set_title(readable(panel), size=_LABEL, color=_INK, pad=3)
        axes.grid(axis="x", color=_INK, alpha=0.15, linewidth=0.6)
        if last_in_column:
            axes.set_xlabel(unit, size=_SMALL, color=_INK, labelpad=2)
    return figure


def svg(figure: "Figure", description: str = "") -> Markup:
    """The figure as inline SVG in the page's text colour.

    It is in a box that scrolls if the page is narrower than the figure. Links are named by their artist's label.

    Args:
        description: alternative text for readers who cannot see it; by default the figure's own.
    """
    import matplotlib as mpl

    description = description or str(figure.get_label())
    drawn = [artist for axes in figure.axes for artist in axes.get_children() if artist.get_url()]
    names = {artist.get_url(): str(artist.get_label()) for artist in drawn}
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    # a style element would apply to the whole page, and group ids would be repeated in every figure
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "sans-serif", text)
    text = re.sub(
        r'<a xlink:href="([^"]*)"[^>]*>',
        lambda link: f'<a href="{link[1]}"><title>{escape(names[unescape(link[1])])}</title>',
        text,
    )
    width = figure.get_figwidth() * _POINTS
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", text, count=1)
    # role "img" has no parts, so screen readers would lose the links
    role = "group" if names else "img"
    text = text.replace("<svg", f'<svg class="figure" role="{role}" aria-label="{escape(description)}"', 1)
    return Markup(f'<div class="plot" style="--w:{width:.0f}">{text}</div>')


def png(figure: "Figure", dots_per_inch: int = 200) -> bytes:
    """The figure as a PNG file on white, for places that cannot show SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white")
    return buffer.getvalue()


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _POINTS, height / _POINTS))


def _canvas(width: float, height: float, label: str) -> "tuple[Figure, Axes]":
    """A figure and axes with pixel coordinates from the top left corner; `label` describes the content."""
    figure = _figure(width, height)
    figure.set_label(label)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def _rectangle(axes: "Axes", box: tuple[float, float, float, float], **style: Any) -> None:
    """A rectangle at (left, top, width, height), filled if `style` has a facecolor."""
    from matplotlib.patches import Rectangle

    style = {"linewidth": 0, **style}
    left, top, width, height = box
    rectangle = Rectangle((left, top), width, height, fill="facecolor" in style, **style)
    rectangle.set_transform(axes.transData)
    axes.add_artist(
        rectangle
    )  # add_patch is several times slower, because it computes limits that a canvas already has


def _title_lines(title: str, width: float) -> list[str]:
    """A title in lines of at most `width` pixels, estimated for bold letters because the page's font is unknown."""
    return textwrap.wrap(title, int(width / (0.62 * _TITLE)))


def _text(
    axes: "Axes",
    at: tuple[float, float],
    lines: Sequence[str],
    size: float,
    va: Literal["top", "center", "bottom"],
    weight: str = "normal",
    **style: Any,
) -> None:
    """Lines of text, one element each, which also aligns them in browsers with another font than matplotlib's."""
    x, y = at
    step = 1.2 * size
    above = {"top": 0.0, "center": (len(lines) - 1) / 2, "bottom": len(lines) - 1.0}[va]
    for index, line in enumerate(lines):
        axes.text(x, y + (index - above) * step, line, va=va, **{"font": _font(size, weight), "color": _INK, **style})


@functools.cache
def _font(size: float, weight: str) -> "FontProperties":
    # made once: each reads half of matplotlib's settings
    from matplotlib.font_manager import FontProperties

    return FontProperties(size=size, weight=weight)


def _wrapped(label: str, width: int) -> list[str]:
    return textwrap.wrap(readable(label), width)


def _cell_text(cell: Estimate, decimals: int) -> tuple[str, str]:
    """A cell's figure and its interval; the latter is empty if there is none or it has no width."""
    undefined = math.isnan(cell.low) or math.isnan(cell.high)
    interval = f"{number(cell.low, decimals)} to {number(cell.high, decimals)}"
    return number(cell.mean, decimals), "" if undefined or cell.low == cell.high else interval


def _named(cell: Estimate, decimals: int) -> str:
    """A cell's figure, interval and number of images, for tooltips and screen readers."""
    figure, interval = _cell_text(cell, decimals)
    return f"{figure}{f' [{interval}]' if interval else ''}, n = {cell.num_images}"


def _colours(values: NDArray[np.float64], scale: Scale, span: float | None, red: Red) -> NDArray[np.float64]:
    """(rows, columns, 4) colours; grey if there is no value."""
    import matplotlib as mpl

    if scale == "ratio":
        values = np.log(np.where(values > 0, values, np.nan))
        span = math.log(span) if span else None
    known = values[np.isfinite(values)]
    if scale == "sequential":
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    else:
        high = span or (float(np.abs(known).max()) if known.size else 1.0)
        low = -high
    # the ends of these maps are so dark that neighbouring cells look alike, so they are cut off
    trim = 0.04 if scale == "sequential" else 0.1
    position = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    name = "viridis" if scale == "sequential" else "RdBu_r" if red == "high" else "RdBu"
    colour_map = mpl.colormaps[name].with_extremes(bad="#bbbbbb")
    shown = trim + (1 - 2 * trim) * position.clip(0, 1)
    return np.asarray(colour_map(np.ma.masked_invalid(shown)))


def _contrast(colour: NDArray[np.float64]) -> str:
    """Black or white, whichever has the higher contrast (WCAG relative luminance)."""
    linear = np.where(colour[:3] <= 0.04045, colour[:3] / 12.92, ((colour[:3] + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "black" if luminance > 0.179 else "white"


def _ridge(axes: "Axes", values: NDArray[np.float64], edges: NDArray[np.float64], base: int) -> None:
    counts, _ = np.histogram(values, edges)
    heights = 0.8 * counts / max(counts.max(), 1)
    axes.stairs(base + heights, edges, baseline=base, fill=True, color="#3b82c4")
    axes.plot([values.mean()] * 2, [base, base + 0.85], color="#e2711d", linewidth=1.6)
