"""What the SNR-matching study says: quality and cost against the offset, its tolerance, and the regret of each rule.

All differences are paired: the same image and measurement, one start against another. A regret is the PSNR that a
rule loses to `oracle_quality`, each image's best start of the `forward` sweep.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from studies._oracle_quality import oracle_quality
from studies._rows import ABSENT, difference, has_column, over_images, put
from workbench.config import UserError
from workbench.metrics import Estimate, first_crossing, mean_interval
from workbench.reporting import (
    QUANTITIES,
    Line,
    MainFigure,
    Section,
    column_estimate,
    curves,
    html_table,
    number,
    paragraph,
    readable,
    severity_lines,
    side_by_side,
    spoken,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

TOLERATED = 0.1
"""dB of PSNR that a start may cost to count as good as the match."""
CHANNELS = ("forward", "mmse")
MATCH = "snr_match, forward"
_NUM_BINS = 4


@dataclass(frozen=True)
class Sweep:
    """One degradation's cells, each with one row per image, indexed by image id.

    Attributes:
        swept: channel -> offset in dB, ascending -> rows.
        again: offset -> rows of the `forward` sweep with other noise; empty where there is none.
        rules: the rules whose regret is asked, by name, the match of either channel first.
        oracles: what regret is measured against, by how the best start was chosen.
    """

    swept: "dict[str, dict[float, DataFrame]]"
    again: "dict[float, DataFrame]"
    rules: "dict[str, DataFrame]"
    oracles: "dict[str, DataFrame]"

    def change(self, channel: str, offset: float, column: str = "psnr") -> "Series":
        """By how much a start is above the match of the `forward` channel, image by image."""
        return difference(self.swept[channel][offset], self.rules[MATCH], column, "two starts")

    def regret(self, rule: str, oracle: str) -> "Series":
        """PSNR lost to an oracle, image by image."""
        return difference(self.oracles[oracle], self.rules[rule], "psnr", "a rule and the oracle")

    def at_nfe(self, nfe: float) -> "Series | None":
        """PSNR of the `forward` sweep at a mean NFE, interpolated between its offsets; None outside the sweep."""
        cells = sorted(self.swept["forward"].values(), key=lambda cell: cell["nfe"].mean())
        costs = [float(cell["nfe"].mean()) for cell in cells]
        if not costs[0] <= nfe <= costs[-1]:
            return None
        above = max(int(np.searchsorted(costs, nfe)), 1)
        apart = costs[above] - costs[above - 1]
        share = (nfe - costs[above - 1]) / apart if apart else 0.0
        psnr: Series = (1 - share) * cells[above - 1]["psnr"] + share * cells[above]["psnr"]
        return psnr


HINDSIGHT, OTHER_NOISE = "in hindsight", "on other noise"


def read_sweeps(results: "StudyResults") -> dict[str, Sweep]:
    """The sweep of each degradation.

    Raises:
        UserError: for results without a match (offset 0 dB of the `forward` channel).
    """
    sweeps = {}
    for degradation, rows in results.frame.groupby("degradation", sort=False):
        swept: dict[str, dict[float, DataFrame]] = {channel: {} for channel in CHANNELS}
        again: dict[float, DataFrame] = {}
        rules: dict[str, DataFrame] = {}
        for _, cell in rows.groupby("cell", sort=False):
            one = cell.iloc[0]
            cell = cell.set_index("image_id").sort_index()
            if one["rule"] != "snr_match":
                put(rules, _rule_name(one), cell, f"{_rule_name(one)} on {degradation}")
                continue
            offset, first_draw = float(one["offset_db"]), one["sample"] == "0"
            name = f"{one['channel']} at {offset:g} dB on {degradation}"
            put(swept[one["channel"]] if first_draw else again, offset, cell, name)
        swept = {channel: dict(sorted(cells.items())) for channel, cells in swept.items() if cells}
        if 0.0 not in swept.get("forward", {}):
            raise UserError(f"no start matches the SNR on {degradation}: sweep start.offset_db through 0")
        matches = {f"snr_match, {channel}": cells[0.0] for channel, cells in swept.items() if 0.0 in cells}
        oracles = {HINDSIGHT: oracle_quality(list(swept["forward"].values()))}
        if again.keys() == swept["forward"].keys():
            other = [again[offset] for offset in swept["forward"]]
            oracles[OTHER_NOISE] = oracle_quality(list(swept["forward"].values()), chosen_on=other)
        sweeps[str(degradation)] = Sweep(swept, again, {**matches, **rules}, oracles)
    return sweeps


def _rule_name(row: "Series") -> str:
    rule = str(row["rule"])
    if rule == "official":
        return f"official, c = {float(row['c']):g}"
    if rule == "fixed":
        return f"fixed, t = {row['timestep']}"
    if rule == "oracle_variance":
        return f"true variance, {float(row['offset_db']):+g} dB".replace("-", "\N{MINUS SIGN}").replace("+0", "0")
    return rule


def tolerance(sweep: Sweep, channel: str, sign: int) -> Estimate:
    """How many dB below (-1) or above (+1) its match a channel's start costs `TOLERATED` dB; ABSENT without a sweep.

    The sweep's end stands for what is not reached within it.
    """
    cells = sweep.swept.get(channel, {})
    offsets = sorted((offset for offset in cells if sign * offset >= 0), key=abs)
    if len(offsets) < 2 or offsets[0] != 0:
        return ABSENT
    lost = [difference(cells[0.0], cells[offset], "psnr") for offset in offsets]
    return first_crossing(np.abs(offsets), np.stack(lost), TOLERATED)


def answer(results: "StudyResults") -> list[str]:
    """A sentence or two each on tolerance, regret, the authors' rule and the channel."""
    sweeps = read_sweeps(results)
    return [
        sentence
        for sentence in (
            _tolerance_sentence(sweeps),
            _regret_sentence(sweeps),
            _official_sentence(sweeps),
            _channel_sentence(sweeps),
        )
        if sentence
    ]


