"""Figures of distances and relations: a dendrogram, a map, a labelled scatter plot.

The layout is that of `figures`: in pixels of the page, in its text colour, no text below 10 pixels.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.core.config import UserError
from workbench.metrics import Estimate, average_linkage
from workbench.reporting.curves import _FOOTER, _colour, _marker, _plain
from workbench.reporting.figures import (
    _INK,
    _LABEL,
    _POINTS,
    _SMALL,
    _TITLE,
    _WIDTH,
    _canvas,
    _text,
    _title_lines,
    _wrapped,
)
from workbench.reporting.formats import image_count
from workbench.reporting.labels import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE = _colour(0)


def dendrogram(distances: NDArray[np.floating], names: Sequence[str], *, title: str, unit: str) -> "Figure":
    """The tree of average linkage over a symmetric (n, n) distance matrix, n >= 2; leaves at the left.

    Raises:
        UserError: when `distances` is not names x names.
    """
    from scipy.cluster.hierarchy import dendrogram as layout

    if distances.shape != (len(names), len(names)) or len(names) < 2:
        raise UserError(f"dendrogram {title!r}: {distances.shape} distances do not belong to {len(names)} names")
    tree = layout(average_linkage(distances), no_plot=True)
    row, gutter = 30.0, 92.0
    figure, canvas, axes, top = _framed(title, "", row * len(names), gutter)
    for ends, heights in zip(tree["icoord"], tree["dcoord"], strict=True):
        axes.plot(heights, ends, color=_BLUE, linewidth=1.8, solid_capstyle="round", solid_joinstyle="round")
    # scipy puts leaf i at 10 i + 5; the first is on top
    axes.set(ylim=(10 * len(names), 0), xlim=(0, float(np.max(tree["dcoord"])) * 1.05 or 1), yticks=())
    for place, leaf in enumerate(tree["leaves"] or []):
        at = (gutter - 5, top + (place + 0.5) * row)
        _text(canvas, at, _wrapped(names[leaf], 16), _LABEL, va="center", ha="right")
    axes.set_xlabel(unit, size=_SMALL, color=_INK, labelpad=2)
    axes.grid(axis="x", color=_INK, alpha=0.15, linewidth=0.6)
    return figure


def point_map(points: NDArray[np.float64], names: Sequence[str], *, title: str, unit: str) -> "Figure":
    """Named points in a plane, (n, 2), with the same scale on both axes."""
    figure, _, axes, _ = _framed(title, "", 250.0, 32.0)
    low, high = points.min(0), points.max(0)
    # equal scales: the height in units follows from the aspect ratio
    extent = _extent(axes)
    units = max(*((high - low) * 1.5 / extent), 1e-9)
    (left, bottom), (right, top) = (low + high - extent * units) / 2, (low + high + extent * units) / 2
    axes.set(xlim=(left, right), ylim=(bottom, top))
    for i, point in enumerate(points):
        axes.plot(*point, marker=_marker(i), markersize=7.5, color=_colour(i), linestyle="none")
    axes.set_xlabel(unit, size=_SMALL, color=_INK, labelpad=2)
    _label_points(axes, points, [readable(name) for name in names], _LABEL)
    return figure


def labelled_scatter(
    x: ArrayLike, y: Sequence[Estimate], labels: Sequence[str], *, title: str, x_label: str, y_label: str
) -> "Figure":
    """Points with short labels and their intervals in y."""
    note = ", ".join(part for part in (y_label, image_count(y)) if part)
    figure, _, axes, _ = _framed(title, note, 390.0, 32.0, width=480.0)
    across, up = np.asarray(x, dtype=float), np.array([value.mean for value in y])
    for position, value in zip(across, y, strict=True):
        if not math.isnan(value.low):
            axes.plot([position] * 2, [value.low, value.high], color=_BLUE, alpha=0.45, linewidth=1.2)
    axes.plot(across, up, marker="o", markersize=4.5, color=_BLUE, linestyle="none")
    axes.margins(0.07, 0.07)
    axes.autoscale_view()
    axes.axhline(0, color=_INK, alpha=0.4, linewidth=0.8)
    axes.set_xlabel(x_label, size=_SMALL, color=_INK, labelpad=2)
    _label_points(axes, np.column_stack([across, up]), labels, _SMALL)
    return figure


def _framed(
    title: str, note: str, plot_height: float, gutter: float, width: float = _WIDTH
) -> "tuple[Figure, Axes, Axes, float]":
    """A titled figure with one plot: figure, canvas, the plot's axes, and the pixels above the plot."""
    title_lines = _title_lines(title, width)
    top = 10 + 1.3 * _TITLE * len(title_lines) + (1.6 * _SMALL if note else 0)
    height = top + plot_height + _FOOTER
    figure, canvas = _canvas(width, height, title)
    _text(canvas, (0, 2), title_lines, _TITLE, va="top", weight="bold")
    if note:
        _text(canvas, (0, top - 6 - 1.3 * _SMALL), [note], _SMALL, va="top", alpha=0.75)
    axes = figure.add_axes((gutter / width, _FOOTER / height, 1 - (gutter + 8) / width, plot_height / height))
    _plain(axes)
    return figure, canvas, axes, top


