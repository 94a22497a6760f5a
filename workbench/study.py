"""A study: a question, the cells that answer it, and the results that come back.

One definition has several readers: `study` runs the cells that are missing and reports; `run` runs one cell; a notebook
reads the results as a DataFrame.
"""

import importlib
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.config import Config, UserError, as_override, digest
from workbench.files import locked, whole, write_whole
from workbench.stages.base import Runtime, Stage, ensure_all, provenance, read_provenance

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

DEFAULT_PRESET = "desk"


@dataclass(frozen=True)
class Preset:
    """A size of a study: what it changes in the cell, and axes that it replaces."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """The definition of a study, one a module of `studies/`.

    Attributes:
        cell: the stage that every cell is a variation of.
        axes: dotted path into the cell -> the values that it takes; the cells are their product.
        columns: names of the axes in tables, where the path is not the best name.
        search: dotted path -> Optuna distribution, for tuning and sweeps.
        presets: sizes by name; "smoke", "desk" and so on.
        report: functions of StudyResults, a section of the page each; None where the results have nothing for it.
        answer: the answer in sentences, made from the results.
        picture: the figure that W&B shows beside the table of means, as PNG.
        finish: called with (cells, folder, runtime) after the last cell, for a study whose result is more than rows.
    """

    cell: Stage
    axes: Mapping[str, Sequence[Any]]
    columns: Mapping[str, str] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    report: Sequence[Callable[["StudyResults"], Any]] = ()
    answer: Callable[["StudyResults"], list[str]] | None = None
    picture: Callable[["StudyResults"], bytes] | None = None
    finish: Callable[[Sequence["Cell"], Path, Runtime], None] | None = None

    def preset(self, name: str) -> Preset:
        """The preset of that name.

        Raises:
            UserError: if there is none.
        """
        if name not in self.presets:
            raise UserError(f"unknown preset {name!r}; there are: {', '.join(self.presets)}")
        return self.presets[name]

    def cells(self, preset: str, overrides: Mapping[str, Any] | None = None) -> list["Cell"]:
        """The cells of a preset, with the user's overrides on each; cells that come out equal are one.

        Raises:
            UserError: for an unknown preset, field or kind, or a cell that cannot work.
        """
        chosen = self.preset(preset)
        axes = {**self.axes, **chosen.axes}
        found: dict[str, Cell] = {}
        for values in itertools.product(*axes.values()):
            # in one, so that a preset's field of what an axis puts in place lands in what it puts there
            stage = self.cell.replace({**chosen.overrides, **dict(zip(axes, values, strict=True))}).replace(overrides)
            labels = {self.columns.get(path, path): label(value_at(stage, path)) for path in axes}
            found.setdefault(stage.identity, Cell(stage, labels))
        return list(found.values())


@dataclass(frozen=True)
class Cell:
    """One grid point: a stage and its labels by axis."""

    stage: Stage
    labels: Mapping[str, str]


@dataclass(frozen=True)
class StudyResults:
    """What a study found.

    Attributes:
        name, preset: which study.
        question: the study's docstring.
        command: how to reproduce.
        axes: axis column -> its labels in order.
        frame: a row an image and cell, with the axes' columns and `cell`.
        examples: cell id -> arrays by name, (n, height, width, channel) on [0, 1], and "image_id".
        provenance: how it was made.
        notes: what a reader should know (what is absent, and why).
        evidence: what else the report rests on, by name; as JSON could hold it.
    """

    name: str
    preset: str
    question: str
    command: str
    axes: dict[str, list[str]]
    frame: "pd.DataFrame"
    examples: dict[str, dict[str, "np.ndarray"]]
    provenance: dict[str, Any]
    notes: list[str]
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Names the results by their cells."""
        return digest(sorted(self.examples))


def load_study(name: str) -> tuple[Study, str]:
    """The study of that name and its docstring.

    Raises:
        UserError: if there is none; the message lists those there are.
    """
    names = study_names()
    if name not in names:
        raise UserError(f"unknown study {name!r}; there are: {', '.join(names)}")
    module = importlib.import_module(f"studies.{name}")
    return module.study, (module.__doc__ or "").strip()


def base_cell(name: str, preset: str, overrides: Mapping[str, Any]) -> Stage:
    """The study's cell at a preset, with the user's overrides and without its axes."""
    study, _ = load_study(name)
    return study.cell.replace(study.preset(preset).overrides).replace(overrides)


def study_names() -> list[str]:
    """The studies that there are, without importing them."""
    folder = Path(__file__).parents[1] / "studies"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def value_at(config: Config, path: str) -> Any:
    """The value at a dotted path."""
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def label(value: Any) -> str:
    """A value in a table: a config's label, else its kind; anything else as it prints."""
    if not isinstance(value, Config):
        return str(value)
    return str(getattr(value, "label", None) or getattr(value, "kind", None) or value)


def command_of(name: str, preset: str, overrides: Mapping[str, Any]) -> str:
    """The command that runs the study."""
    flags = itertools.starmap(as_override, overrides.items())
    return " ".join(["python -m workbench study", name, f"--preset {preset}", *map(shlex.quote, flags)])


