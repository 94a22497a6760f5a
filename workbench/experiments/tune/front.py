"""The Pareto front of the trials, evaluated on test images together with the default."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.config import UserError
from workbench.experiments.objective import Objective, means_of, on_test, on_validation, rows_of
from workbench.experiments.study import TuningTask, setting_at
from workbench.metrics import Estimate, mean_interval, paired_difference
from workbench.stages.base import ensure_all
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from rich.table import Table

EDGE = 0.01
"""Fraction of a range, on its own scale, within which a value counts as at its edge."""


@dataclass(frozen=True)
class Point:
    """A setting, with its results on validation images and on test images.

    Attributes:
        trial: Optuna's number; None: the default.
        params: the searched fields by path.
        cell: the identity of its evaluation on test images.
        validation: the objectives' means over the trial's images.
        test: the objectives over test images.
        gain: difference to the default, image by image.
        at_edge: fields at an edge of their range: a wider range may have a better setting.
    """

    trial: int | None
    params: dict[str, Any]
    cell: str
    validation: dict[str, float]
    test: dict[str, Estimate]
    gain: dict[str, Estimate]
    at_edge: tuple[str, ...] = ()


def evaluate_front(
    task: TuningTask, cell: Evaluate, study: "Study", objective: Objective, num_val_images: int, runtime: Runtime
) -> list[Point]:
    """The default, then the rest of the front in order of increasing cost, each evaluated on the task's test images."""
    default = on_test(cell, {})
    settings: dict[str, tuple[Evaluate, Any]] = {}
    for trial in sorted(study.best_trials, key=lambda trial: (trial.values[-1], trial.number)):
        # ignore other states that a storage may report
        stage = on_test(cell, {path: value for path, value in trial.params.items() if path in task.search})
        if stage.identity != default.identity:
            settings.setdefault(stage.identity, (stage, trial))
    of_default = on_validation(cell, {}, num_val_images)
    ensure_all([default, of_default, *(stage for stage, _ in settings.values())], runtime)
    base, means = rows_of(default, runtime, objective.columns), means_of(of_default, runtime, objective.columns)
    own = {path: setting_at(cell, path) for path in task.search}
    points = [_point(None, own, default, {name: means[name] for name in objective.columns}, base, base, objective)]
    for stage, trial in settings.values():
        validation = dict(zip(objective.columns, trial.values, strict=True))
        edges = tuple(path for path, value in trial.params.items() if at_edge(cell, path, task.search[path], value))
        rows = rows_of(stage, runtime, objective.columns)
        points.append(_point(trial.number, trial.params, stage, validation, rows, base, objective, edges))
    return points


def choose(points: Sequence[Point], objective: Objective) -> int:
    """Index of the first setting that is best on validation images among those that cost no more than the default."""

    def rank(place: int) -> tuple[float, float]:
        quality, *cost = (points[place].validation[name] for name in objective.columns)
        return (quality if objective.directions[0] == "maximize" else -quality, -cost[0] if cost else 0.0)

    cost = objective.columns[-1]
    affordable = [
        place
        for place, point in enumerate(points)
        if objective.cost == "none" or point.validation[cost] <= points[0].validation[cost]
    ]
    return max(affordable, key=rank)


def _point(
    trial: int | None,
    params: dict[str, Any],
    stage: Evaluate,
    validation: dict[str, float],
    rows: Any,
    base: Any,
    objective: Objective,
    edges: tuple[str, ...] = (),
) -> Point:
    test = {name: mean_interval(rows[name]) for name in objective.columns}
    gain = {name: paired_difference(rows[name], base[name].loc[rows.index]) for name in objective.columns}
    return Point(trial, params, stage.identity, validation, test, gain, edges)


def at_edge(cell: Evaluate, path: str, distribution: "BaseDistribution", value: Any) -> bool:
    """Whether a number is at an end of its range that the field itself could exceed; choices have no ends."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return False
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = (distribution.low, value, distribution.high)
    low, place, high = map(math.log, ends) if distribution.log else map(float, ends)
    margin = EDGE * (high - low)
    step = 1 if isinstance(distribution, IntDistribution) else margin
    near = [(place - low, distribution.low - step)] if distribution.low < distribution.high else []
    near += [(high - place, distribution.high + step)] if near else []
    return any(distance <= margin and _allows(cell, path, beyond) for distance, beyond in near)


def _allows(cell: Evaluate, path: str, value: float) -> bool:
    """Whether the field accepts that value: an eta of 1 is the maximum of any eta, not only of the searched range."""
    try:
        cell.replace({path: value}).check()
    except UserError:
        return False
    return True


def front_table(name: str, points: Sequence[Point], objective: Objective) -> "Table":
    """A front on test images for the terminal: the chosen setting in bold, values at an edge of their range starred."""
    from rich.table import Table

    table = Table(title=name, title_justify="left", header_style="bold", show_lines=True)
    table.add_column("trial")
    table.add_column("setting", no_wrap=True)
    for column in objective.columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("less the default's", justify="right", no_wrap=True)
    chosen = choose(points, objective)
    for place, point in enumerate(points):
        setting = "\n".join(
            f"{path.rpartition('.')[2]}={_short(value)}{'*' if path in point.at_edge else ''}"
            for path, value in point.params.items()
        )
        means = [_short(point.test[column].mean) for column in objective.columns]
        label, gain = ("default", "") if point.trial is None else (str(point.trial), str(point.gain[objective.quality]))
        style = "bold" if place == chosen else None
        table.add_row(label, setting, *means, gain, style=style)
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
