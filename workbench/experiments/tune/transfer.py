"""How a setting tuned for one task performs on another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.experiments.objective import Objective, on_test, rows_of
from workbench.experiments.study import TuningTask
from workbench.metrics import Estimate, paired_difference, ratio_of_means
from workbench.stages.base import ensure_all
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime


@dataclass(frozen=True)
class Transfer:
    """A setting on a task's test images, compared with the setting chosen for that task, image by image.

    Attributes:
        cell: the identity of the evaluation.
        quality: difference in quality.
        cost: ratio of costs; None if cost is not an objective.
    """

    cell: str
    quality: Estimate
    cost: Estimate | None


def transfer(
    tasks: Sequence[tuple[TuningTask, Evaluate]],
    chosen: Mapping[str, Mapping[str, Any]],
    objective: Objective,
    runtime: Runtime,
) -> dict[str, dict[str, Transfer]]:
    """task that a setting was tuned for -> task that it is used on -> result.

    Fields that the other task's cell does not search keep their values.
    """
    stages = {
        (source, task.name): on_test(cell, {path: value for path, value in params.items() if path in task.search})
        for source, params in chosen.items()
        for task, cell in tasks
    }
    ensure_all(list(stages.values()), runtime)
    found: dict[str, dict[str, Transfer]] = {source: {} for source in chosen}
    for (source, used), stage in stages.items():
        rows, own = (rows_of(one, runtime, objective.columns) for one in (stage, stages[used, used]))
        own = own.loc[rows.index]
        cost = None if objective.cost == "none" else ratio_of_means(rows[objective.cost], own[objective.cost])
        quality = paired_difference(rows[objective.quality], own[objective.quality])
        found[source][used] = Transfer(stage.identity, quality, cost)
    return found
