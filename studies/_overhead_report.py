"""What the overhead study says: its answer, and the sections of its page."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies._overhead_costs import (
    Cost,
    Costs,
    Setting,
    machines,
    measured_shares,
    nfe_of,
    read_costs,
    reconstruction,
    share,
)
from workbench.metrics import Estimate, ratio_of_means
from workbench.reporting import (
    MainFigure,
    Section,
    heat_map,
    html_table,
    listed,
    number,
    paragraph,
    percent,
    ranged,
    side_by_side,
    svg,
)
from workbench.stages.measure_cost import ENCODING, OPERATIONS, START, STEP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.results import StudyResults

BAR = 0.02
"""The part of a reconstruction's time that severity encoding is to stay below."""


def answer(results: "StudyResults") -> list[str]:
    """A few sentences with the figures that they rest on."""
    costs, nfe = read_costs(results), nfe_of(results)
    largest = max(costs, key=lambda setting: share(costs[setting], nfe))
    shares = [share(one, nfe) for one in costs.values()]
    meets = max(shares) <= BAR
    steps = [_steps(one) for one in costs.values()]
    time, compute = _range(shares), _range([share(one, nfe, "flops") for one in costs.values()])
    rule = _range([share(one, nfe, start=START) for one in costs.values()])
    encoding = (
        f"{'Little' if meets else 'More than hoped for'}: severity encoding takes {time} of the time of a "
        f"reconstruction with {number(nfe, 0)} network evaluations, most for {_words(largest)} "
        f"({'at most' if meets else 'beyond'} the {number(100 * BAR, 0)} % that were hoped for), and {compute} of its "
        f"compute. One reverse step takes {number(min(steps), 0)} to {number(max(steps), 0)} times as long as the "
        "encoding."
    )
    correction = (
        "The start rule that corrects the encoder by the measurement's residual costs more: with it the start is "
        f"{rule} of the time."
    )
    said = [encoding, correction]
    if (measured := measured_shares(results)) is not None:
        start, seconds = measured
        part = percent(ratio_of_means(start, seconds), 1)
        said.append(
            f"In restorations at the default setting with the pretrained pair, {len(seconds)} images with "
            f"{number(nfe, 1)} evaluations on average, the whole start took {part} of the time."
        )
    return [*said, f"Times were taken on {listed(machines(results))}, weights are random."]


def share_section(results: "StudyResults") -> Section:
    """The start's part of a reconstruction."""
    import pandas as pd

    costs, nfe = read_costs(results), nfe_of(results)
    rows = {
        _words(setting): [
            1e3 * reconstruction(one, nfe),
            100 * share(one, nfe),
            100 * share(one, nfe, "flops"),
            1e3 * reconstruction(one, nfe, start=START),
            100 * share(one, nfe, start=START),
            100 * share(one, nfe, "flops", start=START),
        ]
        for setting, one in costs.items()
    }
    columns = [
        "reconstruction, ms",
        "encoding, % of time",
        "encoding, % of FLOPs",
        "with the start rule, ms",
        "start rule, % of time",
        "start rule, % of FLOPs",
    ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    source = (
        "the mean of the default setting, measured with the pretrained pair" if results.evidence else "an assumption"
    )
    text = paragraph(
        f"One image's reconstruction is the start, {number(nfe, 1)} reverse steps ({source}) and the decoder. The "
        "start is the severity encoding alone, or the rule that also asks the measurement's residual and contains it."
    )
    figures = [
        svg(share_map(costs, nfe, start), f"Heat map of the part of a reconstruction's time: {start}")
        for start in (ENCODING, START)
    ]
    caption = f"Of one image, on {listed(machines(results))}"
    html = text + side_by_side(figures) + html_table(table, dict.fromkeys(columns, 1), caption)
    return Section("What part of a reconstruction is the start?", html)


def parts_section(results: "StudyResults") -> Section:
    """Time, compute and memory of each operation."""
    costs = read_costs(results)
    text = paragraph(
        "Each operation alone, in the batch that is named. Time is the median of the repeats, their quartiles below, "
        "compute is that of the networks and their gradients by torch's counter, both of one image. Peak memory is "
        "that of the whole batch beyond networks and measurements: on a CPU the rise of a fresh process's resident "
        "set, on a GPU what torch allocates."
    )
    tables = [
        _table(costs, "Time of one image, ms (quartiles)", _timing),
        _table(costs, "Compute of one image, GFLOP", lambda cost: cost.flops / 1e9),
        _table(costs, "Peak memory of the batch, MB", lambda cost: cost.peak_bytes / 1e6),
    ]
    return Section("What does each part cost?", text + side_by_side(tables))


SECTIONS = (share_section, parts_section)


def main_figure(results: "StudyResults") -> MainFigure:
    """The encoding's shares."""
    return MainFigure(share_map(read_costs(results), nfe_of(results), ENCODING), "The encoding's shares")


def share_map(costs: Mapping[Setting, Costs], nfe: float, start: str) -> "Figure":
    """The start's part of the time, %: settings of size and batch x autoencoders."""
    rows = list(dict.fromkeys((setting.size, setting.batch) for setting in costs))
    columns = list(dict.fromkeys(setting.autoencoder for setting in costs))
    matrix = [
        [
            _alone(100 * share(costs[setting], nfe, start=start))
            if (setting := Setting(column, *row)) in costs
            else _alone(math.nan)
            for column in columns
        ]
        for row in rows
    ]
    return heat_map(
        matrix,
        [f"{size} px, batch {batch}" for size, batch in rows],
        columns,
        title=f"{start.capitalize()}, % of a reconstruction's time",
        column_title="autoencoder",
        decimals=1,
    )


def _table(costs: Mapping[Setting, Costs], caption: str, cell: Callable[[Cost], object]) -> Markup:
    import pandas as pd

    rows = {_words(setting): [cell(one[name]) for name in OPERATIONS] for setting, one in costs.items()}
    return html_table(pd.DataFrame.from_dict(rows, orient="index", columns=list(OPERATIONS)), 3, caption)


def _timing(cost: Cost) -> Estimate:
    """The median, with the quartiles in the place of an interval's ends."""
    low, high = cost.quartiles
    return Estimate(1e3 * cost.seconds, 1e3 * low, 1e3 * high, 0)


def _alone(figure: float) -> Estimate:
    """A figure without an interval."""
    return Estimate(figure, math.nan, math.nan, 0)


def _words(setting: Setting) -> str:
    return f"{setting.autoencoder}, {setting.size} px, batch {setting.batch}"


def _steps(costs: Costs) -> float:
    """How many severity encodings one reverse step costs."""
    return costs[STEP].seconds / costs[ENCODING].seconds


def _range(parts: Sequence[float]) -> str:
    """Parts of 1 as "0.3 to 1.2 %"."""
    return f"{ranged([100 * part for part in parts], 1)} %"
