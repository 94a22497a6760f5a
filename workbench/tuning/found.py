"""What a search found, kept as JSON beside the study's results: trials, fronts, importance, transfer."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from workbench.config import UserError
from workbench.files import locked, write_whole
from workbench.goal import Goal
from workbench.results import TUNING
from workbench.settings import Settings
from workbench.tuning.front import Point
from workbench.tuning.transfer import Transfer


@dataclass(frozen=True)
class TrialValues:
    """A finished trial on validation images; a pruned one has no values."""

    number: int
    params: dict[str, Any]
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Found:
    """What the search of one task found.

    Attributes:
        search: field -> Optuna's distribution as JSON.
        trials: in the order in which they began.
        points: the default, then the front from the cheapest on.
        chosen: the place of the setting that is best on validation images and costs no more than the default.
        importance: objective -> field -> share of the variance.
        transfer: task -> what the chosen setting is worth there, against that task's own.
    """

    search: dict[str, Any]
    trials: tuple[TrialValues, ...]
    points: tuple[Point, ...]
    chosen: int
    importance: dict[str, dict[str, float]]
    transfer: dict[str, Transfer]

    @property
    def best(self) -> Point:
        """The chosen setting."""
        return self.points[self.chosen]


@dataclass(frozen=True)
class Tuning:
    """What a search of all tasks of a study found.

    Attributes:
        goal: what was searched for.
        num_val_images: on how many validation images a trial was judged.
        sampler: Optuna's.
        tasks: by name.
    """

    goal: Goal
    num_val_images: int
    sampler: str
    tasks: dict[str, Found]


def write_tuning(tuning: Tuning, folder: Path) -> Path:
    """Write it into the study's folder."""
    with locked(folder):
        write_whole(folder / TUNING, json.dumps(asdict(tuning), indent=2))
    return folder / TUNING


def read_tuning(tree: Mapping[str, Any]) -> Tuning:
    """The same from JSON."""
    return TypeAdapter(Tuning).validate_python(tree)


def save_settings(tuning: Tuning, study: str, preset: str, folder: Path) -> list[Path]:
    """Write the chosen setting of every task as `STUDY_TASK.json`; the paths.

    Raises:
        UserError: if the folder cannot be written to.
    """
    paths = []
    for task, found in tuning.tasks.items():
        best = found.best
        provenance = {
            "command": f"python -m workbench tune {study} --preset {preset}",
            "task": task,
            "chosen": f"on {tuning.num_val_images} validation images, of {len(found.trials)} trials",
            "cell": best.cell,
            "test": {column: asdict(estimate) for column, estimate in best.test.items()},
            "above the default": {column: asdict(estimate) for column, estimate in best.gain.items()},
        }
        path = folder / f"{study}_{re.sub('[^a-z0-9]+', '_', task.lower()).strip('_')}.json"
        text = Settings(settings=best.params, provenance=provenance).model_dump_json(indent=2)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, f"{text}\n")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None
        paths.append(path)
    return paths
