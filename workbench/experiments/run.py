"""Run a study: compute the missing cells, use reference results, and combine the results."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.config import UserError, digest
from workbench.core.digests import checked
from workbench.core.files import locked, whole, write_whole
from workbench.core.foreign import FOREIGN
from workbench.core.progress import Update
from workbench.experiments.catalogue import folder_name
from workbench.experiments.reference import Reference, find_reference, reference_root, shipped_presets, write_reference
from workbench.experiments.results import TUNING, Cell, StudyResults
from workbench.experiments.study import Study, command_of, load_study, refuse_namesakes
from workbench.stages.base import Stage, ensure_all, remembered_identities
from workbench.stages.provenance import provenance, read_provenance
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def study_folder(runtime: Runtime, name: str, preset: str, overrides: Mapping[str, Any]) -> Path:
    """The folder of a study's results; overrides have their own folder."""
    suffix = f"-{digest(dict(overrides), 6)}" if overrides else ""
    return runtime.root / "studies" / folder_name(name) / f"{preset}{suffix}"


def made(folder: Path) -> Path:
    """Create the folder if it does not exist, and check that it is writable.

    Raises:
        UserError: if it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {folder}: {error.strerror}") from None
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    return folder


def run_study(
    name: str,
    preset: str,
    overrides: Mapping[str, Any],
    runtime: Runtime,
    *,
    use_reference: bool = True,
    ensure: Callable[[Sequence[Stage], Runtime, Update], None] = ensure_all,
) -> tuple[StudyResults | None, Path]:
    """Run the missing cells, then combine and write the results; returns (results, folder).

    Results are None for a study whose cells have no rows.

    Args:
        use_reference: use reference results for cells that are not cached.
        ensure: computes the missing artifacts: in this process, in several, or on a cluster.
    """
    plan = _Plan.of(name, preset, overrides, runtime, use_reference)
    missing = [cell for cell in plan.cells if cell.identity not in plan.shipped]
    for cell in missing:
        if not cell.is_cached(runtime):
            cell.stage.check()
    folder = study_folder(runtime, name, preset, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    cached = sum(cell.is_cached(runtime) for cell in plan.cells)
    runtime.progress.say(f"{name} ({preset}): {len(plan.cells)} cells, {cached} cached{plan.from_reference()}")
    stages = [cell.stage for cell in missing] + ([] if plan.evidence_shipped else list(plan.support.values()))
    with runtime.progress.task(f"study {name}") as update:
        ensure(stages, runtime, update)
    index = [{"cell": c.identity, **c.labels, "config": c.stage.model_dump(mode="json")} for c in plan.cells]
    with locked(folder):
        write_whole(folder / "cells.json", json.dumps(index, indent=2))
        if plan.study.finish is not None:
            plan.study.finish(plan.cells, folder, runtime)
        results = gather(plan, runtime)
        if results is not None:
            _write_rows(results, folder)
    return results, folder


def _write_rows(results: StudyResults, folder: Path) -> None:
    with whole(folder / "results.parquet") as partial:
        results.frame.to_parquet(partial)


def cached_results(
    name: str, preset: str, overrides: Mapping[str, Any], runtime: Runtime, *, use_reference: bool = True
) -> tuple[Study, StudyResults]:
    """The cached or reference results of a study; computes and writes nothing.

    Raises:
        UserError: if a cell is missing or damaged, or the study's cells have no rows.
    """
    plan = _Plan.of(name, preset, overrides, runtime, use_reference)
    here = [cell for cell in plan.cells if cell.identity not in plan.shipped]
    needed = [cell.stage for cell in here] + ([] if plan.evidence_shipped else list(plan.support.values()))
    missing = sum(not stage.is_cached(runtime) for stage in needed)
    if missing:
        raise UserError(
            f"{missing} of {len(plan.cells) + len(plan.support)} cells and statistics are not computed yet; run: "
            f"{command_of(name, preset, overrides)}{plan.why_not_reference()}"
        )
    for stage in needed:
        stage.ensure(runtime)
    results = gather(plan, runtime)
    if results is None:
        raise UserError(f"the cells of {name} have no rows to report")
    return plan.study, results


def gather_cached(
    name: str, preset: str, overrides: Mapping[str, Any], runtime: Runtime, *, use_reference: bool = True
) -> tuple[Study, StudyResults, Path]:
    """Like `cached_results`, but also write the rows to the study's folder; returns (study, results, folder).

    Raises:
        UserError: if a cell is missing or damaged, or the study's cells have no rows.
    """
    study, results = cached_results(name, preset, overrides, runtime, use_reference=use_reference)
    folder = study_folder(runtime, name, preset, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _write_rows(results, folder)
    return study, results, folder


def ship(name: str, preset: str, runtime: Runtime, folder: Path) -> tuple[StudyResults, int]:
    """Write the results of a study as a reference, including the last reference; returns (results, missing cells).

    An unfinished study ships the cells that it has, so that a run elsewhere can continue from them.

    Raises:
        UserError: if no cell is computed, or cells have no rows.
    """
    plan = _Plan.of(name, preset, {}, runtime, use_reference=True)
    there = [cell for cell in plan.cells if cell.identity in plan.shipped or cell.is_cached(runtime)]
    if not there:
        raise UserError(f"no cell is computed yet; run: {command_of(name, preset, {})}")
    for cell in there:
        if cell.identity not in plan.shipped:
            cell.stage.ensure(runtime)
    supported = plan.evidence_shipped or all(stage.is_cached(runtime) for stage in plan.support.values())
    num_cells = len(plan.cells)
    plan = replace(plan, cells=there, support=plan.support if supported else {})
    results = gather(plan, runtime)
    if results is None:
        raise UserError(f"the cells of {name} have no rows to ship")
    if "measurement_set" not in results.frame:
        raise UserError(f"the cells of {name} ({preset}) cannot ship: reference results are compared image by image")
    write_reference(results, plan.cells, plan.support, made(folder))
    return results, num_cells - len(there)


def against_reference(name: str, preset: str, runtime: Runtime) -> Iterator[tuple[str, "pd.DataFrame", "pd.DataFrame"]]:
    """(labels, rows here, rows of the reference) of each cell computed here, both indexed by image id.

    Raises:
        UserError: if there is no reference, it is of another study (with the differences), or nothing is computed here.
    """
    import pandas as pd

    from workbench.stages.rows import ROWS

    study, _ = load_study(name)
    cells, reference = study.cells(preset), find_reference(name, preset)
    if reference is None:
        raise UserError(f"{name} ({preset}) has no reference results in {reference_root()}")
    shared = [cell for cell in cells if cell.identity in reference]
    if not shared:
        differences = "; ".join(reference.differences(cells))
        raise UserError(f"{reference.folder} is of another version of the study and cannot be compared: {differences}")
    here = [cell for cell in shared if cell.is_cached(runtime)]
    if not here:
        raise UserError(f"no cell is computed here; run: {command_of(name, preset, {})} --no-reference")
    for cell in here:
        rows = pd.read_parquet(cell.stage.ensure(runtime) / ROWS).set_index("image_id")
        yield ", ".join(cell.labels.values()), rows, reference.rows(cell.identity).set_index("image_id")


@dataclass(frozen=True)
class _Plan:
    """A study at a preset: its cells, and the identities of those that are taken from the reference results."""

    name: str
    preset: str
    overrides: Mapping[str, Any]
    study: Study
    question: str
    cells: list[Cell]
    support: Mapping[str, Stage]
    reference: Reference | None
    shipped: frozenset[str]
    evidence_shipped: bool

    @classmethod
    @remembered_identities()
    def of(cls, name: str, preset: str, overrides: Mapping[str, Any], runtime: Runtime, use_reference: bool) -> "_Plan":
        study, question = load_study(name)
        cells = study.cells(preset, overrides)
        refuse_namesakes(cells)
        reference = find_reference(name, preset) if use_reference else None
        support = study.supporting(cells, reference)
        shipped = frozenset(
            cell.identity
            for cell in cells
            if reference is not None and cell.identity in reference and not cell.is_cached(runtime)
        )
        evidence_shipped = reference is not None and reference.supports(support)
        return cls(name, preset, overrides, study, question, cells, support, reference, shipped, evidence_shipped)

    def from_reference(self) -> str:
        if self.reference is None:
            return ""
        text = f", {len(self.shipped)} taken from {self.reference.folder}"
        return text + ("" if self.shipped else self.why_not_reference())

    def why_not_reference(self) -> str:
        """Why the reference does not have all cells, to be appended to a sentence."""
        if self.reference is None and (others := [p for p in shipped_presets(self.name) if p != self.preset]):
            return f" (reference results exist for preset {', '.join(others)})"
        if self.reference is None or not (differences := self.reference.differences(self.cells)):
            return ""
        return f" (the reference in {self.reference.folder} does not have them: {'; '.join(differences)})"


def gather(plan: _Plan, runtime: Runtime) -> StudyResults | None:
    """The results of finished cells; None if they have no rows.

    Raises:
        UserError: if cells to be compared were measured on different images or noise.
    """
    import pandas as pd

    from workbench.stages.rows import ABSENT, ROWS, SET_METRICS

    cells = plan.cells
    frames, examples, notes = [], {}, set()
    measured: dict[str, set[str]] = {}
    made: list[dict[str, Any]] = []
    sets: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        identity = cell.identity
        if cell.identity in plan.shipped:
            assert plan.reference is not None
            rows, pictures = plan.reference.rows(identity), plan.reference.examples(identity)
            sets[identity] = plan.reference.sets(identity)
        else:
            folder = cell.stage.folder(runtime)
            if not (folder / ROWS).is_file():
                return None
            rows, pictures = pd.read_parquet(folder / ROWS), _read_examples(folder)
            made.append(read_provenance(folder))
            for absent in folder.glob(f"*{ABSENT}"):
                notes.add(absent.read_text())
            if (figures := folder / SET_METRICS).is_file():
                sets[identity] = json.loads(figures.read_text())
        frames.append(rows)
        if "measurement_set" in rows:
            told_apart = {name: getattr(cell.stage, name, None) for name in ("degradation", "severities", "split")}
            measured.setdefault(digest(told_apart), set()).update(rows["measurement_set"])
        examples[identity] = _on_unit_range(pictures)
    if plan.shipped:
        assert plan.reference is not None
        notes.update(plan.reference.index["notes"])
    if any(len(sets) > 1 for sets in measured.values()):
        raise UserError("cells of one degradation were measured on different images or noise: they cannot be compared")
    lengths = [len(rows) for rows in frames]
    labels = pd.DataFrame([{"cell": cell.identity, **cell.labels} for cell in cells])
    labels = labels.loc[labels.index.repeat(lengths)].reset_index(drop=True)
    frame = pd.concat(frames, ignore_index=True).assign(**{str(name): labels[name] for name in labels})
    axes = {column: list(dict.fromkeys(cell.labels[column] for cell in cells)) for column in cells[0].labels}
    evidence = _evidence(plan, runtime)
    command = command_of(plan.name, plan.preset, plan.overrides, "tune" if "tuning" in evidence else "study")
    return StudyResults(
        folder_name(plan.name),
        plan.preset,
        plan.question,
        command,
        axes,
        frame,
        examples,
        _made(plan, made, runtime),
        sorted(notes),
        evidence,
        {identity: figures for identity, figures in sets.items() if figures},
    )


def _evidence(plan: _Plan, runtime: Runtime) -> dict[str, Any]:
    """The evidence of the study's support stages, and the result of `tune`, computed here or from the reference."""
    return _supported(plan, runtime) | _tuned(plan, runtime)