def _tolerance_sentence(sweeps: dict[str, Sweep]) -> str:
    parts = [f"{readable(name)} from {_reach(sweep, -1)} to {_reach(sweep, +1)}" for name, sweep in sweeps.items()]
    return (
        f"A start may miss the match by so much before it costs {TOLERATED} dB of PSNR (forward channel; positive is "
        f"earlier, with more evaluations): {'; '.join(parts)}."
    )


def _reach(sweep: Sweep, sign: int) -> str:
    found = tolerance(sweep, "forward", sign)
    end = max((sign * offset for offset in sweep.swept["forward"]), default=0)
    if found.mean >= end:
        return f"beyond {number(sign * end, 0)} dB, where the sweep ends"
    return f"{spoken(found.scaled(sign), 1)} dB"


def _regret_sentence(sweeps: dict[str, Sweep]) -> str:
    # both figures over the same degradations
    sweeps = {name: sweep for name, sweep in sweeps.items() if OTHER_NOISE in sweep.oracles} or sweeps
    bounds = {name: _mean_regret(sweeps, MATCH, name) for name in (HINDSIGHT, OTHER_NOISE)}
    text = f"snr_match loses {spoken(bounds[HINDSIGHT], 2)} dB to the best start of each image, chosen in hindsight"
    fair = bounds[OTHER_NOISE]
    if np.isnan(fair.mean):
        return text + ", which flatters the oracle, since the best of several draws is also the luckiest."
    if fair.high <= TOLERATED:
        verdict = f"it is within {TOLERATED} dB of it"
    elif fair.low > TOLERATED:
        verdict = f"it is not within {TOLERATED} dB of it"
    else:
        verdict = f"whether that is within {TOLERATED} dB cannot be told from so few images"
    return (
        f"{text}, and {spoken(fair, 2)} dB to the same oracle where the start is chosen on other noise than it is "
        f"scored on: {verdict}. The difference is the luck of the draw."
    )


def _mean_regret(sweeps: dict[str, Sweep], rule: str, oracle: str) -> Estimate:
    """Over the degradations that have both, one value per image."""
    return mean_interval(
        over_images([s.regret(rule, oracle) for s in sweeps.values() if rule in s.rules and oracle in s.oracles])
    )


