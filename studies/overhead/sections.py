"""The page of the overhead study: the start's part of a reconstruction, and what each operation costs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies._rows import table
from studies.overhead.results import Cost, Overhead, Setting
from workbench.metrics import Estimate
from workbench.reporting import MainFigure, Section, Words, heat_map, readable, side_by_side, svg
from workbench.stages.measure_cost import ENCODING, OPERATIONS, START, STEP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))
BAR = 0.02
"""The part of a reconstruction's time that severity encoding is to stay below."""


def answer(found: Overhead) -> list[str]:
    """The largest part of the time that encoding and start take."""
    settings = list(found.costs)
    largest = max(settings, key=found.share)
    return WORDS.sentences(
        bar=BAR,
        encoding=found.share(largest),
        step=min(found.costs[s][STEP].seconds / found.costs[s][ENCODING].seconds for s in settings),
        rule=max(found.share(s, start=START) for s in settings),
        measured=found.start_share,
    )


def main_figure(found: Overhead) -> MainFigure:
    """The encoding's part of the time."""
    caption = f"Of one image's reconstruction, on {', '.join(found.machines)}; weights are random."
    return MainFigure(_share_map(found, ENCODING), _described(ENCODING), caption)


def share_section(found: Overhead) -> Section:
    """The start's part of a reconstruction, for the encoding alone and for the rule that contains it."""
    rows: dict[str, dict[str, object]] = {}
    for setting in found.costs:
        row = rows.setdefault(_words(setting), {})
        for start, name in ((ENCODING, "encoding"), (START, "start rule")):
            row[f"with the {name}, ms"] = 1e3 * found.reconstruction(setting, start=start)
            row[f"{name}, % of time"] = 100 * found.share(setting, start=start)
            row[f"{name}, % of FLOPs"] = 100 * found.share(setting, "flops", start=start)
    decimals = {column: 1 for row in rows.values() for column in row}
    caption = f"Of one image, on {', '.join(found.machines)}"
    return WORDS.section(
        "share",
        nfe=found.nfe,
        measured=found.start_share,
        figure=svg(_share_map(found, START), _described(START)),
        table=table(rows, "setting", decimals, caption),
    )


def parts_section(found: Overhead) -> Section:
    """Time, compute and memory of each operation."""

    def of(caption: str, cell: Callable[[Cost], object]) -> Markup:
        rows = {_words(s): {name: cell(costs[name]) for name in OPERATIONS} for s, costs in found.costs.items()}
        return table(rows, "setting", 3, caption)

    def timing(cost: Cost) -> Estimate:
        low, high = cost.quartiles  # in the place of an interval's ends
        return Estimate(1e3 * cost.seconds, 1e3 * low, 1e3 * high, 0)

    tables = [
        of("Time of one image, ms (quartiles)", timing),
        of("Compute of one image, GFLOP", lambda cost: cost.flops / 1e9),
        of("Peak memory of the batch, MB", lambda cost: cost.peak_bytes / 1e6),
    ]
    return WORDS.section("parts", folded=True, tables=side_by_side(tables))


SECTIONS = (share_section, parts_section)
"""The page's sections, in order."""


def _share_map(found: Overhead, start: str) -> "Figure":
    """The start's part of the time, %: settings of size and batch x autoencoders."""
    rows = list(dict.fromkeys((setting.size, setting.batch) for setting in found.costs))
    columns = list(dict.fromkeys(setting.autoencoder for setting in found.costs))

    def alone(setting: Setting) -> Estimate:
        part = 100 * found.share(setting, start=start) if setting in found.costs else math.nan
        return Estimate(part, math.nan, math.nan, 0)

    return heat_map(
        [[alone(Setting(column, *row)) for column in columns] for row in rows],
        [f"{size} px, batch {batch}" for size, batch in rows],
        columns,
        title=f"{start.capitalize()}, % of a reconstruction's time",
        column_title="autoencoder",
        decimals=1,
    )


def _described(start: str) -> str:
    return f"Heat map of the part of a reconstruction's time: {start}"


def _words(setting: Setting) -> str:
    return f"{readable(setting.autoencoder)}, {setting.size} px, batch {setting.batch}"
