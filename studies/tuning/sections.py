"""Figures and tables of what tuning found."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from studies._rows import table
from studies.tuning.results import TuningResults
from workbench.experiments.tune.front import Point
from workbench.metrics import Estimate
from workbench.reporting import (
    QUANTITIES,
    Line,
    MainFigure,
    Section,
    Words,
    curves,
    heat_map,
    listed,
    readable,
    side_by_side,
    svg,
)

WORDS = Words(Path(__file__).with_name("templates"))


def answer(found: TuningResults) -> list[str]:
    """What tuning gains, what matters, what a setting is worth elsewhere, and how long the search takes."""
    if not found.tasks:
        return [f"Nothing is tuned yet: {found.command}"]
    better, gains, needed = found.quality.better, found.gains, found.needed
    return WORDS.sentences(
        found=found,
        unit=f" {found.quality.unit}" if found.quality.unit else "",
        most=max(gains, key=lambda task: better * gains[task].mean),
        num_better=sum(gain.scaled(better).low > 0 for gain in gains.values()),
        edges=[readable(task) for task, one in found.tasks.items() if one.best.at_edge],
        worst=found.worst_transfer,
        weightiest=found.weightiest,
        setting=_short(found.weightiest.path) if found.weightiest else "",
        slowest=max(needed, key=lambda task: needed[task]),
    )


def main_figure(found: TuningResults) -> MainFigure | None:
    """Quality against cost; the search over trials where there was no cost."""
    if not found.tasks or found.cost is None:
        return _regret_figure(found) if found.tasks else None
    goal, scale = found.tuning.goal, found.cost.scale

    def line(points: Sequence[Point]) -> Line:
        return Line([scale * p.test[goal.cost].mean for p in points], [p.gain[goal.quality] for p in points])

    panels = {
        name: {
            "front": line(sorted(one.points[1:], key=lambda point: point.test[goal.cost].mean)),
            "default": line([one.points[0]]),
            "tuned": line([one.best]),
        }
        for name, one in found.tasks.items()
    }
    figure = curves(
        panels, title=f"{found.quality.label} above the default's on test images", x_label=found.cost.title,
        y_label=found.quality.title, log_x=True, zero=True, order=("front", "default", "tuned"),
    )  # fmt: skip
    caption = "Each front is of settings that no other trial beats on validation images; drawn are test images."
    return MainFigure(figure, "Quality against cost, for each task", caption)


def gain(found: TuningResults) -> Section | None:
    """The default and the tuned setting of each task, and all of its front."""
    if not found.tasks:
        return None
    chosen: dict[str, Point] = {}
    fronts: dict[str, Point] = {}
    searched: dict[str, Any] = {}
    for task, one in found.tasks.items():
        chosen |= {f"{readable(task)}, default": one.points[0], f"{readable(task)}, tuned": one.best}
        fronts |= {f"{readable(task)}, trial {point.trial}": point for point in one.points[1:]}
        searched |= {path: distribution["attributes"] for path, distribution in one.search.items()}
    ranges = {
        path: ", ".join(map(_value, given["choices"]))
        if "choices" in given
        else f"{_value(given['low'])} to {_value(given['high'])}"
        for path, given in searched.items()
    }
    return WORDS.section(
        "gain",
        found=found,
        ranges=listed([f"{_short(path)} ({ends})" for path, ends in ranges.items()]),
        settings=_settings_table(found, chosen, searched),
        fronts=_settings_table(found, fronts, searched),
    )


def transfer(found: TuningResults) -> Section | None:
    """Each tuned setting on every task."""
    if len(found.tasks) < 2:
        return None
    quality, cost, labels = found.quality, found.cost, list(map(readable, found.tasks))
    used = [[one.transfer[task] for task in found.tasks] for one in found.tasks.values()]
    how: dict[str, Any] = {"rows": labels, "columns": labels, "row_title": "tuned for", "column_title": "used on"}
    figures = [
        heat_map(
            [[one.quality for one in line] for line in used], title=f"{quality.title}, above the task's own",
            scale="diverging", decimals=quality.decimals, red="low" if quality.better > 0 else "high", **how,
        )
    ]  # fmt: skip
    if cost is not None:
        costs = [[one.cost for one in line if one.cost is not None] for line in used]
        figures.append(heat_map(costs, title=f"{cost.label}, over the task's own", scale="ratio", **how))
    maps = [svg(figure, "What each tuned setting is worth on each task") for figure in figures]
    return WORDS.section("transfer", maps=side_by_side(maps))


def importance(found: TuningResults) -> Section | None:
    """To which setting the variance between trials is due, in percent."""
    shares: dict[str, dict[str, object]] = {}
    for task, one in found.tasks.items():
        for objective, by_path in one.importance.items():
            for path, share in by_path.items():
                column = f"{readable(task)}, {QUANTITIES[objective].label}"
                shares.setdefault(_short(path), {})[column] = 100 * share
    return WORDS.section("importance", folded=True, shares=table(shares, "setting", 0)) if shares else None


def trials(found: TuningResults) -> Section | None:
    """How the best so far came near to what the search found; without a cost it is the main figure."""
    if not found.tasks or found.cost is None:
        return None
    return WORDS.section("trials", folded=True, found=found, figure=_regret_figure(found).html())


def _regret_figure(found: TuningResults) -> MainFigure:
    lines = {
        name: Line(range(1, len(regrets) + 1), [Estimate(y, math.nan, math.nan, 0) for y in regrets.tolist()])
        for name, regrets in found.regrets.items()
    }
    title = f"{found.quality.label} still to be found"
    figure = curves({"": lines}, title=title, x_label="trials", y_label=found.quality.title, zero=True)
    return MainFigure(figure, "Regret against trials")


def _settings_table(found: TuningResults, points: Mapping[str, Point], searched: Mapping[str, Any]) -> Markup:
    """Settings and what they are worth on test images, a row each."""
    goal, gained = found.tuning.goal, f"{found.quality.title}, above default"
    measured = {column: QUANTITIES[column] for column in goal.columns}
    rows = {
        name: {gained: point.gain[goal.quality]}
        | {quantity.title: point.test[column].scaled(quantity.scale) for column, quantity in measured.items()}
        | {_short(path): _value(point.params.get(path, "")) + "*" * (path in point.at_edge) for path in searched}
        for name, point in points.items()
    }
    return table(rows, "task, setting")


def _short(path: str) -> str:
    return readable(path.rpartition(".")[2])


def _value(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("-", "\N{MINUS SIGN}") if isinstance(value, int | float) else text