def _official_sentence(sweeps: dict[str, Sweep]) -> str:
    """snr_match against the authors' rule at the same mean NFE; empty without such cells."""
    names = dict.fromkeys(rule for s in sweeps.values() for rule in s.rules if rule.startswith("official"))
    parts = []
    for rule in names:
        gains = [gain for s in sweeps.values() if (gain := equal_cost_gain(s, rule)) is not None]
        if gains:
            parts.append(f"{spoken(mean_interval(over_images(gains)), 2)} dB ({rule})")
    if not parts:
        return ""
    gained = " and ".join(parts)
    return f"At the same mean NFE, interpolated along its sweep, snr_match is above the authors' rule by {gained}."


def equal_cost_gain(sweep: Sweep, rule: str) -> "Series | None":
    """PSNR of snr_match above a rule at the rule's mean NFE, image by image; None where the sweep lacks that cost."""
    if rule not in sweep.rules:
        return None
    cell = sweep.rules[rule]
    at_cost = sweep.at_nfe(float(cell["nfe"].mean()))
    return None if at_cost is None else at_cost - cell["psnr"]


def _channel_sentence(sweeps: dict[str, Sweep]) -> str:
    changes = [s.change("mmse", 0.0) for s in sweeps.values() if 0.0 in s.swept.get("mmse", {})]
    if not changes:
        return ""
    change = mean_interval(over_images(changes))
    return (
        f"Matched under the mmse reading instead of forward, a start changes PSNR by {spoken(change, 2)} dB on average."
    )


def offset_section(results: "StudyResults") -> Section:
    """Quality and cost against the offset."""
    sweeps = read_sweeps(results)
    figures = [svg(_psnr_figure(sweeps), "Change of PSNR against the offset from the match, for each degradation")]
    panels = {
        name: {
            channel: Line(list(cells), [column_estimate(cell, "nfe") for cell in cells.values()])
            for channel, cells in sweep.swept.items()
        }
        for name, sweep in sweeps.items()
    }
    figure = curves(
        panels, title="Mean NFE of an image", x_label="offset, dB", y_label="NFE", x_marks={"match": 0}, order=CHANNELS
    )
    figures.append(svg(figure, "Mean NFE against the offset from the match, for each degradation"))
    text = paragraph(
        "An offset of 0 dB begins where the latent's SNR is the one that the severity encoder predicts. Below it "
        "(negative) the chain begins later and trusts the estimate more; above it, earlier. Differences are paired "
        "with the forward match, image by image."
    )
    return Section("What does a start off the match cost?", text + side_by_side(figures) + _offset_table(sweeps))


def _psnr_figure(sweeps: dict[str, Sweep]) -> "Figure":
    panels = {
        name: {
            channel: Line(list(cells), [mean_interval(sweep.change(channel, offset)) for offset in cells])
            for channel, cells in sweep.swept.items()
        }
        for name, sweep in sweeps.items()
    }
    return curves(
        panels,
        title="PSNR above the forward match",
        x_label="offset, dB",
        y_label="PSNR, dB",
        zero=True,
        x_marks={"match": 0},
        order=CHANNELS,
    )


def _offset_table(sweeps: dict[str, Sweep]) -> Markup:
    import pandas as pd

    shown = [
        column
        for column in ("psnr", "ssim", "ssim_valid", "lpips", "residual_ratio", "nfe")
        if all(has_column(cell, column) for s in sweeps.values() for cell in s.swept["forward"].values())
    ]
    rows = {
        f"{readable(name)}, {number(offset, 0)} dB": [column_estimate(cell, column) for column in shown]
        for name, sweep in sweeps.items()
        for offset, cell in sweep.swept["forward"].items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[QUANTITIES[c].title for c in shown])
    table.index.name = "start"
    decimals = {QUANTITIES[c].title: QUANTITIES[c].decimals for c in shown}
    return html_table(table, decimals, "The forward channel")


def tolerance_section(results: "StudyResults") -> Section:
    """How far off the match a start may be."""
    import pandas as pd

    sweeps = read_sweeps(results)
    rows = {
        f"{readable(name)}, {channel}": [tolerance(sweep, channel, -1).scaled(-1), tolerance(sweep, channel, +1)]
        for name, sweep in sweeps.items()
        for channel in sweep.swept
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["later by, dB", "earlier by, dB"])
    table.index.name = "degradation, channel"
    text = paragraph(
        f"The offset at which the mean PSNR first lies {TOLERATED} dB below that of the channel's own match, "
        "interpolated between the offsets of the sweep. The sweep's end stands for what is not reached within it."
    )
    return Section("How exact must the match be?", text + html_table(table, 1))


