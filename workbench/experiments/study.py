"""A study: a question, and the cells that answer it.

One definition has several uses: `study` runs the missing cells and writes the report; `run` runs one cell; `tune`
searches the fields in `search`, and `sweep` has W&B search them; a notebook reads the results as a DataFrame.
"""

import importlib
import importlib.util
import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, cast

from typing_extensions import TypeVar

from workbench.core.config import Config, UnknownFieldError, UserError, as_override, plain
from workbench.core.families import allow, attempt, flags
from workbench.experiments.catalogue import import_folder, is_path, is_users, module_of, study_names
from workbench.experiments.results import Cell, StudyResults
from workbench.stages.base import Stage, remembered_identities
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from workbench.experiments.reference import Reference

DEFAULT_PRESET = "desk"

R = TypeVar("R", default=Any)


Axes = Mapping[str, Sequence[Any]]
"""Dotted path into the cell -> its values."""


@dataclass(frozen=True)
class Preset:
    """A size of a study.

    Attributes:
        overrides: overrides of every cell that has the field.
        axes: replacements of the study's axes.
        grids: further grids of cells, in addition to that of the axes; each is the product of its own axes. For
            questions about some cells only.
        search: further search fields, for cells that have them.
        cell: a stage of another kind, of which the cells are variations along the preset's own axes only.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    axes: Axes = field(default_factory=dict)
    grids: Sequence[Axes] = ()
    search: Mapping[str, "BaseDistribution"] = field(default_factory=dict)
    cell: Stage | None = None


@dataclass(frozen=True)
class TuningTask:
    """A cell of a study, to be tuned.

    Attributes:
        name: labels of the cell, without the searched axes.
        cell: the cell with its own values of the searched fields: the default to beat.
        search: dotted path -> Optuna distribution, for those of the study's `search` fields that the cell has.
    """

    name: str
    cell: Stage
    search: Mapping[str, "BaseDistribution"]


@dataclass(frozen=True)
class Study(Generic[R]):
    """The definition of a study: the object `study` of its module (see workbench/experiments/catalogue.py).

    R is the type of the study's results.

    Attributes:
        cell: the stage that every cell is a variation of.
        axes: dotted path into the cell -> its values; the cells are their product.
        columns: names of the axes in tables, if the path is not the best name; None for an axis that follows from
            the others and is not shown.
        support: given the cells, further stages by name whose artifacts the report needs.
        evidence: given the folders of these artifacts by name, the data that the report needs, as JSON.
        search: dotted path -> Optuna distribution, for tuning and sweeps; applies to each cell that has the field.
        presets: sizes by name: "smoke", "desk" and so on.
        results: turns the rows into the study's own typed results, once per report; all functions below take them.
            None: they take the StudyResults.
        report: functions that each return one `reporting.Section` of the report, or None if the results have no data.
        answer: the answer, in at most five sentences with one number each.
        main_figure: the `reporting.MainFigure` next to the answer, also logged to W&B.
        example: identity of the cell whose images open the report; by default the first with stored images.
        finish: called with (cells, folder, runtime) after the last cell, for a study with more than rows as result.
    """

    cell: Stage
    axes: Axes
    columns: Mapping[str, str | None] = field(default_factory=dict)
    support: Callable[[Sequence["Cell"]], Mapping[str, Stage]] | None = None
    evidence: Callable[[Mapping[str, Path]], dict[str, Any]] | None = None
    search: Mapping[str, "BaseDistribution"] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    results: Callable[["StudyResults"], R] | None = None
    report: Sequence[Callable[[R], Any]] = ()
    answer: Callable[[R], Sequence[str]] | None = None
    main_figure: Callable[[R], Any] | None = None
    example: Callable[[R], str | None] | None = None
    finish: Callable[[Sequence["Cell"], Path, Runtime], None] | None = None

    def supporting(self, cells: Sequence["Cell"], reference: "Reference | None" = None) -> Mapping[str, Stage]:
        """What `support` gives; nothing where images are too few for one of the stages: the page goes without.

        Args:
            reference: results that ship, perhaps with what these very stages say.
        """
        stages = self.support(cells) if self.support is not None else {}
        if reference is not None and reference.supports(stages):  # to ask for more may take seconds
            return stages
        return stages if all(stage.enough() for stage in stages.values()) else {}

    def read(self, results: StudyResults) -> R:
        """The study's own typed results."""
        return cast(R, results) if self.results is None else self.results(results)

    def preset(self, name: str) -> Preset:
        """The preset of that name.

        Raises:
            UserError: if it does not exist.
        """
        if name not in self.presets:
            raise UserError(f"unknown preset {name!r}; available: {', '.join(self.presets)}")
        return self.presets[name]

    @remembered_identities()
    def cells(self, preset: str, overrides: Mapping[str, Any] | None = None) -> list["Cell"]:
        """The cells of a preset, with the user's overrides on each; duplicates are merged.

        Members of a family have different fields: an override applies to the cells that have its field. Cells of a
        further grid that an override of its own axis makes invalid (a start that relies on a severity encoder, without
        one) are left out.

        Raises:
            UserError: for an unknown preset, a field or kind that no cell has, or an invalid cell.
        """
        chosen = self.preset(preset)
        base = chosen.cell or self.cell
        own = {} if chosen.cell is not None else self.axes
        grids = [{**own, **chosen.axes}, *chosen.grids]
        columns = _columns(grids)
        found: dict[str, Cell] = {}
        unused = _Unused()
        for axes in grids:
            for values in itertools.product(*axes.values()):
                # in one call, so that a preset's field applies to the member that an axis sets
                stage = unused.replace(base, chosen.overrides, dict(zip(axes, values, strict=True)))
                try:
                    stage = unused.replace(stage, overrides or {}, {})
                except UnknownFieldError:
                    raise
                except UserError:
                    if axes is grids[0] or not _touches(overrides or {}, axes):
                        raise
                    continue  # the cell of this further grid is incompatible with the override
                named = ((self.columns.get(path, path), path) for path in columns)
                labels = {name: label(value_at(stage, path)) for name, path in named if name is not None}
                cell = Cell(stage, labels)
                found.setdefault(cell.identity, cell)
        unused.refuse()
        if not found:
            empty = ", ".join(sorted({path for axes in grids for path, values in axes.items() if not values}))
            raise UserError(f"the study has no cells: give {empty or 'an axis'} at least one value")
        return list(found.values())

    def tasks(self, preset: str, overrides: Mapping[str, Any] | None = None) -> list[TuningTask]:
        """The tuning tasks of a preset: every cell, except for axes over searched fields.

        Fields that the user overrides are not searched.

        Raises:
            UserError: for an unknown preset, nothing to search, a field that no cell has, a distribution that includes
                values that the field rejects, or cells with the same labels.
        """
        given = overrides or {}
        chosen = self.preset(preset)
        whole = {**self.search, **chosen.search}
        search = {path: distribution for path, distribution in whole.items() if path not in given}
        if not search:
            why = f"overrides set all of it ({', '.join(whole)})" if whole else "the study's `search` is empty"
            raise UserError(f"there is nothing to search: {why}")
        axes, *grids = (_without(axes, search) for axes in (chosen.axes, *chosen.grids))
        plain = replace(
            self, axes=_without(self.axes, search), presets={preset: replace(chosen, axes=axes, grids=grids)}
        )
        cells = plain.cells(preset, given)
        refuse_namesakes(cells)
        unknown: dict[str, UnknownFieldError] = {}
        tasks = []
        for cell in cells:
            own = {}
            for path, distribution in search.items():
                try:
                    _try_ends(cell.stage, path, distribution)
                    own[path] = distribution
                except UnknownFieldError as error:
                    unknown[path] = error
            tasks.append(TuningTask(", ".join(cell.labels.values()) or cell.stage.name, cell.stage, own))
        for path, refusal in unknown.items():
            if not any(path in task.search for task in tasks):
                raise UserError(f"search: {refusal}")
        return [task for task in tasks if task.search]


