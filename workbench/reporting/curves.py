"""Figures of lines with an interval at each point: over any number, or over bins of severity.

The layout is that of `figures`: in pixels of the page, in its text colour, no text below 10 pixels.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.config import UserError
from workbench.metrics import Estimate
from workbench.reporting.figures import _INK, _LABEL, _SMALL, _TITLE, _WIDTH, _canvas, _text, _title_lines
from workbench.reporting.formats import image_count
from workbench.reporting.labels import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# after Okabe & Ito (2008), distinguishable for colour-blind readers on white and on black; markers repeat it
_COLOURS = ("#3b82c4", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6bb1", "#999999")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_FOOTER = 36.0
_DASHED = (0, (4, 3))


@dataclass(frozen=True)
class Line:
    """Points joined in order; a point without a figure (NaN) interrupts the line.

    Raises:
        UserError: if the numbers of estimates and positions differ.
    """

    x: Sequence[float]
    y: Sequence[Estimate]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise UserError(f"a line needs an estimate at each position, got {len(self.x)} and {len(self.y)}")


Panels = Mapping[str, Mapping[str, Line]]
"""A panel's title -> its lines by name."""


def curves(
    panels: Panels,
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    zero: bool = False,
    x_marks: Mapping[str, float] | None = None,
    y_marks: Mapping[str, float] | None = None,
    order: Sequence[str] = (),
) -> "Figure":
    """Lines over a number, with an interval at each point; several panels are two per row, on common axes.

    `order` fixes the colour and the marker of each name, so that several figures can share them. `zero` draws y = 0.
    Marks are dashed lines through every panel, vertical at x or horizontal at y, named by their label; an empty label
    means no name.

    Raises:
        UserError: if `log_x` is used with a position that is not positive.
    """
    x_marks, y_marks = x_marks or {}, y_marks or {}
    estimates = _estimates(panels)
    positions = [x for lines in panels.values() for line in lines.values() for x in line.x] + list(x_marks.values())
    if log_x and any(x <= 0 for x in positions):
        raise UserError(f"curves {title!r}: a logarithmic axis needs positive positions, got {min(positions):g}")
    scale = np.log if log_x else np.asarray
    low, high = _limits(scale(positions).tolist())
    # positions at the ends would be on the frame
    limits = (math.exp(low), math.exp(high)) if log_x else (low, high)
    frame = _Frame(limits, _limits([*_ends(estimates), *y_marks.values(), *([0.0] if zero else [])]), x_label)
    counts = image_count(estimates)
    figure, drawn = _panels(panels, frame, title, [y_label, *([counts] if counts else [])], order)
    lowest = 0.0
    for axes in drawn:
        _number_ticks(axes, log_x, few=len(panels) > 1)
        if zero:
            axes.axhline(0, color=_INK, alpha=0.4, linewidth=0.8)
        lowest = min(lowest, _name_lines(axes, x_marks))
        for name, y in y_marks.items():
            axes.axhline(y, color=_INK, alpha=0.7, linewidth=0.9, linestyle=_DASHED)
            # on the side with more room
            _mark(axes, readable(name), (0, y), ("axes fraction", "data"), above=2 * y < sum(frame.y_limits))
    low, high = frame.y_limits
    height = drawn[0].get_window_extent().height * 72 / figure.dpi if drawn else 1.0
    stepped = min(-lowest, height / 2)
    for axes in drawn:  # room for names that were moved down
        axes.set_ylim(low, high + stepped / (height - stepped) * (high - low))
    return figure


