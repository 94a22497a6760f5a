"""A study: a question, and the cells that answer it.

One definition has several readers: `study` runs the cells that are missing and reports; `run` runs one cell; `tune`
searches the fields named in `search`, and `sweep` has W&B search them; a notebook reads the results as a DataFrame.
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
from workbench.stages.base import Stage
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DEFAULT_PRESET = "desk"

R = TypeVar("R", default=Any)


Axes = Mapping[str, Sequence[Any]]
"""Dotted path into the cell -> the values that it takes."""


@dataclass(frozen=True)
class Preset:
    """A size of a study.

    Attributes:
        overrides: what it changes in every cell that has the field.
        axes: axes of the study that it replaces.
        grids: further grids of cells beside that of the axes, each the product of its own axes: for what is asked of
            some cells only.
        search: further fields that are searched in the cells that have them.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    axes: Axes = field(default_factory=dict)
    grids: Sequence[Axes] = ()
    search: Mapping[str, "BaseDistribution"] = field(default_factory=dict)


@dataclass(frozen=True)
class TuningTask:
    """A cell of a study, to be tuned.

    Attributes:
        name: its labels, without the axes that are searched.
        cell: the cell, with its own values of what is searched: the default to be beaten.
        search: dotted path -> Optuna distribution, of those fields of the study's `search` that the cell has.
    """

    name: str
    cell: Stage
    search: Mapping[str, "BaseDistribution"]


