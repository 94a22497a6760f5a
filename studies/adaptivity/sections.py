"""The page of the adaptivity study: what adapting gains, where, how a budget is spent, and what limits it."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pandas import Series

from studies._rows import ABSENT, intervals, mean_over, table
from studies._trivial import trivial_table
from studies.adaptivity.results import (
    ALLOCATED,
    ALONE,
    BY_LEVEL,
    FULL_NOISE,
    HINDSIGHT,
    MATCHED,
    NUM_BINS,
    ONE,
    OTHER_NOISE,
    TRUE_VARIANCE,
    Adaptivity,
    Setting,
)
from workbench.metrics import Estimate, mean_interval
from workbench.reporting import QUANTITIES, Line, MainFigure, Section, Words, curves, side_by_side

WORDS = Words(Path(__file__).with_name("templates"))
BINS = ("mild", "middle", "severe")
"""Thirds of the images by predicted variance; the edges are of validation images."""
TRUTH = (TRUE_VARIANCE, OTHER_NOISE, HINDSIGHT)
"""Rules that know what no user does, each more than the one before."""
NUM_PLACES = 25
"""At how many predicted variances the allocation is drawn."""


def answer(found: Adaptivity) -> list[str]:
    """What adapting is worth, where most, what the missing noise is worth, what could be gained, and what was tried."""
    worth = {metric: mean_over(setting.worth(metric) for setting in found.settings) for metric in found.metrics}
    setting, place = _most(found)
    most = mean_interval(setting.worth("psnr").to_numpy()[setting.bins("test") == place])
    limits = {rule: mean_over(_more(setting, rule) for setting in found.settings) for rule in TRUTH}
    return WORDS.sentences(
        worth=worth,
        shown=[metric for metric, one in worth.items() if one.low > 0],
        num_settings=len(found.settings),
        where=setting.name,
        bin=BINS[place],
        most=most,
        missing=mean_over(-setting.gain(FULL_NOISE, "psnr") for setting in found.settings)
        if all(FULL_NOISE in setting.controls for setting in found.settings)
        else ABSENT,
        limits=limits,
        true_variance=TRUTH[0],
        other_noise=OTHER_NOISE,
        less={
            metric: mean_over(setting.worth_of_less(metric) for setting in found.settings) for metric in found.metrics
        },
        num_controls=max(len(setting.controls) for setting in found.settings),
        by_level=mean_over(_over_levels(setting) for setting in found.settings)
        if all(BY_LEVEL in setting.controls for setting in found.settings)
        else ABSENT,
        num_comparisons=found.num_comparisons,
    )


def example(found: Adaptivity) -> str | None:
    """The first cell of the allocated start."""
    cells = [str(setting.allocated["cell"].iloc[0]) for setting in found.settings if setting.allocated is not None]
    return cells[0] if cells else None


def main_figure(found: Adaptivity) -> MainFigure:
    """Quality gained over one start for all, against cost: of the rules and of what bounds them."""
    panels = {setting.panel: _gain_lines(setting, "psnr") for setting in found.settings[:4]}
    figure = curves(
        panels,
        title="PSNR gained over one start for all, at equal mean cost",
        x_label="mean cost, evaluations",
        y_label="PSNR, dB",
        log_x=True,
        zero=True,
    )
    caption = (
        "0 is one start for all images, each with the noise that it lacks. Up to the error of its fit, no rule gains "
        "more than the allocated one that chooses by the same predictors, and none at all more than each image's "
        "own curve."
    )
    return MainFigure(figure, "PSNR gained by rules that adapt, against mean cost, one panel a setting", caption)


def where_section(found: Adaptivity) -> Section:
    """What adapting gains in each setting, and in each third of predicted severity."""
    rows = {
        setting.name: {
            f"{QUANTITIES[metric].label} {part}": value
            for metric in setting.metrics
            for worth in [setting.worth(metric)]
            for part, value in zip(("gained", *BINS), (worth, *_by_bin(worth, setting)), strict=False)
        }
        for setting in found.settings
    }
    panels = {
        setting.panel: {
            rule: Line(
                _middles(setting), [mean_interval(gain) for gain in _by_bin(setting.gain(rule, "psnr"), setting)]
            )
            for rule in setting.adaptive
        }
        for setting in found.settings[:4]
    }
    figure = curves(
        panels,
        title="PSNR gained over one start for all, by predicted severity",
        x_label="predicted variance, median",
        y_label="PSNR, dB",
        log_x=True,
        zero=True,
    )
    choices = {
        setting.name: {
            f"{QUANTITIES[metric].label}: {what}": setting.chosen(rules, metric)
            for metric in setting.metrics
            for what, rules in {"rule": setting.adaptive, "control": setting.controls}.items()
        }
        for setting in found.settings
    }
    return WORDS.section(
        "where",
        figure=side_by_side([MainFigure(figure, "Gain by predicted severity").html()]),
        table=table(rows, "setting", caption="Adapting over the best control at equal mean cost"),
        choices=table(choices, "setting", caption="Chosen on validation images"),
    )


def spending_section(found: Adaptivity) -> Section:
    """How many evaluations an image gets by its predicted variance, and the curves of quality that say so."""
    spending = {setting.panel: _spending_lines(setting) for setting in found.settings[:4]}
    figure = curves(
        spending,
        title="Evaluations by predicted variance, at the matched start's mean",
        x_label="predicted variance",
        y_label="NFE",
        log_x=True,
        zero=True,
    )
    costs = {setting.panel: _cost_lines(setting) for setting in found.settings[:4]}
    quality = curves(costs, title="PSNR against cost", x_label="mean cost, evaluations", y_label="PSNR, dB", log_x=True)
    figures = side_by_side(
        [
            MainFigure(figure, "Evaluations by predicted variance").html(),
            MainFigure(quality, "PSNR against mean NFE").html(),
        ]
    )
    return WORDS.section("spending", figures=figures)


def rules_section(found: Adaptivity) -> Section:
    """Every rule and control over one start for all, and at what cost."""
    tables = []
    for metric in found.metrics:
        rows = {
            setting.name: {
                "NFE": mean_interval(setting.others["test"][MATCHED]["nfe"]),
                **{
                    rule: setting.gain(rule, metric)
                    for rule in (*setting.adaptive, *(control for control in setting.controls if control != ONE))
                },
            }
            for setting in found.settings
        }
        tables.append(table(rows, "setting", _decimals(metric), f"{QUANTITIES[metric].title} gained over one start"))
    checks = {
        setting.name: {
            "NFE of the cell": mean_interval(setting.allocated["nfe"]),
            "images that differ": str(_differing(setting)),
        }
        for setting in found.settings
        if setting.allocated is not None
    }
    return WORDS.section(
        "rules",
        tables=tables,
        checks=table(checks, "setting", caption="The allocated start's own cell beside the selection")
        if checks
        else "",
    )


def limits_section(found: Adaptivity) -> Section:
    """What the variance, the scalar and the noise still hide, by oracles."""
    tables = [
        table(
            {
                setting.name: {rule: setting.gain(rule, metric) for rule in (*setting.adaptive, *TRUTH)}
                for setting in found.settings
            },
            "setting",
            _decimals(metric),
            f"{QUANTITIES[metric].title} gained over one start, at the matched start's mean NFE",
        )
        for metric in found.metrics
    ]
    return WORDS.section("limits", tables=tables)


def trivial_section(found: Adaptivity) -> Section:
    """What allocation by predictors that need no encoder gains, and how predictors rank images."""
    rows = {
        setting.name: {rule: setting.gain(rule, "psnr") for rule in setting.predictors} for setting in found.settings
    }
    ranks = {setting.name: setting.test.rows for setting in found.settings}
    return WORDS.section(
        "trivial",
        folded=True,
        gains=table(rows, "setting", 2, "PSNR, dB, gained over one start by allocation"),
        ranks=trivial_table(ranks, "setting"),
    )


def _decimals(metric: str) -> int:
    return QUANTITIES[metric].decimals + (metric == "lpips")


def _most(found: Adaptivity) -> tuple[Setting, int]:
    """Where adapting gains most PSNR on validation images: the setting and the bin."""
    places = [
        (float(gain[setting.bins("val") == place].mean()), number, place)
        for number, setting in enumerate(found.settings)
        for gain in [setting.worth_on_validation("psnr")]
        for place in range(NUM_BINS)
        if (setting.bins("val") == place).any() and (setting.bins("test") == place).any()
    ]
    _, number, place = max(places)
    return found.settings[number], place


def _more(setting: Setting, rule: str) -> Series:
    """What an oracle gains over the rule that adapts without the truth, PSNR."""
    return setting.gain(rule, "psnr") - setting.gain(setting.chosen(setting.adaptive, "psnr"), "psnr")


def _over_levels(setting: Setting) -> Series:
    """What the best rule gains over a number of evaluations for each operator and severity, PSNR."""
    return setting.gain(setting.chosen(setting.adaptive, "psnr"), "psnr") - setting.gain(BY_LEVEL, "psnr")


def _by_bin(values: Series, setting: Setting) -> list[Series]:
    """The values of each bin that has test images, from mild to severe."""
    bins = setting.bins("test")
    return [values[bins == place] for place in range(NUM_BINS) if (bins == place).any()]


def _middles(setting: Setting) -> list[float]:
    """The median predicted variance of each bin's test images."""
    return [float(variance.median()) for variance in _by_bin(setting.test.rows["var_hat"], setting)]