def severity_lines(
    panels: Mapping[str, Mapping[str, Sequence[Estimate]]],
    edges: Sequence[float],
    *,
    title: str,
    y_label: str,
    order: Sequence[str] = (),
    threshold: float | None = None,
) -> "Figure":
    """Lines over bins of severity, with an interval at each point; several panels are two per row, on common axes.

    `panels` maps a panel's title to its lines, each with a name and an estimate per bin between `edges`. `order` is as
    in `curves`. `threshold` is drawn as a dashed line.
    """
    estimates = [estimate for lines in panels.values() for line in lines.values() for estimate in line]
    middles = (np.array(edges[1:]) + edges[:-1]) / 2
    # neighbours are offset, so that their intervals can be distinguished
    aside = 0.0 if all(math.isnan(estimate.low) for estimate in estimates) else 0.5 * float(np.diff(edges).min())
    placed = {
        panel: {
            name: Line((middles + aside * ((place + 0.5) / len(lines) - 0.5)).tolist(), line)
            for place, (name, line) in enumerate(lines.items())
        }
        for panel, lines in panels.items()
    }
    dashed = [] if threshold is None else [threshold]
    frame = _Frame((edges[0], edges[-1]), _limits([*_ends(estimates), 0.0, *dashed]), "severity")
    counts = image_count(estimates)
    figure, drawn = _panels(placed, frame, title, [y_label, *([f"{counts} a bin"] if counts else [])], order)
    # the labels at the ends of two panels would touch
    inner = range(1, len(middles)) if len(panels) > 1 else range(len(edges))
    for axes in drawn:
        axes.set_xticks(edges, [f"{edge:.2g}" if i in inner else "" for i, edge in enumerate(edges)])
        axes.axhline(0, color=_INK, alpha=0.4, linewidth=0.8)
        for y in dashed:
            axes.axhline(y, color=_INK, alpha=0.7, linewidth=0.9, linestyle=_DASHED)
    return figure


@dataclass(frozen=True)
class _Frame:
    """The common properties of all panels: their limits, and x."""

    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    x_label: str


def _panels(
    panels: Panels, frame: _Frame, title: str, notes: Sequence[str], order: Sequence[str]
) -> "tuple[Figure, list[Axes]]":
    """The figure with its title, legend, notes and lines, and the axes of each panel."""
    found = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    order = list(order) or found
    names = sorted(found, key=order.index) if len(found) > 1 else []
    num_columns = 2 if len(panels) > 1 else 1
    num_rows = math.ceil(len(panels) / num_columns)
    plot_height, panel_header, gap = (110.0, 24.0, 12.0) if len(panels) > 1 else (185.0, 4.0, 0.0)
    panel_header += 1.3 * _LABEL * max((panel.count("\n") for panel in panels), default=0)
    gutter, right, line_height = 34.0, 8.0, 1.4 * _SMALL
    title_lines = _title_lines(title, _WIDTH)
    legend_top = 4 + 1.3 * _TITLE * len(title_lines)
    notes_top = legend_top + line_height * math.ceil(len(names) / 2) + (6 if names else 0)
    header = notes_top + line_height * len(notes) + 6
    height = header + num_rows * (plot_height + panel_header) + _FOOTER
    panel_width = (_WIDTH - gutter - right - gap * (num_columns - 1)) / num_columns

    figure, canvas = _canvas(_WIDTH, height, f"Lines, {title}: {notes[0]} by {frame.x_label}")
    _text(canvas, (0, 2), title_lines, _TITLE, va="top", weight="bold")
    _legend(canvas, names, order, legend_top)
    _text(canvas, (0, notes_top), notes, _SMALL, va="top", alpha=0.75)
    drawn = []
    for index, (panel, lines) in enumerate(panels.items()):
        row, column = divmod(index, num_columns)
        left = gutter + column * (panel_width + gap)
        bottom = height - header - (row + 1) * (plot_height + panel_header)
        axes = figure.add_axes((left / _WIDTH, bottom / height, panel_width / _WIDTH, plot_height / height))
        for name, line in lines.items():
            _line(axes, line, order.index(name), thin=len(lines) > 1)
        _plain(axes)
        axes.set(xlim=frame.x_limits, ylim=frame.y_limits)
        last_in_column = index + num_columns >= len(panels)
        axes.tick_params(labelbottom=last_in_column, labelleft=column == 0)
        if len(panels) > 1:
            axes.set_title(readable(panel), size=_LABEL, color=_INK, pad=3)
        if last_in_column:
            axes.set_xlabel(frame.x_label, size=_SMALL, color=_INK, labelpad=2)
        drawn.append(axes)
    return figure, drawn


def _plain(axes: "Axes") -> None:
    """Remove frame and ticks, and draw a faint grid."""
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=_INK, length=0, labelsize=_SMALL, pad=3)
    axes.grid(color=_INK, alpha=0.15, linewidth=0.6)


