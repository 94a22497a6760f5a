"""Figures and tables of what tuning found."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies._tables import table
from studies.tuning.results import Searched, TuningResults
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))


def answer(results: TuningResults) -> list[str]:
    """What tuning gains, what matters, what a setting is worth elsewhere, and how long the search takes."""
    found = results.searched
    if found is None:
        return [f"Nothing is tuned yet: {results.command}"]
    slowest = max(found.needed, key=found.needed.__getitem__)
    return WORDS.sentences(
        found=found, unit=_unit(found), worst=found.worst_transfer, weightiest=found.weightiest, slowest=slowest,
        setting=_short(found.weightiest.path) if found.weightiest else "",
    )  # fmt: skip


def main_figure(results: TuningResults) -> MainFigure | None:
    """Quality against cost; the search over trials where there was no cost."""
    found = results.searched
    if found is None:
        return None
    if found.cost is None:
        return MainFigure(_regret_figure(found), "Regret against trials")
    caption = "Each front is of settings that no other trial beats on validation images; drawn are test images."
    return MainFigure(_front_figure(found), "Quality against cost, for each task", caption)


def gain(results: TuningResults) -> Section | None:
    """The default and the tuned setting of each task."""
    found = results.searched
    if found is None:
        return None
    chosen = {
        f"{readable(name)}, {title}": point
        for name, one in found.tasks.items()
        for title, point in (("default", one.points[0]), ("tuned", one.best))
    }
    return WORDS.section("gain", found=found, ranges=_ranges(found), settings=_settings_table(found, chosen))


def transfer(results: TuningResults) -> Section | None:
    """Each tuned setting on every task."""
    found = results.searched
    if found is None or len(found.tasks) < 2:
        return None
    labels = [readable(name) for name in found.tasks]
    gains = [[one.transfer[used].quality for used in found.tasks] for one in found.tasks.values()]
    title = f"{found.quality.title}, above the task's own"
    figures = [
        heat_map(
            gains, labels, labels, title=title, row_title="tuned for", column_title="used on", scale="diverging",
            red="low" if found.quality.better > 0 else "high", decimals=found.quality.decimals,
        )
    ]  # fmt: skip
    if found.cost is not None:
        costs = [[c for used in found.tasks if (c := f.transfer[used].cost) is not None] for f in found.tasks.values()]
        title = f"{found.cost.label}, over the task's own"
        figures.append(
            heat_map(costs, labels, labels, title=title, row_title="tuned for", column_title="used on", scale="ratio")
        )
    maps = [svg(figure, "What each tuned setting is worth on each task") for figure in figures]
    return WORDS.section("transfer", maps=side_by_side(maps))


def importance(results: TuningResults) -> Section | None:
    """To which setting the variance between trials is due."""
    found = results.searched
    columns = {} if found is None else {
        f"{readable(name)}, {QUANTITIES[objective].label}": shares
        for name, one in found.tasks.items()
        for objective, shares in one.importance.items()
    }  # fmt: skip
    if not columns:
        return None
    paths = dict.fromkeys(path for shares in columns.values() for path in shares)
    rows = {
        _short(path): {column: 100 * shares.get(path, math.nan) for column, shares in columns.items()} for path in paths
    }
    return WORDS.section("importance", folded=True, shares=table(rows, 0, index="setting"))


def trials(results: TuningResults) -> Section | None:
    """How the best so far came near to what the search found; without a cost it is the main figure."""
    found = results.searched
    if found is None or found.cost is None:
        return None
    return WORDS.section(
        "trials", folded=True, found=found, figure=side_by_side([svg(_regret_figure(found), "Regret against trials")])
    )


def fronts(results: TuningResults) -> Section | None:
    """Every setting of every front."""
    found = results.searched
    if found is None:
        return None
    points = {
        f"{readable(name)}, {'default' if point.trial is None else f'trial {point.trial}'}": point
        for name, one in found.tasks.items()
        for point in one.points
    }
    return WORDS.section("fronts", folded=True, settings=_settings_table(found, points))


def _front_figure(found: Searched) -> "Figure":
    goal, cost = found.tuning.goal, QUANTITIES[found.tuning.goal.cost]

    def line(points: list[Point]) -> Line:
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


def _regret_figure(found: Searched) -> "Figure":
    lines = {
        name: Line(
            [float(place + 1) for place in range(len(regrets))],
            [Estimate(value, math.nan, math.nan, 0) for value in regrets],
        )
        for name, regrets in found.regrets.items()
    }
    return curves(
        {"": lines}, title=f"{found.quality.label} still to be found", x_label="trials", y_label=found.quality.title,
        zero=True,
    )  # fmt: skip


def _settings_table(found: Searched, points: Mapping[str, Point]) -> Markup:
    """Settings and what they are worth on test images, a row each."""
    goal = found.tuning.goal
    fields = list(dict.fromkeys(path for one in found.tasks.values() for path in one.search))
    gained = f"{found.quality.title}, above default"
    measured = {QUANTITIES[column].title: column for column in goal.columns}
    rows = {
        name: {gained: point.gain[goal.quality]}
        | {title: point.test[column].scaled(QUANTITIES[column].scale) for title, column in measured.items()}
        | {_short(path): _value(point.params.get(path)) + "*" * (path in point.at_edge) for path in fields}
        for name, point in points.items()
    }
    decimals = {title: QUANTITIES[column].decimals for title, column in measured.items()}
    return table(rows, decimals | {gained: found.quality.decimals}, index="task, setting")


def _ranges(found: Searched) -> str:
    """The searched fields and where their values lay."""
    parts = {}
    for one in found.tasks.values():
        for path, distribution in one.search.items():
            given = distribution["attributes"]
            values = given.get("choices") or (given["low"], given["high"])
            parts[path] = f"{_short(path)} ({(', ' if 'choices' in given else ' to ').join(map(_value, values))})"
    return listed(list(parts.values()))


def _unit(found: Searched) -> str:
    return f" {found.quality.unit}" if found.quality.unit else ""


def _short(path: str) -> str:
    return readable(path.rpartition(".")[2])


def _value(value: object) -> str:
    text = "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("-", "\N{MINUS SIGN}") if isinstance(value, int | float) else text
