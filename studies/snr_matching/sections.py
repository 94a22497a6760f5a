"""The page of the SNR-matching study: quality and cost against the offset, its tolerance, and each rule's regret."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from studies._rows import ABSENT, intervals, means, means_table, over_images, table
from studies.snr_matching.results import CHANNELS, HINDSIGHT, MATCH, OTHER_NOISE, TOLERATED, Sweep
from workbench.metrics import Estimate, mean_interval
from workbench.reporting import Line, MainFigure, Section, Words, curves, number, readable, severity_lines, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import Series

WORDS = Words(Path(__file__).with_name("templates"))
NUM_BINS = 4
AT_EQUAL_COST = "snr_match above it at its NFE"
Sweeps = Mapping[str, Sweep]


def answer(sweeps: Sweeps) -> list[str]:
    """How exact a match must be, what a better start would gain, and what other rules lose."""
    reaches = [sweep.tolerance("forward", sign) for sweep in sweeps.values() for sign in (-1, 1)]
    rules = dict.fromkeys(rule for sweep in sweeps.values() for rule in sweep.rules if rule.startswith("official"))
    official = [(rule, _mean([sweep.gain_at_equal_cost(rule) for sweep in sweeps.values()])) for rule in rules]
    regret = {
        oracle: _mean([s.regret(MATCH, oracle) if oracle in s.oracles else None for s in sweeps.values()])
        for oracle in (HINDSIGHT, OTHER_NOISE)
    }
    return WORDS.sentences(
        reach=min([reach for reach in reaches if reach.num_images], key=lambda reach: reach.mean, default=None),
        regret=regret,
        official=min([o for o in official if o[1].num_images], key=lambda o: o[1].mean, default=None),
        mmse=_mean([s.change("mmse", 0.0) if 0.0 in s.swept.get("mmse", {}) else None for s in sweeps.values()]),
    )


def main_figure(sweeps: Sweeps) -> MainFigure:
    """PSNR against the offset."""
    panels = {
        name: {
            channel: Line(list(cells), intervals([sweep.change(channel, offset) for offset in cells]))
            for channel, cells in sweep.swept.items()
        }
        for name, sweep in sweeps.items()
    }
    figure = _over_offset(panels, "PSNR above the forward match", "PSNR, dB", zero=True)
    caption = (
        "PSNR against the offset from the match, paired with the forward match by image. At 0 dB a start has the SNR "
        "that the severity encoder predicts; left of it the chain begins later and relies on the estimate more."
    )
    return MainFigure(figure, "Change of PSNR against the offset from the match, per degradation", caption)


def tolerance_section(sweeps: Sweeps) -> Section:
    """How far off the match a start may be, and what it then costs."""
    panels = {
        name: {c: Line(list(cells), means(list(cells.values()), "nfe")) for c, cells in sweep.swept.items()}
        for name, sweep in sweeps.items()
    }
    rows = {
        f"{readable(name)}, {channel}": {
            "later by, dB": sweep.tolerance(channel, -1).scaled(-1),
            "earlier by, dB": sweep.tolerance(channel, +1),
        }
        for name, sweep in sweeps.items()
        for channel in sweep.swept
    }
    return WORDS.section(
        "tolerance",
        tolerated=TOLERATED,
        table=table(rows, "degradation, channel", 1),
        figure=svg(
            _over_offset(panels, "Mean NFE of an image", "NFE"),
            "Mean NFE against the offset from the match, per degradation",
        ),
    )


def regret_section(sweeps: Sweeps) -> Section:
    """What each rule loses to each image's best start, and at which severities."""
    rows = {}
    for rule in dict.fromkeys(rule for sweep in sweeps.values() for rule in sweep.rules):
        lost: dict[str, object] = {
            f"{readable(name)}, {oracle}": mean_interval(sweep.regret(rule, oracle))
            if rule in sweep.rules and oracle in sweep.oracles
            else ABSENT
            for name, sweep in sweeps.items()
            for oracle in (HINDSIGHT, OTHER_NOISE)
        }
        nfe = over_images([sweep.rules[rule]["nfe"] for sweep in sweeps.values() if rule in sweep.rules])
        gains = [g for sweep in sweeps.values() if (g := sweep.gain_at_equal_cost(rule)) is not None]
        rows[readable(rule)] = lost | {"NFE": mean_interval(nfe), AT_EQUAL_COST: mean_interval(over_images(gains))}
    return WORDS.section("regret", table=table(rows, "rule"), bins=_bins_figure(sweeps), cost=_cost_figure(sweeps))