@dataclass(frozen=True)
class Study(Generic[R]):
    """The definition of a study, the object `study` of its module (see workbench/experiments/catalogue.py).

    R is what its rows are read into.

    Attributes:
        cell: the stage that every cell is a variation of.
        axes: dotted path into the cell -> the values that it takes; the cells are their product.
        columns: names of the axes in tables, where the path is not the best name; None for an axis that follows from
            the others and is in no table.
        support: given the cells, further stages by name on whose artifacts the report rests.
        evidence: what the report needs of those artifacts, as JSON, from their folders by name.
        search: dotted path -> Optuna distribution, for tuning and sweeps: what is searched in each cell that has the
            field.
        presets: sizes by name; "smoke", "desk" and so on.
        results: reads the rows into the study's own typed results, once per report; all below take what it returns.
            None: they take the StudyResults as they are.
        report: the `reporting.Section`s of the page, a function each; None where the results have nothing for it.
        answer: the answer, in at most five sentences with one number each.
        main_figure: the `reporting.MainFigure` that stands beside the answer, and in W&B.
        example: the identity of the cell whose pictures open the page; by default the first that keeps some.
        finish: called with (cells, folder, runtime) after the last cell, for a study whose result is more than rows.
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

    def read(self, results: StudyResults) -> R:
        """The study's own typed results."""
        return cast(R, results) if self.results is None else self.results(results)

    def preset(self, name: str) -> Preset:
        """The preset of that name.

        Raises:
            UserError: if there is none.
        """
        if name not in self.presets:
            raise UserError(f"unknown preset {name!r}; available: {', '.join(self.presets)}")
        return self.presets[name]

    def cells(self, preset: str, overrides: Mapping[str, Any] | None = None) -> list["Cell"]:
        """The cells of a preset, with the user's overrides on each; cells that come out equal are one.

        Members of a family differ in their fields: an override is on the cells that have its field. Cells of a further
        grid on whose own axis an override makes them impossible (a start that trusts a severity encoder, where there is
        none) are left out.

        Raises:
            UserError: for an unknown preset, a field or kind that no cell has, or a cell that cannot work.
        """
        chosen = self.preset(preset)
        grids = [{**self.axes, **chosen.axes}, *chosen.grids]
        columns = _columns(grids)
        found: dict[str, Cell] = {}
        unused = _Unused()
        for axes in grids:
            for values in itertools.product(*axes.values()):
                # in one, so that a preset's field of what an axis puts in place lands in what it puts there
                stage = unused.replace(self.cell, chosen.overrides, dict(zip(axes, values, strict=True)))
                try:
                    stage = unused.replace(stage, overrides or {}, {})
                except UnknownFieldError:
                    raise
                except UserError:
                    if axes is grids[0] or not _touches(overrides or {}, axes):
                        raise
                    continue  # what only this further grid asks does not go with the override
                named = ((self.columns.get(path, path), path) for path in columns)
                labels = {name: label(value_at(stage, path)) for name, path in named if name is not None}
                cell = Cell(stage, labels)
                found.setdefault(cell.identity, cell)
        unused.refuse()
        return list(found.values())

    def tasks(self, preset: str, overrides: Mapping[str, Any] | None = None) -> list[TuningTask]:
        """What is tuned at a preset: every cell, but for axes over fields that are searched.

        A field that the user sets by an override is not searched.

        Raises:
            UserError: for an unknown preset, nothing to search, a field that no cell has, a distribution that reaches
                values which the field refuses, or cells that cannot be told apart.
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
    """Tables tell cells apart by their labels.

    Raises:
        UserError: if two have the same.
    """
    counts = Counter(tuple(cell.labels.values()) for cell in cells)
    if twice := [labels for labels, count in counts.items() if count > 1]:
        raise UserError(
            f"several cells are called {', '.join(twice[0])}: put what they differ in on an axis of its own"
        )


def _without(axes: Axes, search: Iterable[str]) -> Axes:
    return {path: values for path, values in axes.items() if path not in search}


def _try_ends(cell: Stage, path: str, distribution: Any) -> None:
    """Refuse a distribution if the cell refuses one of its choices, or an end of its range."""
    ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
    for value in ends:
        try:
            cell.replace({path: value})
        except UnknownFieldError:
            raise
        except UserError as error:
            raise UserError(f"the search of {path} reaches {value}, which cannot be: {error}") from None


def _touches(overrides: Mapping[str, Any], axes: Axes) -> bool:
    """Whether an override changes what an axis has put in place."""
    return any(path == axis or path.startswith(f"{axis}.") for path in overrides for axis in axes)


def _columns(grids: Sequence[Axes]) -> list[str]:
    """The paths that tell cells apart, without those that put in place what another path leads into."""
    paths = list(dict.fromkeys(path for axes in grids for path in axes))
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


class _Unused:
    """Overrides that some cells have no field for, and whether any cell has one."""

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
    """A study and its docstring: one of ours by its name, or the user's by its file's path or its module's dotted name.

    This imports, and so runs, the study: its name must come from the user, never from a file.

    Raises:
        UserError: if there is none; the message lists those there are.
    """
    if is_users(name):
        module = _users_module(name)
    elif name in (names := study_names()):
        module = _imported(name)
    else:
        raise UserError(f"unknown study {name!r}; available: {', '.join(names)}")
    return module.study, (module.__doc__ or "").strip()


def _users_module(name: str) -> ModuleType:
    """The module of a study of the user's, in which everything may be named.

    Raises:
        UserError: if there is none, another module has its name, it fails, or it defines no study.
    """
    module_name = module_of(name)
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise UserError(f"{name} cannot be imported: {module_name!r} is no name of a Python module")
    if is_path(name):
        if not Path(name).is_file():
            raise UserError(f"there is not a file {name}")
        folder = str(import_folder(name))
        if folder not in sys.path:
            sys.path.append(folder)  # last, as nothing in it is to stand in for a library
        importlib.invalidate_caches()
        spec = attempt(f"cannot find {module_name}", lambda: importlib.util.find_spec(module_name))
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != Path(name):
            raise UserError(f"{name} cannot be imported as {module_name}: that is another module; rename the file")
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
    except ValueError as error:  # Optuna refuses a distribution whose bounds are reversed
        raise UserError(f"study {name!r} is not sound: {str(error).splitlines()[0]}") from error


def base_cell(name: str, preset: str, overrides: Mapping[str, Any]) -> Stage:
    """The study's cell at a preset, with the user's overrides and without its axes."""
    study, _ = load_study(name)
    return study.cell.replace(study.preset(preset).overrides).replace(overrides)


def value_at(config: Config, path: str) -> Any:
    """The value at a dotted path; the member itself where the path leads into one that lacks the field."""
    value: Any = config
    for name in path.split("."):
        if isinstance(value, Config) and name not in type(value).model_fields:
            return value
        value = getattr(value, name)
    return value


def setting_at(config: Config, path: str) -> Any:
    """The value at a dotted path as an override writes it: of a member of which its kind says all, the kind."""
    return plain(value_at(config, path))


def label(value: Any) -> str:
    """A value in a table: a config's label, else its kind; anything else as it prints."""
    if not isinstance(value, Config):
        return str(value)
    return str(getattr(value, "label", None) or getattr(value, "kind", None) or value)


def command_of(name: str, preset: str, overrides: Mapping[str, Any]) -> str:
    """The command that runs the study."""
    settings = itertools.starmap(as_override, overrides.items())
    words = map(shlex.quote, [*settings, *flags()])
    return " ".join(["python -m workbench study", shlex.quote(name), f"--preset {preset}", *words])