def _gain_lines(setting: Setting, metric: str) -> dict[str, Line]:
    """Gains of the fitted rule and the oracles over budgets, and of the match at its own."""
    rules = (ALLOCATED, ALONE, OTHER_NOISE, HINDSIGHT)
    lines = {rule: _over_budgets(setting, rule, metric) for rule in rules}
    return {MATCHED: Line([setting.cost(MATCHED, metric)], [mean_interval(setting.gain(MATCHED, metric))]), **lines}


def _budgets(setting: Setting) -> list[float]:
    """Where the curves are drawn: the grid's numbers, but for none and the last."""
    return [float(n) for n in setting.test.nfe if n >= 1][:-1]


def _over_budgets(setting: Setting, rule: str, metric: str) -> Line:
    points = {}
    for budget in _budgets(setting):
        points[setting.cost(rule, metric, budget)] = setting.gain(rule, metric, budget)
    return Line(list(points), intervals(list(points.values())))


def _cost_lines(setting: Setting) -> dict[str, Line]:
    """PSNR against mean NFE of one start, of allocation and of the match."""
    grid = setting.test
    positive = [place for place, n in enumerate(grid.nfe) if n > 0]
    quality = grid.quality("psnr")
    one = Line(grid.nfe[positive].tolist(), intervals([quality[:, place] for place in positive]))
    allocated: dict[float, NDArray[np.float64]] = {}
    for budget in _budgets(setting):
        index = setting.index(ALLOCATED, "psnr", budget)
        allocated[setting.cost(ALLOCATED, "psnr", budget)] = quality[np.arange(len(index)), index]
    matched = setting.others["test"][MATCHED]
    return {
        ONE: one,
        ALLOCATED: Line(list(allocated), intervals(list(allocated.values()))),
        MATCHED: Line([float(matched["nfe"].mean())], [mean_interval(matched["psnr"])]),
    }


