"""Heat maps of a grid of results: rows are encoders, columns the degradations tested on, and cells lead to examples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies._robustness_grid import Grid
from workbench.metrics import Estimate
from workbench.reporting import heat_map, svg
from workbench.reporting.figures import Red, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def grid_map(
    grid: Grid,
    matrix: Sequence[Sequence[Estimate]],
    title: str,
    decimals: int = 2,
    scale: Scale = "sequential",
    red: Red = "high",
    span: float | None = None,
) -> Markup:
    """A matrix over the grid as inline SVG; matched cells are outlined."""
    figure = grid_figure(grid, matrix, title, decimals, scale, red, span)
    return svg(figure, f"Heat map, {title}: rows are encoders, columns the degradations tested on")


def grid_figure(
    grid: Grid,
    matrix: Sequence[Sequence[Estimate]],
    title: str,
    decimals: int = 2,
    scale: Scale = "sequential",
    red: Red = "high",
    span: float | None = None,
) -> "Figure":
    """The same as a figure."""

    def place(encoder: str, degradation: str) -> tuple[int, int]:
        return grid.encoders.index(encoder), grid.degradations.index(degradation)

    return heat_map(
        matrix,
        grid.encoders,
        grid.degradations,
        title=title,
        row_title="encoder trained on",
        column_title="tested on",
        decimals=decimals,
        scale=scale,
        red=red,
        span=span,
        outlined=[place(*pair) for pair in grid.matched_pairs()],
        links={place(*pair): f"#{anchor(grid.frames[pair])}" for pair in grid.pairs_of(*grid.encoders)},
    )


def anchor(cell: "DataFrame") -> str:
    """Where on the page the examples of a cell are."""
    return f"cell-{cell['cell'].iloc[0]}"
