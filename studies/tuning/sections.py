"""Figures and tables of what tuning found."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
from workbench.reporting.figures import Red

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))


def answer(found: TuningResults) -> list[str]:
    """What tuning gains, what matters, what a setting is worth elsewhere, and how long the search takes."""
    if not found.tasks:
        return [f"Nothing is tuned yet: {found.command}"]
    better, gains = found.quality.better, found.gains
    return WORDS.sentences(
        found=found,
        unit=f" {found.quality.unit}" if found.quality.unit else "",
        most=max(gains, key=lambda task: better * gains[task].mean),
        num_better=sum(gain.scaled(better).low > 0 for gain in gains.values()),
        edges=[readable(task) for task, one in found.tasks.items() if one.best.at_edge],
        worst=found.worst_transfer,
        weightiest=found.weightiest,
        setting=_short(found.weightiest.path) if found.weightiest else "",
        slowest=max(found.needed, key=found.needed.__getitem__),
    )


def main_figure(found: TuningResults) -> MainFigure | None:
    """Quality against cost; the search over trials where there was no cost."""
    if not found.tasks:
        return None
    if found.cost is None:
        return MainFigure(_regret_figure(found), "Regret against trials")
    caption = "Each front is of settings that no other trial beats on validation images; drawn are test images."
    return MainFigure(_front_figure(found), "Quality against cost, for each task", caption)


def gain(found: TuningResults) -> Section | None:
    """The default and the tuned setting of each task, and all of its front."""
    if not found.tasks:
        return None
    chosen: dict[str, Point] = {}
    fronts: dict[str, Point] = {}
    for task, one in found.tasks.items():
        chosen |= {f"{readable(task)}, default": one.points[0], f"{readable(task)}, tuned": one.best}
        fronts |= {f"{readable(task)}, trial {point.trial}": point for point in one.points[1:]}
    return WORDS.section(
        "gain",
        found=found,
        ranges=_ranges(found),
        settings=_settings_table(found, chosen),
        fronts=_settings_table(found, fronts),
    )


def transfer(found: TuningResults) -> Section | None:
    """Each tuned setting on every task."""
    if len(found.tasks) < 2:
        return None
    labels, quality = [readable(name) for name in found.tasks], found.quality
    used = [[one.transfer[task] for task in found.tasks] for one in found.tasks.values()]
    draw = functools.partial(heat_map, rows=labels, columns=labels, row_title="tuned for", column_title="used on")
    gains = [[one.quality for one in line] for line in used]
    red: Red = "low" if quality.better > 0 else "high"
    title = f"{quality.title}, above the task's own"
    figures = [draw(gains, title=title, scale="diverging", decimals=quality.decimals, red=red)]
    if found.cost is not None:
        costs = [[one.cost for one in line if one.cost is not None] for line in used]
        figures.append(draw(costs, title=f"{found.cost.label}, over the task's own", scale="ratio"))
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
    figure = side_by_side([svg(_regret_figure(found), "Regret against trials")])
    return WORDS.section("trials", folded=True, found=found, figure=figure)


def _front_figure(found: TuningResults) -> "Figure":
    goal, cost = found.tuning.goal, QUANTITIES[found.tuning.goal.cost]

    def line(points: Sequence[Point]) -> Line:
        return Line([p.test[goal.cost].mean * cost.scale for p in points], [p.gain[goal.quality] for p in points])

    panels = {
        name: {
            "front": line(sorted(one.points[1:], key=lambda point: point.test[goal.cost].mean)),
            "default": line([one.points[0]]),
            "tuned": line([one.best]),
        }
        for name, one in found.tasks.items()
    }
    return curves(
        panels, title=f"{found.quality.label} above the default's on test images", x_label=cost.title,
        y_label=found.quality.title, log_x=True, zero=True, order=("front", "default", "tuned"),
    )  # fmt: skip


def _regret_figure(found: TuningResults) -> "Figure":
    lines = {
        name: Line(list(range(1, len(regrets) + 1)), [Estimate(y, math.nan, math.nan, 0) for y in regrets.tolist()])
        for name, regrets in found.regrets.items()
    }
    title = f"{found.quality.label} still to be found"
    return curves({"": lines}, title=title, x_label="trials", y_label=found.quality.title, zero=True)


def _settings_table(found: TuningResults, points: Mapping[str, Point]) -> Markup:
    """Settings and what they are worth on test images, a row each."""
    goal, gained = found.tuning.goal, f"{found.quality.title}, above default"
    fields = dict.fromkeys(path for one in found.tasks.values() for path in one.search)
    measured = {QUANTITIES[column].title: column for column in goal.columns}
    rows = {
        name: {gained: point.gain[goal.quality]}
        | {title: point.test[column].scaled(QUANTITIES[column].scale) for title, column in measured.items()}
        | {_short(path): _value(point.params.get(path, "")) + "*" * (path in point.at_edge) for path in fields}
        for name, point in points.items()
    }
    decimals = {title: QUANTITIES[column].decimals for title, column in measured.items()}
    return table(rows, "task, setting", decimals | {gained: found.quality.decimals})


def _ranges(found: TuningResults) -> str:
    """The searched fields and where their values lay."""
    parts = {}
    for one in found.tasks.values():
        for path, distribution in one.search.items():
            given = distribution["attributes"]
            choices = given.get("choices")
            ends = ", ".join(map(_value, choices)) if choices else f"{_value(given['low'])} to {_value(given['high'])}"
            parts[path] = f"{_short(path)} ({ends})"
    return listed(list(parts.values()))


def _short(path: str) -> str:
    return readable(path.rpartition(".")[2])


def _value(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("-", "\N{MINUS SIGN}") if isinstance(value, int | float) else text