def _spending_lines(setting: Setting) -> dict[str, Line]:
    """Evaluations by predicted variance: of allocation for each metric, and of the match."""
    variance = np.sort(setting.test.rows["start_variance"].to_numpy(float))
    places = np.quantile(variance, np.linspace(0, 1, NUM_PLACES))
    lines = {}
    for metric in setting.metrics:
        index = setting.allocation(ALONE, metric, setting.budget).index(
            np.log(places)[:, None], np.zeros(len(places), dtype=np.int64)
        )
        lines[f"by variance, for {QUANTITIES[metric].label}"] = _exact(places, setting.test.nfe[index])
    matched = setting.others["test"][MATCHED].sort_values("start_variance")
    chosen = np.interp(places, matched["start_variance"].to_numpy(float), matched["nfe"].to_numpy(float))
    return {**lines, MATCHED: _exact(places, chosen)}


def _exact(x: Sequence[float] | NDArray[np.float64], y: NDArray[np.float64]) -> Line:
    """A line of numbers without intervals."""
    return Line([float(one) for one in x], [Estimate(float(one), math.nan, math.nan, 0) for one in y])


def _differing(setting: Setting) -> int:
    """Images whose evaluations in the allocated start's cell are others than where the selection puts them."""
    assert setting.allocated is not None
    nfe = setting.allocated["nfe"].to_numpy(float)
    places = np.searchsorted(setting.test.nfe, nfe)
    quality = setting.test.quality("psnr")[np.arange(len(nfe)), places]
    return int((np.abs(quality - setting.allocated["psnr"].to_numpy(float)) > 0.01).sum())
