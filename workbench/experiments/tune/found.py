"""The result of a search, stored as JSON with the study's results: trials, fronts, importance, transfer."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from workbench.core import families
from workbench.core.config import as_override, digest
from workbench.core.digests import DIGESTS, write_digests
from workbench.core.files import locked, write_whole
from workbench.experiments.catalogue import folder_name
from workbench.experiments.objective import Objective
from workbench.experiments.results import TUNING
from workbench.experiments.run import made
from workbench.experiments.settings import Settings
from workbench.experiments.tune.front import Point
from workbench.experiments.tune.transfer import Transfer
from workbench.stages.provenance import provenance
from workbench.stages.runtime import Runtime


@dataclass(frozen=True)
class TrialValues:
    """A finished trial on validation images; a pruned one has no values."""

    number: int
    params: dict[str, Any]
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Found:
    """The result of the search of one task.

    Attributes:
        search: field -> Optuna's distribution as JSON.
        trials: trials in the order in which they started.
        points: the default, then the front in order of increasing cost.
        chosen: index of the setting that is best on validation images and costs no more than the default.
        kinds: the kinds of the members whose fields were searched (the kinds themselves were not).
        importance: objective -> field -> share of the variance.
        transfer: task -> performance of the chosen setting there, compared with that task's own.
    """

    search: dict[str, Any]
    trials: tuple[TrialValues, ...]
    points: tuple[Point, ...]
    chosen: int
    kinds: dict[str, Any]
    importance: dict[str, dict[str, float]]
    transfer: dict[str, Transfer]

    @property
    def best(self) -> Point:
        """The chosen setting."""
        return self.points[self.chosen]


@dataclass(frozen=True)
class Tuning:
    """The result of a search of all tasks of a study.

    Attributes:
        goal: the objective of the search, by its name in stored results.
        num_val_images: number of validation images per trial.
        sampler: Optuna's sampler.
        tasks: results by name of the task.
    """

    goal: Objective
    num_val_images: int
    sampler: str
    tasks: dict[str, Found]


def write_tuning(tuning: Tuning, folder: Path) -> Path:
    """Write the result to the study's folder."""
    with locked(folder):
        write_whole(folder / TUNING, json.dumps(asdict(tuning), indent=2))
        write_digests(folder, [TUNING])
    return folder / TUNING


def read_tuning(tree: Mapping[str, Any]) -> Tuning:
    """Read the result from JSON."""
    return TypeAdapter(Tuning).validate_python(tree)


def save_settings(
    tuning: Tuning,
    study: str,
    preset: str,
    overrides: Mapping[str, Any],
    how: Mapping[str, Any],
    folder: Path,
    runtime: Runtime,
) -> list[Path]:
    """Write the chosen setting of every task as `STUDY_TASK.json`; return the paths.

    A setting includes the kinds of solver, sampler and start that its fields belong to.

    Args:
        overrides, how: the user's overrides, and the options of the search, for the provenance.

    Raises:
        UserError: if the folder cannot be written to.
    """
    suffix = f"_{digest(dict(overrides), 6)}" if overrides else ""
    flags = " ".join(map(shlex.quote, [*starmap(as_override, overrides.items()), *families.flags()]))
    command = f"python -m workbench tune {shlex.quote(study)} --preset {preset} {flags}".rstrip()
    paths = []
    for task, found in tuning.tasks.items():
        best = found.best
        told = {
            "command": command,
            "options": dict(how),
            "task": task,
            "chosen": f"on {tuning.num_val_images} validation images, of {len(found.trials)} trials",
            "cell": best.cell,
            "test": {column: asdict(estimate) for column, estimate in best.test.items()},
            "above the default": {column: asdict(estimate) for column, estimate in best.gain.items()},
            **provenance(runtime),
        }
        path = made(folder) / f"{folder_name(study)}_{re.sub('[^a-z0-9]+', '_', task.lower()).strip('_')}{suffix}.json"
        write_whole(
            path, Settings(settings=found.kinds | best.params, provenance=told).model_dump_json(indent=2) + "\n"
        )
        paths.append(path)
    if (folder / DIGESTS).is_file():  # settings that ship
        write_digests(folder, [path.name for path in paths])
    return paths
