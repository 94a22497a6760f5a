"""Figures for pages: matplotlib as inline SVG, and images as PNG data URIs.

Text outside coloured cells takes the page's own text colour, so that one figure serves light and dark pages. Figures
are laid out for a phone's width (360 points, one point a pixel there) and grow with the page.
"""

import base64
import io
import math
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

from workbench.config import UserError
from workbench.metrics import Estimate
from workbench.reporting.quantities import number, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scale = Literal["sequential", "diverging", "ratio"]
Red = Literal["high", "low"]

# drawn in place of the page's text colour; svg() puts currentColor there
_INK = "#0a0b0c"
_POINTS = 72.0
_WIDTH = 360.0


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
) -> "Figure":
    """A matrix with each cell's figure and interval written in it.

    `scale`: "sequential" (dark is low), "diverging" (about 0) or "ratio" (about 1, on a log scale). The last two go
    from blue to red, and `red` says which end is the bad one; `span` is where they saturate, by default at the largest
    value. `outlined` cells (row, column) get a frame.

    Raises:
        UserError: when `matrix` is not rows x columns.
    """
    if len(matrix) != len(rows) or any(len(line) != len(columns) for line in matrix):
        raise UserError(f"heat map {title!r}: the matrix is not {len(rows)} rows x {len(columns)} columns")
    row_labels = [_wrapped(row, 12) for row in rows]
    column_labels = [_wrapped(column, 11) for column in columns]
    gutter, cell_height = 72.0, 40.0
    cell_width = max((_WIDTH - gutter - 4) / len(columns), 60.0)
    header = 30 + 11 * max(label.count("\n") + 1 for label in column_labels) + (14 if column_title else 0)
    width, height = gutter + cell_width * len(columns) + 4, header + cell_height * len(rows) + 4

    figure = _figure(width, height)
    axes = figure.add_axes((gutter / width, 4 / height, 1 - (gutter + 4) / width, 1 - (header + 4) / height))
    colours = _colours(np.array([[cell.mean for cell in line] for line in matrix]), scale, span, red)
    axes.imshow(colours, aspect="auto")
    texts = [[_cell_text(cell, decimals) for cell in line] for line in matrix]
    longest = max(len(small) for line in texts for _, small in line)
    small_size = min(8.2, (cell_width - 4) / (0.6 * max(longest, 1)))
    for i, line in enumerate(texts):
        for j, (large, small) in enumerate(line):
            ink = _contrast(colours[i, j])
            axes.text(j, i + (-0.14 if small else 0), large, color=ink, size=12, ha="center", va="center")
            axes.text(j, i + 0.24, small, color=ink, size=small_size, ha="center", va="center")
    for i, j in outlined:
        _outline(axes, i, j, _contrast(colours[i, j]))
    axes.set_xticks(range(len(columns)), column_labels, size=9)
    axes.set_yticks(range(len(rows)), row_labels, size=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, colors=_INK, pad=4)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    figure.text(0, 1 - 4 / height, title, size=11.5, weight="bold", color=_INK, va="top")
    if column_title:
        axes.set_xlabel(f"{column_title} →", size=8.5, color=_INK, loc="left", labelpad=4)
        axes.xaxis.set_label_position("top")
    if row_title:
        wrapped = _wrapped(f"{row_title} ↓", 13)
        figure.text(0, 1 - (header - 4) / height, wrapped, size=8.5, color=_INK, va="bottom")
    return figure


def distributions(
    panels: Mapping[str, Mapping[str, ArrayLike]], *, title: str, unit: str, num_bins: int = 24
) -> "Figure":
    """Histograms of every panel's groups under each other, on one axis; a tick marks each mean.

    `panels` maps a panel's title to its groups, each a name and the values.
    """
    names = list(dict.fromkeys(name for groups in panels.values() for name in groups))
    arrays = {key: {name: np.asarray(v, float) for name, v in groups.items()} for key, groups in panels.items()}
    everything = np.concatenate([values for groups in arrays.values() for values in groups.values()])
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1, num_bins + 1)
    num_columns = 2 if len(panels) > 1 else 1
    num_rows = math.ceil(len(panels) / num_columns)
    row_height, panel_header, footer, header, gutter, gap = 25.0, 22.0, 32.0, 20.0, 66.0, 14.0
    panel_height = panel_header + row_height * len(names)
    width, height = _WIDTH, header + num_rows * panel_height + footer
    panel_width = (width - gutter - 8 - gap * (num_columns - 1)) / num_columns

    figure = _figure(width, height)
    figure.text(0, 1 - 4 / height, title, size=11.5, weight="bold", color=_INK, va="top")
    for index, (panel, groups) in enumerate(arrays.items()):
        row, column = divmod(index, num_columns)
        left = gutter + column * (panel_width + gap)
        bottom = height - header - (row + 1) * panel_height
        axes = figure.add_axes((left / width, bottom / height, panel_width / width, row_height * len(names) / height))
        for position, name in enumerate(names):
            if name in groups:
                _ridge(axes, groups[name], edges, base=len(names) - 1 - position)
        axes.set(xlim=(edges[0], edges[-1]), ylim=(-0.05, len(names)))
        axes.set_yticks(np.arange(len(names)) + 0.35, [_wrapped(n, 12) for n in reversed(names)] if column == 0 else [])
        last_in_column = index + num_columns >= len(panels)
        axes.tick_params(colors=_INK, length=0, labelsize=8, labelbottom=last_in_column)
        axes.tick_params(axis="y", pad=3)
        axes.spines[["left", "right", "top", "bottom"]].set_visible(False)
        axes.set_title(readable(panel), size=9, color=_INK, pad=3)
        axes.grid(axis="x", color=_INK, alpha=0.15, linewidth=0.6)
        if last_in_column:
            axes.set_xlabel(unit, size=8.5, color=_INK, labelpad=2)
    return figure