def _extent(axes: "Axes") -> NDArray[np.float64]:
    """Width and height of the axes in pixels of the page."""
    box, figure = axes.get_position(), axes.get_figure(root=True)
    assert figure is not None
    return np.array([box.width * figure.get_figwidth(), box.height * figure.get_figheight()]) * _POINTS


def _label_points(axes: "Axes", points: NDArray[np.float64], labels: Sequence[str], size: float) -> None:
    """Place each label next to its point where it overlaps least with other elements, inside the axes.

    Greedy, from the top point down; labels in dense regions are connected to their points by thin lines.
    """
    extent = _extent(axes)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    at = (points - [left, bottom]) / [right - left, top - bottom] * extent
    taken = [(*(p - 4), *(p + 4)) for p in at]
    for i in np.argsort(-at[:, 1], kind="stable"):
        text = np.array([_width(labels[i], size), 1.25 * size])
        best = min(_places(at[i], text), key=lambda box: _cost(box, at[i], taken, extent))
        taken.append(best)
        offset = (np.array(best[:2]) + np.array(best[2:])) / 2 - at[i]
        # distance of the label's nearest edge from its point
        away = math.hypot(*np.maximum(np.abs(offset) - text / 2, 0))
        line = {"arrowstyle": "-", "color": _INK, "alpha": 0.4, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            labels[i],
            points[i],
            xytext=offset,
            textcoords="offset points",
            size=size,
            color=_INK,
            ha="center",
            va="center",
            arrowprops=line if away > 9 else None,
        )


def _width(text: str, size: float) -> float:
    """Upper bound of the width of a text in the page's font, which is unknown here; capitals and arrows are wide."""
    return size * sum(0.6 if character.islower() else 0.82 for character in text)


_Box = tuple[float, float, float, float]


def _places(position: NDArray[np.float64], text: NDArray[np.float64]) -> list[_Box]:
    """Boxes (left, bottom, right, top) around a position, upwards in y, the nearest first."""
    boxes = []
    for distance in (4.0, 10.0, 18.0, 28.0, 40.0, 54.0):
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            centre = position + np.array([x, y]) * (text / 2 + distance)
            low, high = centre - text / 2, centre + text / 2
            boxes.append((float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    return boxes


def _cost(box: _Box, position: NDArray[np.float64], taken: Sequence[_Box], extent: NDArray[np.float64]) -> float:
    """Overlap, area outside the axes (with more weight), and a little for distance."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    outside = area - _overlap(box, (0.0, 0.0, float(extent[0]), float(extent[1])))
    away = math.hypot((box[0] + box[2]) / 2 - position[0], (box[1] + box[3]) / 2 - position[1])
    return 4 * outside + sum(_overlap(box, other) for other in taken) + 0.2 * away


def _overlap(a: _Box, b: _Box) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