def refuse_namesakes(cells: Sequence[Cell]) -> None:
    """Raise an error if two cells have the same labels, by which tables identify cells.

    Raises:
        UserError: if two cells have the same labels.
    """
    counts = Counter(tuple(cell.labels.values()) for cell in cells)
    if twice := [labels for labels, count in counts.items() if count > 1]:
        raise UserError(
            f"several cells have the labels {', '.join(twice[0])}: add an axis for the fields in which they differ"
        )


def _without(axes: Axes, search: Iterable[str]) -> Axes:
    return {path: values for path, values in axes.items() if path not in search}


def _try_ends(cell: Stage, path: str, distribution: Any) -> None:
    """Reject a distribution if the cell rejects one of its choices, or an end of its range."""
    ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
    for value in ends:
        try:
            cell.replace({path: value})
        except UnknownFieldError:
            raise
        except UserError as error:
            raise UserError(f"the search of {path} includes {value}, which is invalid: {error}") from None


def _touches(overrides: Mapping[str, Any], axes: Axes) -> bool:
    """Whether an override changes a value that an axis has set."""
    return any(path == axis or path.startswith(f"{axis}.") for path in overrides for axis in axes)


def _columns(grids: Sequence[Axes]) -> list[str]:
    """The paths that identify cells, without those that only set a member whose fields have paths of their own."""
    paths = list(dict.fromkeys(path for axes in grids for path in axes))
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