def svg(figure: "Figure", description: str) -> Markup:
    """The figure as an inline SVG element in the page's text colour; `description` is for readers who cannot see it."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt" height="[\d.]+pt"', r'\1 style="--w:\2"', text, count=1)
    label = escape(description)
    return Markup(text.replace("<svg", f'<svg class="figure" role="img" aria-label="{label}"', 1))


def png(figure: "Figure", dots_per_inch: int = 200) -> bytes:
    """The figure as a PNG file on white, for places that show no SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white")
    return buffer.getvalue()


def data_uri(image: NDArray[np.floating]) -> str:
    """An (H, W, C) image on [0, 1], C 1 or 3, as the data URI of a PNG; values outside are clipped.

    Raises:
        UserError: for another shape.
    """
    from PIL import Image

    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise UserError(f"an image to show must be (H, W, 1) or (H, W, 3), got {image.shape}")
    pixels = (np.nan_to_num(image).clip(0, 1) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Picture:
    """An (H, W, C) image on [0, 1] and the lines under it."""

    image: NDArray[np.floating]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """Pictures that belong together, laid out `columns` to a row."""

    pictures: Sequence[Picture]
    columns: int = 3


def examples(cards: Sequence[Card]) -> Markup:
    """Cards of pictures with captions, as many beside each other as the page has room for."""
    blocks = []
    for card in cards:
        pictures = Markup().join(_picture(picture) for picture in card.pictures)
        blocks.append(Markup('<div class="card" style="--columns:{}">{}</div>').format(card.columns, pictures))
    return Markup('<div class="cards">{}</div>').format(Markup().join(blocks))


def _picture(picture: Picture) -> Markup:
    lines = Markup("<br>").join(picture.lines)
    small = max(picture.image.shape[:2]) <= 128
    return Markup('<figure><img src="{}" alt="{}"{}><figcaption>{}</figcaption></figure>').format(
        data_uri(picture.image), ", ".join(picture.lines), Markup(' class="pixels"') if small else "", lines
    )


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _POINTS, height / _POINTS))


def _wrapped(label: str, width: int) -> str:
    return "\n".join(textwrap.wrap(readable(label), width))


def _cell_text(cell: Estimate, decimals: int) -> tuple[str, str]:
    """A cell's figure and its interval, the latter empty where there is none or it has no width."""
    undefined = math.isnan(cell.low) or math.isnan(cell.high)
    interval = f"{number(cell.low, decimals)} to {number(cell.high, decimals)}"
    return number(cell.mean, decimals), "" if undefined or cell.low == cell.high else interval


def _colours(values: NDArray[np.float64], scale: Scale, span: float | None, red: Red) -> NDArray[np.float64]:
    """(rows, columns, 4) colours; grey where there is no value."""
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
    # the ends of these maps are so dark that neighbouring cells look alike; most of the range reads better
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


def _outline(axes: "Axes", row: int, column: int, colour: str) -> None:
    from matplotlib.patches import Rectangle

    frame = Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False, edgecolor=colour, linewidth=1.4)
    axes.add_patch(frame)


def _ridge(axes: "Axes", values: NDArray[np.float64], edges: NDArray[np.float64], base: int) -> None:
    counts, _ = np.histogram(values, edges)
    heights = 0.8 * counts / max(counts.max(), 1)
    axes.stairs(base + heights, edges, baseline=base, fill=True, color="#3b82c4")
    axes.plot([values.mean()] * 2, [base, base + 0.85], color="#e2711d", linewidth=1.6)