def regret_section(results: "StudyResults") -> Section:
    """What each rule loses to each image's best start, and at which severities."""
    import pandas as pd

    sweeps = read_sweeps(results)
    columns = [f"{readable(name)}, {oracle}" for name in sweeps for oracle in (HINDSIGHT, OTHER_NOISE)] + ["NFE"]
    rows = {}
    for rule in dict.fromkeys(rule for s in sweeps.values() for rule in s.rules):
        cells = [s.rules[rule] for s in sweeps.values() if rule in s.rules]
        rows[readable(rule)] = [
            mean_interval(s.regret(rule, oracle)) if rule in s.rules and oracle in s.oracles else ABSENT
            for s in sweeps.values()
            for oracle in (HINDSIGHT, OTHER_NOISE)
        ] + [mean_interval(over_images([cell["nfe"] for cell in cells]))]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "rule"
    text = paragraph(
        "Regret is the PSNR that a rule loses to oracle_quality: each image's best start of the forward sweep, which "
        "takes the truth and a reconstruction from every start. In hindsight the best is chosen on the draw that is "
        "scored, so it is also the luckiest of several draws: an upper bound for starts of the sweep. On other noise, "
        "the start is chosen on a second draw of the noise for the same measurements: what knowing the best start is "
        "worth without the luck. A negative regret means that the rule does better than a start chosen so."
    )
    figures = [_bins_figure(sweeps), _cost_figure(sweeps)]
    return Section("What would a better start gain?", text + html_table(table, 2) + side_by_side(figures))


def _bins_figure(sweeps: dict[str, Sweep]) -> Markup:
    edges = np.linspace(0, 1, _NUM_BINS + 1).tolist()
    panels = {}
    for name, sweep in sweeps.items():
        severity = sweep.rules[MATCH]["severity"]
        bins = np.clip(np.digitize(severity, edges) - 1, 0, _NUM_BINS - 1)
        oracle = OTHER_NOISE if OTHER_NOISE in sweep.oracles else HINDSIGHT
        shown = [rule for rule in sweep.rules if rule.startswith(("snr_match", "official")) or ", 0 dB" in rule]
        panels[name] = {
            rule: [mean_interval(sweep.regret(rule, oracle).to_numpy()[bins == i]) for i in range(_NUM_BINS)]
            for rule in shown
        }
    figure = severity_lines(panels, edges, title="Regret by severity", y_label="PSNR lost to oracle_quality, dB")
    return svg(figure, "PSNR that rules lose to the best start, against severity, for each degradation")


def _cost_figure(sweeps: dict[str, Sweep]) -> Markup:
    """PSNR against NFE, relative to the match, so that the degradations have one scale."""
    panels = {}
    for name, sweep in sweeps.items():
        groups = {f"snr_match, {channel}": list(cells.values()) for channel, cells in sweep.swept.items()}
        for rule, cell in sweep.rules.items():
            if not rule.startswith("snr_match"):
                groups.setdefault(rule.split(",")[0], []).append(cell)
        panels[name] = {
            group: Line(
                [float(cell["nfe"].mean()) for cell in cells],
                [mean_interval(difference(cell, sweep.rules[MATCH], "psnr")) for cell in cells],
            )
            for group, cells in ((g, sorted(c, key=lambda cell: float(cell["nfe"].mean()))) for g, c in groups.items())
        }
    figure = curves(
        panels, title="PSNR for its cost", x_label="mean NFE", y_label="PSNR above the forward match, dB",
        log_x=True, zero=True,
    )  # fmt: skip
    return svg(figure, "PSNR against mean NFE of every rule, for each degradation")


SECTIONS = (offset_section, tolerance_section, regret_section)
"""The page's sections, in order."""


def main_figure(results: "StudyResults") -> MainFigure:
    """PSNR against the offset."""
    return MainFigure(_psnr_figure(read_sweeps(results)), "PSNR against the offset")
