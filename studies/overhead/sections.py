"""The page of the overhead study: the start's part of a reconstruction, and what each operation costs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies.overhead.results import Overhead
from workbench.metrics import Estimate
from workbench.reporting import MainFigure, Section, Words, heat_map, html_table, readable, side_by_side, svg
from workbench.stages.measure_cost import ENCODING, OPERATIONS, START, STEP

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import Series

WORDS = Words(Path(__file__).with_name("templates"))
BAR = 0.02
"""The part of a reconstruction's time that severity encoding is to stay below."""


def answer(found: Overhead) -> list[str]:
    """The largest part of the time that encoding and start take."""
    seconds = found.costs["seconds"]
    return WORDS.sentences(
        bar=BAR,
        encoding=found.share().max(),
        step=(seconds[STEP] / seconds[ENCODING]).min(),
        rule=found.share(START).max(),
        measured=found.start_share,
    )


def main_figure(found: Overhead) -> MainFigure:
    """The encoding's part of the time."""
    caption = f"Of one image's reconstruction, on {', '.join(found.machines)}; weights are random."
    return MainFigure(_share_map(found, ENCODING), f"Heat map of the part of the time: {ENCODING}", caption)


def share_section(found: Overhead) -> Section:
    """The part of the whole start rule, which contains the encoding."""
    figure = svg(_share_map(found, START), f"Heat map of the part of the time: {START}")
    return WORDS.section("share", nfe=found.nfe, measured=found.start_share, figure=figure)


def parts_section(found: Overhead) -> Section:
    """Time, compute and memory of each operation."""
    seconds, low, high = (1e3 * found.costs[quantity] for quantity in ("seconds", "low", "high"))
    flops, memory = found.costs["flops"], found.costs["peak_bytes"]
    times = {
        name: [Estimate(*figures, 0) for figures in zip(seconds[name], low[name], high[name], strict=True)]
        for name in OPERATIONS
    }
    tables = [
        _table(found, times, "Time of one image, ms (quartiles)"),
        _table(found, {name: flops[name] / 1e9 for name in OPERATIONS}, "Compute of one image, GFLOP"),
        _table(found, {name: memory[name] / 1e6 for name in OPERATIONS}, "Peak memory of the batch, MB"),
    ]
    return WORDS.section("parts", folded=True, tables=side_by_side(tables))


def _table(found: Overhead, columns: "Mapping[str, Series | Sequence[Estimate]]", caption: str) -> Markup:
    """A row for each setting, a column for each operation."""
    import pandas as pd

    names = [f"{readable(autoencoder)}, {size} px, batch {batch}" for autoencoder, size, batch in found.costs.index]
    rows = pd.DataFrame(columns, index=found.costs.index).set_axis(pd.Index(names, name="setting"))
    return html_table(rows, 3, caption)


def _share_map(found: Overhead, start: str) -> "Figure":
    """The start's part of the time, %: settings of size and batch x autoencoders."""
    shares = 100 * found.share(start).unstack("autoencoder", sort=False)
    return heat_map(
        [[Estimate(part, math.nan, math.nan, 0) for part in row] for row in shares.to_numpy()],
        [f"{size} px, batch {batch}" for size, batch in shares.index],
        list(shares.columns),
        title=f"{start.capitalize()}, % of a reconstruction's time",
        column_title="autoencoder",
        decimals=1,
    )