def _tuned(plan: _Plan, runtime: Runtime) -> dict[str, Any]:
    """The result of `tune` for these cells, computed here.

    Raises:
        UserError: if its file is damaged.
    """
    path = study_folder(runtime, plan.name, plan.preset, plan.overrides) / TUNING
    if not path.is_file():
        return {}
    try:
        found = json.loads(checked(path))
        defaults = {task["points"][0]["cell"] for task in found["tasks"].values()}
    except FOREIGN:  # including the errors of `checked` for shipped files: this one was made here
        raise UserError(f"{path} is damaged: delete it and run tune again, which reuses all cached trials") from None
    tasks = plan.study.tasks(plan.preset, plan.overrides)
    return {"tuning": found} if defaults == {task.cell.identity for task in tasks} else {}


def _supported(plan: _Plan, runtime: Runtime) -> dict[str, Any]:
    if plan.evidence_shipped:
        assert plan.reference is not None
        return plan.reference.evidence
    if plan.study.evidence is None or not plan.support:
        return {}
    return plan.study.evidence({name: stage.folder(runtime) for name, stage in plan.support.items()})


def _made(plan: _Plan, made: Sequence[Mapping[str, Any]], runtime: Runtime) -> dict[str, Any]:
    """How the results were computed: what ran here, and the reference's provenance for the other cells."""
    there = plan.reference.provenance if plan.reference is not None and plan.shipped else {}
    if not made:
        return there
    first = plan.cells[0].stage
    commits = {str(m.get("commit")) for m in made} | set(there.get("commits of the cells", ()))
    data = getattr(first, "data", None)  # not every stage uses images
    seconds = sum(m.get("wall_seconds", 0.0) for m in made) + there.get("seconds of the cells", 0.0)
    shipped = {"cells from the reference": len(plan.shipped)} if plan.shipped else {}
    here = provenance(runtime)
    # times in the rows are from both
    if there and there.get("device") != here["device"]:
        here["device"] = f"{here['device']}, and {there.get('device')} for the cells from the reference"
    return (
        here
        | {
            "commits of the cells": sorted(commits),
            "seconds of the cells": round(seconds, 1),
            **({} if data is None else {"data fingerprint": data.fingerprint}),
            "weights": {s.name: s.identity for s in first.upstream()[:2]},
            "cell": first.model_dump(mode="json"),
        }
        | shipped
    )


def _read_examples(folder: Path) -> dict[str, "np.ndarray"]:
    from safetensors.numpy import load_file

    from workbench.stages.rows import EXAMPLES

    path = folder / EXAMPLES
    return load_file(path) if path.is_file() else {}


def _on_unit_range(arrays: Mapping[str, "np.ndarray"]) -> dict[str, "np.ndarray"]:
    """Convert images to (n, height, width, channel) on [0, 1], whether stored as 8 bits or as floats."""
    import numpy as np

    found = {}
    for name, array in arrays.items():
        if array.ndim == 4:
            values = array / np.float32(255) if array.dtype == np.uint8 else array
            found[name] = values.transpose(0, 2, 3, 1)
        else:
            found[name] = array
    return found
