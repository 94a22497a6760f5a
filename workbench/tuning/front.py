"""The settings that no other trial beats, evaluated again on test images beside the default."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.files import locked, write_whole
from workbench.goal import Goal, on_test, rows_of
from workbench.metrics import Estimate, mean_interval, paired_difference
from workbench.stages.base import Runtime, ensure_all
from workbench.stages.evaluate import Evaluate
from workbench.study import Task, value_at

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from rich.table import Table

FRONT = "front.json"
EDGE = 0.01
"""The share of a range, on its own scale, within which a value counts as at its edge."""


@dataclass(frozen=True)
class Point:
    """A setting, what it was worth on validation images, and what it is on test images.

    Attributes:
        trial: Optuna's number; None: the default.
        params: the searched fields by path.
        cell: the identity of its evaluation on test images.
        validation: the objectives' means over the trial's images; none of the default.
        test: the objectives over test images.
        gain: by how much each differs from the default's, image by image.
        at_edge: fields at an edge of their range: a wider one may hold a better setting.
    """

    trial: int | None
    params: dict[str, Any]
    cell: str
    validation: dict[str, float]
    test: dict[str, Estimate]
    gain: dict[str, Estimate]
    at_edge: tuple[str, ...] = ()


def evaluate_front(task: Task, cell: Evaluate, study: "Study", goal: Goal, runtime: Runtime) -> list[Point]:
    """The default, then the front from the cheapest on: each an evaluation on the task's test images."""
    settings: dict[str, tuple[Evaluate, Any]] = {}
    for trial in sorted(study.best_trials, key=lambda trial: (trial.values[-1], trial.number)):
        stage = on_test(cell, trial.params)
        settings.setdefault(stage.identity, (stage, trial))
    default = on_test(cell, {})
    ensure_all([default, *(stage for stage, _ in settings.values())], runtime)
    base = rows_of(default, runtime)
    own = {path: value_at(cell, path) for path in task.search}
    points = [_point(None, own, default, {}, base, base, goal)]
    for stage, trial in settings.values():
        validation = dict(zip(goal.columns, trial.values, strict=True))
        edges = tuple(path for path, value in trial.params.items() if _at_edge(task.search[path], value))
        rows = rows_of(stage, runtime)
        points.append(_point(trial.number, trial.params, stage, validation, rows, base, goal, edges))
    return points


def _point(
    trial: int | None,
    params: dict[str, Any],
    stage: Evaluate,
    validation: dict[str, float],
    rows: Any,
    base: Any,
    goal: Goal,
    edges: tuple[str, ...] = (),
) -> Point:
    test = {name: mean_interval(rows[name]) for name in goal.columns}
    gain = {name: paired_difference(rows[name], base[name].loc[rows.index]) for name in goal.columns}
    return Point(trial, params, stage.identity, validation, test, gain, edges)


def _at_edge(distribution: "BaseDistribution", value: Any) -> bool:
    """Whether a number lies at an edge of its range; a choice has none."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return False
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    ends = (distribution.low, value, distribution.high)
    low, place, high = map(math.log, ends) if distribution.log else map(float, ends)
    return high > low and min(place - low, high - place) <= EDGE * (high - low)


def write_fronts(fronts: Mapping[str, Sequence[Point]], num_trials: Mapping[str, int], folder: Path) -> Path:
    """All tasks' fronts as JSON, beside the study's results."""
    tree = {
        name: {"num_trials": num_trials[name], "points": [asdict(point) for point in points]}
        for name, points in fronts.items()
    }
    with locked(folder):
        write_whole(folder / FRONT, json.dumps(tree, indent=2))
    return folder / FRONT


def front_table(name: str, points: Sequence[Point], goal: Goal) -> "Table":
    """A front for the terminal, on test images; values at an edge of their range are starred."""
    from rich.table import Table

    table = Table(title=name, title_justify="left", header_style="bold", show_lines=True)
    table.add_column("trial")
    table.add_column("setting", overflow="fold")
    table.add_column(f"{goal.quality} [95 %]", justify="right", no_wrap=True)
    for column in goal.columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("less default's", justify="right", no_wrap=True)
    for point in points:
        setting = "\n".join(
            f"{path.rpartition('.')[2]}={_short(value)}{'*' if path in point.at_edge else ''}"
            for path, value in point.params.items()
        )
        means = [_short(point.test[column].mean) for column in goal.columns[1:]]
        label, gain = ("default", "") if point.trial is None else (str(point.trial), str(point.gain[goal.quality]))
        table.add_row(label, setting, str(point.test[goal.quality]), *means, gain)
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