def table_section(sweeps: Sweeps) -> Section:
    """All means of the forward sweep."""
    cells = {
        f"{readable(name)}, {number(offset, 0)} dB": cell
        for name, sweep in sweeps.items()
        for offset, cell in sweep.swept["forward"].items()
    }
    columns = ("psnr", "ssim", "ssim_valid", "lpips", "residual_ratio", "nfe")
    return Section("Every start", means_table(cells, columns, "start", "The forward channel"), folded=True)


SECTIONS = (tolerance_section, regret_section, table_section)
"""The page's sections, in order."""


def _mean(found: "Iterable[Series | None]") -> Estimate:
    """Over the degradations that have it, one value per image."""
    return mean_interval(over_images([one for one in found if one is not None]))


def _over_offset(panels: Mapping[str, Mapping[str, Line]], title: str, y_label: str, *, zero: bool = False) -> "Figure":
    return curves(
        panels, title=title, x_label="offset, dB", y_label=y_label, zero=zero, x_marks={"match": 0}, order=CHANNELS
    )


def _bins_figure(sweeps: Sweeps) -> Markup:
    """Regret over bins of severity, on other noise where there is a second draw."""
    edges = np.linspace(0, 1, NUM_BINS + 1).tolist()
    panels: dict[str, dict[str, list[Estimate]]] = {}
    for name, sweep in sweeps.items():
        bins = np.clip(np.digitize(sweep.rules[MATCH]["severity"], edges) - 1, 0, NUM_BINS - 1)
        oracle = OTHER_NOISE if OTHER_NOISE in sweep.oracles else HINDSIGHT
        shown = [rule for rule in sweep.rules if rule.startswith(("snr_match", "official")) or ", 0 dB" in rule]
        panels[name] = {
            rule: [mean_interval(sweep.regret(rule, oracle).to_numpy()[bins == i]) for i in range(NUM_BINS)]
            for rule in shown
        }
    figure = severity_lines(panels, edges, title="Regret by severity", y_label="PSNR lost to the best start, dB")
    return svg(figure, "PSNR that rules lose to the best start, against severity, per degradation")


def _cost_figure(sweeps: Sweeps) -> Markup:
    """PSNR against NFE, relative to the match, so that the degradations have one scale."""
    panels: dict[str, dict[str, Line]] = {}
    for name, sweep in sweeps.items():
        groups = {f"snr_match, {channel}": list(cells.values()) for channel, cells in sweep.swept.items()}
        for rule, cell in sweep.rules.items():
            if not rule.startswith("snr_match"):
                groups.setdefault(rule.split(",")[0], []).append(cell)
        panels[name] = {}
        for group, cells in groups.items():
            cells.sort(key=lambda cell: float(cell["nfe"].mean()))
            gains = intervals([cell["psnr"] - sweep.rules[MATCH]["psnr"] for cell in cells])
            panels[name][group] = Line([float(cell["nfe"].mean()) for cell in cells], gains)
    figure = curves(
        panels, title="PSNR for its cost", x_label="mean NFE", y_label="PSNR above the forward match, dB",
        log_x=True, zero=True,
    )  # fmt: skip
    return svg(figure, "PSNR against mean NFE of every rule, per degradation")
