"""`sweep`: the search of a study as W&B sweep files; agents run the trials with `python -m workbench run`.

A sweep is one task of `tune`. Its command names the task's cell on validation images, so an agent's run is the same
stage as a trial of `tune` with the same settings, and the second one is a cache hit. W&B's own methods support one
metric; its Optuna scheduler (`wandb sweep-scheduler`) reads the parameters as the distributions of `search`.
"""

import contextlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from workbench.core import families
from workbench.core.config import UserError, as_override, overrides_between, require_range
from workbench.experiments.catalogue import folder_name
from workbench.experiments.objective import FEWEST, MAX_TRIALS, Objective, evaluation_of, images_of, on_validation
from workbench.experiments.study import Study, TuningTask, base_cell
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.tracking.mode import require_online
from workbench.tracking.tracker import PROJECT

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

Method = Literal["bayes", "random", "grid", "optuna"]

MAX_POINTS = 1000

PARTS = (4, 4, 1)
"""A run that may be stopped early logs the metric on a quarter of its images and then on all. It logs the quarter
twice,
because W&B judges runs from their second value on, by their best value."""
EARLY_TERMINATE = {"type": "hyperband", "min_iter": 1, "eta": 3}
"""The best third of the runs continues. Not with bayes, whose model uses a run's best value as its result and would
learn from the quarters."""


@dataclass(frozen=True)
class Options:
    """How W&B searches.

    Attributes:
        method: a W&B method, or its Optuna scheduler.
        objective: what to optimize; W&B's own methods support no cost.
        trials: runs per sweep; a grid has as many as it has points.
        points: grid points along each range.
        val_images: validation images per run; None: as given by `images_of`.
    """

    method: Method = "bayes"
    objective: Objective = field(default_factory=lambda: Objective(cost="none"))
    trials: int = 60
    points: int = 4
    val_images: int | None = None

    def __post_init__(self) -> None:
        require_range("--trials", self.trials, 1, MAX_TRIALS)
        require_range("--points", self.points, 2, MAX_POINTS)
        if self.method != "optuna" and self.objective.cost != "none":
            raise UserError(f"--method {self.method} supports one metric: remove --cost, or add --method optuna")


def sweep_configs(
    name: str, study: Study, preset: str, overrides: Mapping[str, Any], options: Options
) -> dict[str, dict[str, Any]]:
    """The W&B sweep configs of a study, one per task, by file name.

    Raises:
        UserError: for an invalid search, overrides or options.
    """
    stem = folder_name(name)
    return {
        re.sub(r"[^\w.-]+", "-", f"{stem}-{task.name}") + ".yaml": _sweep_config(name, preset, task, options)
        for task in study.tasks(preset, overrides)
    }


def as_yaml(name: str, config: Mapping[str, Any]) -> str:
    """A sweep config as the text of its file."""
    import yaml

    made = f"# Made by `python -m workbench sweep {name}` of the study's `search`: change that, and make it again.\n"
    return made + yaml.safe_dump(dict(config), sort_keys=False)


def rungs(cell: Stage) -> list[Stage]:
    """The cell on subsets of its images, ending with all; only the cell itself if a subset is too small to judge by."""
    if not isinstance(cell, Evaluate) or cell.num_images < FEWEST * max(PARTS):
        return [cell]
    return [cell.replace(num_images=cell.num_images // part) for part in PARTS]


def register(config: Mapping[str, Any]) -> str:
    """Register a sweep at W&B; return its path for `wandb agent`.

    Raises:
        UserError: if W&B is offline, nobody is logged in, or the server rejects the sweep.
    """
    require_online("registering a sweep needs W&B's server")
    import wandb

    from workbench.tracking.upload import UploadError, first_line, log_in

    project = os.environ.get("WANDB_PROJECT") or str(config["project"])
    try:
        api = log_in()
        entity = os.environ.get("WANDB_ENTITY") or api.default_entity
        with contextlib.redirect_stdout(None):
            return f"{entity}/{project}/{wandb.sweep(dict(config), entity=entity, project=project)}"
    except (UploadError, wandb.errors.Error) as error:
        raise UserError(first_line(error)) from None


def _sweep_config(name: str, preset: str, task: TuningTask, options: Options) -> dict[str, Any]:
    """The W&B sweep config of a task."""
    cell = evaluation_of(name, task)
    trial = on_validation(cell, {}, images_of(cell, options.val_images))
    trial.check()
    options.objective.check(trial)
    base = base_cell(name, preset, {})
    flags = overrides_between(base, trial)
    assert base.replace(flags) == trial
    settings = [*map(as_override, flags, flags.values()), *families.flags()]
    command = ["python", "-m", "workbench", "run", name, f"--preset={preset}", *settings]
    metrics = [
        {"name": f"{trial.split}/{column}", "goal": direction}
        for column, direction in zip(options.objective.columns, options.objective.directions, strict=True)
    ]
    config: dict[str, Any] = {
        "project": PROJECT,
        "name": f"{name} ({preset}): {task.name}",
        "program": "workbench",  # required by agents, although the command is given
        "method": "custom" if options.method == "optuna" else options.method,
    }
    if options.method == "optuna":
        config["scheduler"] = {"engine": "optuna"}
    elif options.method != "bayes" and len(rungs(trial)) > 1:
        config["early_terminate"] = dict(EARLY_TERMINATE)
        command.append("--rungs")
    if options.method != "grid":
        config["run_cap"] = options.trials
    config |= {"metric": metrics[0]} if len(metrics) == 1 else {"metrics": metrics}
    config["parameters"] = {path: _parameter(d, options) for path, d in task.search.items()}
    return config | {"command": [*command, "${args}"]}


def _parameter(distribution: "BaseDistribution", options: Options) -> dict[str, Any]:
    """The W&B parameter of an Optuna distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return {"values": list(distribution.choices)}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.single():
        return {"value": low}
    if options.method == "grid":
        return {"values": _points(distribution, options.points)}
    is_int, ends = isinstance(distribution, IntDistribution), {"min": low, "max": high}
    if distribution.log:
        quantised = {"distribution": "q_log_uniform_values", **ends, "q": 1}
        return quantised if is_int else {"distribution": "log_uniform_values", **ends}
    if step is None:
        return {"distribution": "uniform", **ends}
    if is_int and step == 1:
        return {"distribution": "int_uniform", **ends}
    # W&B's own methods draw multiples of q; Optuna counts steps from the lowest value
    if options.method == "optuna" or math.isclose(round(low / step) * step, low, abs_tol=1e-12):
        return {"distribution": "q_uniform", **ends, "q": step}
    return {"values": _points(distribution, round((high - low) / step) + 1)}


def _points(distribution: "FloatDistribution | IntDistribution", num: int) -> list[float]:
    """This many values of a range, ends included, evenly spaced on its scale; fewer if the range has fewer values."""
    low, high, step = distribution.low, distribution.high, distribution.step
    scale, back = (math.log, math.exp) if distribution.log else (float, float)
    ends = scale(low), scale(high)
    inner = [back(ends[0] + (ends[1] - ends[0]) * i / (num - 1)) for i in range(1, num - 1)]
    if step is not None:
        inner = [low + round((value - low) / step) * step for value in inner]
    return list(dict.fromkeys([low, *inner, high]))
