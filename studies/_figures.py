"""Figures that several studies draw."""

from collections.abc import Mapping
from typing import Any

from pandas import DataFrame

from workbench.metrics import mean_intervals
from workbench.reporting import Line, MainFigure, curves, readable


def lines(
    panels: Mapping[str, Mapping[str, DataFrame]],
    title: str,
    x_label: str,
    y_label: str,
    caption: str = "",
    **style: Any,
) -> MainFigure:
    """Means over images against a number: `curves`, whose `style` it takes.

    Args:
        panels: by a panel's title and a line's name, one row per image and one column per position, named by it.
    """
    drawn = {
        panel: {
            name: Line(values.columns.to_numpy(dtype=float).tolist(), mean_intervals(values))
            for name, values in frames.items()
        }
        for panel, frames in panels.items()
    }
    figure = curves(drawn, title=title, x_label=x_label, y_label=y_label, **style)
    shown = ", ".join(map(readable, panels))
    return MainFigure(figure, f"{title}: {y_label} against {x_label}, one panel each for {shown}", caption)