def _line(axes: "Axes", line: Line, style: int, *, thin: bool) -> None:
    colour = _colour(style)
    for x, value in zip(line.x, line.y, strict=True):
        if not math.isnan(value.low):
            axes.plot([x] * 2, [value.low, value.high], color=colour, linewidth=1.0 if thin else 1.6, alpha=0.8)
    axes.plot(
        line.x,
        [value.mean for value in line.y],
        color=colour,
        marker=_marker(style),
        markersize=3.4 if thin else 5,
        linewidth=1.0 if thin else 1.8,
    )


def _legend(canvas: "Axes", names: Sequence[str], order: Sequence[str], top: float) -> None:
    """Names in two columns, each after a piece of its line."""
    for i, name in enumerate(names):
        style, left, middle = order.index(name), 0.5 * _WIDTH * (i % 2), top + 1.4 * _SMALL * (i // 2 + 0.5)
        canvas.plot(
            [left + 2, left + 11, left + 20],
            [middle] * 3,
            color=_colour(style),
            marker=_marker(style),
            markevery=[1],
            markersize=4.5,
            linewidth=1.4,
        )
        _text(canvas, (left + 25, middle), [readable(name)], _SMALL, va="center")


def _number_ticks(axes: "Axes", log_x: bool, *, few: bool) -> None:
    """Plain numbers at round positions; on a logarithmic axis 1, 2, 5, 10 ... if there is room for a few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    # without the labels at the ends, which would overlap those of the next panel
    most, prune = (4, "both") if few else (8, None)
    if log_x:
        limits = axes.get_xlim()
        decades = math.log10(limits[1] / limits[0])
        steps = (1.0, 2.0, 5.0) if 3 * decades <= most else (1.0, 3.0) if 2 * decades <= most else (1.0,)
        axes.set_xscale("log")
        axes.set_xlim(limits)
        axes.xaxis.set_major_locator(LogLocator(subs=steps))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=most, prune=prune, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", "\N{MINUS SIGN}")))


def _name_lines(axes: "Axes", marks: Mapping[str, float]) -> float:
    """Draw dashed lines with their names at the top; returns how far the lowest name was moved down, in points (<= 0).

    A name is on the side with more room. A line ends at its name, and names of close lines are below each other, so
    that no line runs through a name.
    """
    frame = axes.get_window_extent()
    names = sorted(marks, key=marks.__getitem__)
    places = [float(axes.transData.transform((marks[name], 0))[0]) for name in names]
    ends = [frame.x0, *places, frame.x1]
    placed: list[Bbox] = []
    lowest = 0.0
    for name, left, at, right in zip(names, ends[:-2], places, ends[2:], strict=True):
        text = _mark(axes, readable(name), (marks[name], 1), ("data", "axes fraction"), above=False)
        if at - left > right - at:
            text.set(ha="right", position=(-text.xyann[0], text.xyann[1]))
        while (box := text.get_window_extent()).count_overlaps(placed) or any(
            other.x0 < at < other.x1 and other.y0 < box.y1 for other in placed
        ):
            text.xyann = (text.xyann[0], text.xyann[1] - 1.2 * _SMALL)
        placed.append(box)
        top = (box.y1 - frame.y0) / frame.height
        axes.axvline(marks[name], ymax=top, color=_INK, alpha=0.7, linewidth=0.9, linestyle=_DASHED)
        lowest = min(lowest, text.xyann[1] + 2)
    return lowest


def _mark(
    axes: "Axes", label: str, at: tuple[float, float], coordinates: tuple[str, str], *, above: bool
) -> "Annotation":
    """The name of a mark, to the right of its start and above or below it."""
    return axes.annotate(
        label,
        at,
        xycoords=coordinates,
        xytext=(3, 2 if above else -2),
        textcoords="offset points",
        size=_SMALL,
        color=_INK,
        alpha=0.75,
        va="bottom" if above else "top",
    )


def _estimates(panels: Panels) -> list[Estimate]:
    return [estimate for lines in panels.values() for line in lines.values() for estimate in line.y]


def _ends(estimates: Iterable[Estimate]) -> list[float]:
    """The defined means and ends of intervals."""
    return [end for e in estimates for end in (e.mean, e.low, e.high) if not math.isnan(end)]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Limits that contain all values, with a margin."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


def _marker(place: int) -> str:
    # after one round of colours, use another marker
    return _MARKERS[(place + place // len(_MARKERS)) % len(_MARKERS)]