def study_folder(runtime: Runtime, name: str, preset: str, overrides: Mapping[str, Any]) -> Path:
    """Where a study's results lie; overrides give it a folder of its own."""
    suffix = f"-{digest(dict(overrides), 6)}" if overrides else ""
    return runtime.root / "studies" / name / f"{preset}{suffix}"


def run_study(
    name: str, preset: str, overrides: Mapping[str, Any], runtime: Runtime
) -> tuple[StudyResults | None, Path]:
    """Run the cells that are missing, then gather the results and write them; (results, folder).

    Results are None for a study whose cells have no rows.
    """
    study, question = load_study(name)
    cells = study.cells(preset, overrides)
    for cell in cells:
        if not cell.stage.is_cached(runtime):
            cell.stage.check()
    folder = study_folder(runtime, name, preset, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    cached = sum(cell.stage.is_cached(runtime) for cell in cells)
    runtime.progress.say(f"{name} ({preset}): {len(cells)} cells, {cached} cached")
    with runtime.progress.task(f"study {name}") as update:
        ensure_all([cell.stage for cell in cells], runtime, update)
    index = [{"cell": c.stage.identity, **c.labels, "config": c.stage.model_dump(mode="json")} for c in cells]
    with locked(folder):
        write_whole(folder / "cells.json", json.dumps(index, indent=2))
        if study.finish is not None:
            study.finish(cells, folder, runtime)
        results = gather(name, preset, question, overrides, cells, runtime)
        if results is not None:
            with whole(folder / "results.parquet") as partial:
                results.frame.to_parquet(partial)
    return results, folder


def gather_cached(
    name: str, preset: str, overrides: Mapping[str, Any], runtime: Runtime
) -> tuple[Study, StudyResults, Path]:
    """The results of a study that has been run; (study, results, folder).

    Raises:
        UserError: if a cell is missing or damaged, or the study's cells have no rows.
    """
    study, question = load_study(name)
    cells = study.cells(preset, overrides)
    missing = sum(not cell.stage.is_cached(runtime) for cell in cells)
    if missing:
        raise UserError(f"{missing} of {len(cells)} cells are not computed yet: {command_of(name, preset, overrides)}")
    for cell in cells:
        cell.stage.ensure(runtime)
    results = gather(name, preset, question, overrides, cells, runtime)
    if results is None:
        raise UserError(f"the cells of {name} have no rows to report")
    return study, results, study_folder(runtime, name, preset, overrides)


def gather(
    name: str, preset: str, question: str, overrides: Mapping[str, Any], cells: Sequence[Cell], runtime: Runtime
) -> StudyResults | None:
    """The results of finished cells; None if they have no rows.

    Raises:
        UserError: if cells that stand side by side were measured on different images or noise.
    """
    import pandas as pd

    from workbench.stages.evaluate import EXAMPLES, LPIPS_ABSENT, ROWS

    frames, examples, notes = [], {}, set()
    measured: dict[str, set[str]] = {}
    for cell in cells:
        folder = cell.stage.folder(runtime)
        if not (folder / ROWS).is_file():
            return None
        frames.append(pd.read_parquet(folder / ROWS).assign(cell=cell.stage.identity, **cell.labels))
        degradation = digest(value_at(cell.stage, "degradation"))
        measured.setdefault(degradation, set()).update(frames[-1]["measurement_set"])
        examples[cell.stage.identity] = _read_examples(folder / EXAMPLES)
        if (absent := folder / LPIPS_ABSENT).is_file():
            notes.add(absent.read_text())
    frame = pd.concat(frames, ignore_index=True)
    axes = {column: list(dict.fromkeys(cell.labels[column] for cell in cells)) for column in cells[0].labels}
    if any(len(sets) > 1 for sets in measured.values()):
        raise UserError("cells of one degradation were measured on different images or noise: they cannot be compared")
    made = [read_provenance(cell.stage.folder(runtime)) for cell in cells]
    record = provenance(runtime) | {
        "commits of the cells": sorted({str(m.get("commit")) for m in made}),
        "seconds of the cells": round(sum(m.get("wall_seconds", 0.0) for m in made), 1),
        "data fingerprint": value_at(cells[0].stage, "data").fingerprint,
        "weights": {s.name: s.identity for s in cells[0].stage.upstream()[:2]},
        "cell": cells[0].stage.model_dump(mode="json"),
    }
    command = command_of(name, preset, overrides)
    return StudyResults(name, preset, question, command, axes, frame, examples, record, sorted(notes))


def _read_examples(path: Path) -> dict[str, "np.ndarray"]:
    """The kept pictures of a cell as (n, height, width, channel) on [0, 1], whether stored as 8 bits or as floats."""
    import numpy as np
    from safetensors.numpy import load_file

    arrays = load_file(path)
    for name, array in arrays.items():
        if array.ndim == 4:
            values = array / np.float32(255) if array.dtype == np.uint8 else array
            arrays[name] = values.transpose(0, 2, 3, 1)
    return arrays