class _Unused:
    """Overrides for which some cells have no field, and whether any cell has one."""

    def __init__(self) -> None:
        self.refused: dict[str, UnknownFieldError] = {}
        self.used: set[str] = set()

    def replace(self, stage: Stage, overrides: Mapping[str, Any], required: Mapping[str, Any]) -> Stage:
        """`stage` with those of `overrides` that it has fields for, and all of `required`."""
        wanted = dict(overrides)
        while True:
            try:
                replaced = stage.replace({**wanted, **required})
            except UnknownFieldError as error:
                path = next((p for p in wanted if p == error.path or error.path.startswith(f"{p}.")), None)
                if path is None or path in required:
                    raise
                self.refused[path] = error
                del wanted[path]
            else:
                self.used.update(wanted)
                return replaced

    def refuse(self) -> None:
        """Raise the error of an override that no cell has used."""
        for path, error in self.refused.items():
            if path not in self.used:
                raise error


def load_study(name: str) -> tuple[Study, str]:
    """Load a study and its docstring: a built-in one by name, or the user's by the path of its file or its module.

    This imports, and so runs, the study: its name must come from the user, never from a file.

    Raises:
        UserError: if there is none; the message lists the studies.
    """
    if is_users(name):
        module = _users_module(name)
    elif name in (names := study_names()):
        module = _imported(name)
    else:
        raise UserError(f"unknown study {name!r}; available: {', '.join(names)}")
    return module.study, (module.__doc__ or "").strip()


def _users_module(name: str) -> ModuleType:
    """The module of a user's study, in which everything may be named.

    Raises:
        UserError: if there is none, another module has its name, it fails, or it defines no study.
    """
    module_name = module_of(name)
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise UserError(f"{name} cannot be imported: {module_name!r} is not a valid name of a Python module")
    if is_path(name):
        if not Path(name).is_file():
            raise UserError(f"there is no file {name}")
        folder = str(import_folder(name))
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that nothing in it replaces a library
        importlib.invalidate_caches()
        spec = attempt(f"cannot find {module_name}", lambda: importlib.util.find_spec(module_name))
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != Path(name):
            raise UserError(
                f"{name} cannot be imported as {module_name}: another module has this name; rename the file"
            )
    module = attempt(f"cannot import {module_name}", lambda: _imported(name))
    if not isinstance(getattr(module, "study", None), Study):
        raise UserError(f"{name} defines no study: an object `study` of workbench.experiments.study.Study")
    allow(module_name)
    return module


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(module_of(name))
    except UserError:
        raise
    except ValueError as error:  # Optuna rejects a distribution with reversed bounds
        raise UserError(f"study {name!r} is invalid: {str(error).splitlines()[0]}") from error


def base_cell(name: str, preset: str, overrides: Mapping[str, Any]) -> Stage:
    """The study's cell at a preset, with the user's overrides and without its axes."""
    study, _ = load_study(name)
    chosen = study.preset(preset)
    return (chosen.cell or study.cell).replace(chosen.overrides).replace(overrides)


def value_at(config: Config, path: str) -> Any:
    """The value at a dotted path; the member itself if it lacks the field."""
    value: Any = config
    for name in path.split("."):
        if isinstance(value, Config) and name not in type(value).model_fields:
            return value
        value = getattr(value, name)
    return value


def setting_at(config: Config, path: str) -> Any:
    """The value at a dotted path as an override gives it: for a member without other settings, its kind."""
    return plain(value_at(config, path))


def label(value: Any) -> str:
    """A value in a table: a config's label, else its kind; any other value as text."""
    if not isinstance(value, Config):
        return str(value)
    return str(getattr(value, "label", None) or getattr(value, "kind", None) or value)


def command_of(name: str, preset: str, overrides: Mapping[str, Any], verb: str = "study") -> str:
    """The command that runs the study, or another verb of it."""
    settings = itertools.starmap(as_override, overrides.items())
    words = map(shlex.quote, [*settings, *flags()])
    return " ".join([f"python -m workbench {verb}", shlex.quote(name), f"--preset {preset}", *words])
