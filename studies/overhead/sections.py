"""The page of the overhead study: the start's part of a reconstruction, and what each operation costs."""

import math
from pathlib import Path

from studies.overhead.results import Overhead
from workbench.metrics import Estimate
from workbench.reporting import MainFigure, Section, Words, heat_map, html_table, readable, side_by_side
from workbench.stages.measure.measure_cost import ENCODING, START, STEP

WORDS = Words(Path(__file__).with_name("templates"))
BAR = 0.02
"""The part of a reconstruction's time that severity encoding is to stay below."""


def answer(found: Overhead) -> list[str]:
    """The largest part of the time that encoding and start take."""
    return WORDS.sentences(
        bar=BAR,
        encoding=found.share().max(),
        step=(found.seconds[STEP] / found.seconds[ENCODING]).min(),
        rule=found.share(START).max(),
        measured=found.start_share,
    )


def main_figure(found: Overhead, start: str = ENCODING) -> MainFigure:
    """The start's part of the time: settings of size and batch x autoencoders."""
    shares = 100 * found.share(start).unstack(sort=False, level="autoencoder")
    figure = heat_map(
        [[Estimate(part, math.nan, math.nan, 0) for part in row] for row in shares.to_numpy()],
        [f"{size} px, batch {batch}" for size, batch in shares.index],
        list(shares.columns),
        title=f"{start.capitalize()}, % of a reconstruction's time",
        column_title="autoencoder",
        decimals=1,
    )
    caption = f"Of one image's reconstruction, on {', '.join(found.machines)}; weights are random."
    return MainFigure(figure, f"Heat map of the part of the time: {start}", caption)


def share_section(found: Overhead) -> Section:
    """The part of the whole start rule, which contains the encoding."""
    figure = main_figure(found, START).html()
    return WORDS.section("share", nfe=found.nfe, measured=found.start_share, figure=figure)


def parts_section(found: Overhead) -> Section:
    """Time, compute and memory of each operation: a row for each setting."""
    shown = {
        "Time of one image, ms (quartiles)": found.costs["time"].map(lambda time: time.scaled(1e3)),
        "Compute of one image, GFLOP": found.costs["flops"] / 1e9,
        "Peak memory of the batch, MB": found.costs["peak_bytes"] / 1e6,
    }
    settings = [
        f"{readable(autoencoder)}, {size} px, batch {batch}" for autoencoder, size, batch in found.seconds.index
    ]
    tables = [
        html_table(costs.set_axis(settings).rename_axis("setting"), 3, caption) for caption, costs in shown.items()
    ]
    return WORDS.section("parts", folded=True, tables=side_by_side(tables))
