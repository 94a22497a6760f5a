"""A study's cells with what is cached, and the state of the workbench on this machine."""

import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.config import UserError
from workbench.core.files import PARTIAL
from workbench.reporting.labels import readable
from workbench.reporting.pace import Pace
from workbench.stages.base import Stage
from workbench.stages.cache import unfinished
from workbench.stages.provenance import read_provenance
from workbench.stages.runtime import Runtime, native_bf16

if TYPE_CHECKING:
    import pandas as pd


LONG_WAIT = 60.0
"""Seconds of work that are announced."""
ANY_PHOTOGRAPH = (3, 512, 512)
"""The size of an image on which every metric is defined."""


def print_overview(name: str, preset: str, overrides: Mapping[str, Any], runtime: Runtime) -> None:
    """Print a table of the study's cells with what is cached, and an estimate of the remaining time."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from workbench.experiments.reference import find_reference
    from workbench.experiments.study import load_study

    study, question = load_study(name)
    cells = study.cells(preset, overrides)
    reference = find_reference(name, preset)
    support = study.supporting(cells, reference)
    table = Table(
        title=f"{name} ({preset})", caption=question.split("\n")[0], box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column in cells[0].labels:
        table.add_column(readable(column), overflow="fold")
    table.add_column("cell", no_wrap=True)
    table.add_column("state", overflow="fold")
    todo: dict[str, Stage] = {}
    refused = ""
    for cell in cells:
        missing = cell.stage.missing(runtime)
        if missing and reference is not None and cell.identity in reference:
            missing, state = [], Text("in the reference", style="green")
        elif missing:
            state = Text(f"needs {_counted(stage.name for stage in missing)}")
        else:
            state = Text("cached", style="green")
        if missing and not refused:
            try:
                cell.stage.check()
            except UserError as error:
                refused = f"the study cannot run: {error}"
        todo.update({stage.identity: stage for stage in missing})
        table.add_row(*map(readable, cell.labels.values()), cell.identity, state)
    runtime.progress.show(table)
    if refused:
        runtime.progress.say(refused)
        return
    if reference is None or not reference.supports(support):
        todo.update({needed.identity: needed for stage in support.values() for needed in stage.missing(runtime)})
    if todo:
        pace = Pace(runtime)
        seconds = sum(pace.seconds(stage) for stage in todo.values())
        runtime.progress.say(f"{len(todo)} stages are left, about {_duration(seconds)} on this machine")
    else:
        runtime.progress.say("all cached")


def announce(stage: Stage | None, runtime: Runtime) -> None:
    """Say what a stage will take with all that it needs, if that is long."""
    missing = [] if stage is None else stage.missing(runtime)
    pace = Pace(runtime)
    seconds = sum(pace.seconds(needed) for needed in missing)
    if stage is not None and seconds >= LONG_WAIT:
        runtime.progress.say(f"{stage.label}: about {_duration(seconds)} on this machine, once")


def _duration(seconds: float) -> str:
    """A duration in a suitable unit: "24 min"."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{math.ceil(seconds)} s"


def _counted(names: Iterable[str]) -> str:
    """Each name once, with its count if it is above one: "train_prior, 3 evaluate"."""
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in Counter(names).items())


def stage_table(name: str, preset: str, overrides: Mapping[str, Any], runtime: Runtime) -> "pd.DataFrame":
    """One row per stage behind the study's cells and statistics, each after its dependencies.

    Columns: `stage`, its kind; `label`; `identity`; `state`; `folder` of its artifact, which may not exist yet;
    `seconds`, the time taken here, or the estimate if it is needed, else NaN. States:

    - "cached": computed here
    - "ships": weights of the zoo or given ones
    - "in the reference": its results are reference results
    - "needed": `study` would compute it
    - "not needed": everything that depends on it exists
    """
    import pandas as pd

    from workbench.experiments.reference import find_reference
    from workbench.experiments.study import load_study

    study, _ = load_study(name)
    study_cells = study.cells(preset, overrides)
    cells = [cell.stage for cell in study_cells]
    reference = find_reference(name, preset)
    support = study.supporting(study_cells, reference)
    in_reference = {cell.identity for cell in study_cells if reference is not None and cell.identity in reference}
    if reference is not None and reference.supports(support):
        in_reference |= {stage.identity for stage in support.values()}
    stages: dict[str, Stage] = {}
    needed: set[str] = set()
    for top in (*cells, *support.values()):
        stages |= {stage.identity: stage for stage in _upward(top)}
        if top.identity not in in_reference:
            needed |= {stage.identity for stage in top.missing(runtime)}
    rows, pace = [], Pace(runtime)
    for identity, stage in stages.items():
        folder, seconds = stage.folder(runtime), math.nan
        if stage.shipped() is not None:
            state = "ships"
        elif stage.is_cached(runtime):
            state, seconds = "cached", read_provenance(folder).get("wall_seconds", math.nan)
        elif identity in needed:
            state, seconds = "needed", pace.seconds(stage)
        else:
            state = "in the reference" if identity in in_reference else "not needed"
        rows.append((stage.name, stage.label, identity, state, str(folder), seconds))
    return pd.DataFrame(rows, columns=["stage", "label", "identity", "state", "folder", "seconds"])


def _upward(stage: Stage) -> Iterator[Stage]:
    """A stage after its dependencies; shipped stages have none."""
    for needed in stage.upstream() if stage.shipped() is None else ():
        yield from _upward(needed)
    yield stage


def print_doctor(runs: Path) -> None:
    """Print versions, device, threads, data and weights found, and the W&B mode."""
    import importlib.metadata

    import torch
    from rich.console import Console
    from rich.table import Table

    from workbench import __version__
    from workbench.core.config import kind_of, members
    from workbench.data import Source
    from workbench.metrics import DISTS, KID, NIQE, Absent, LPIPSConfig, MetricWeights, load_lpips
    from workbench.tracking.mode import wandb_mode
    from workbench.weights import zoo

    table = Table(show_header=False, box=None)
    packages = ("torch", "torchvision", "diffusers", "deepinv", "lightning", "torchmetrics", "lpips", "wandb", "optuna")
    table.add_row("workbench", f"{__version__} on Python {platform.python_version()}")
    table.add_row("packages", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    table.add_row("device", f"CPU with {os.cpu_count()} cores, {torch.get_num_threads()} threads; GPU: {gpu}")
    advice = "in hardware: --severity_encoder.precision=bf16 may be faster" if native_bf16("cpu") else "not in hardware"
    table.add_row("bf16", advice)
    for source in members(Source):
        if not any(info.is_required() for info in source.model_fields.values()):
            present = source().is_present()  # type: ignore[attr-defined]
            kind = kind_of(source)
            table.add_row(f"data {kind}", "present" if present else f"absent: python -m workbench data fetch {kind}")
    table.add_row("zoo", ", ".join(folder.name for folder in zoo.folders()) or f"empty ({zoo.zoo_root()})")
    try:
        lpips = load_lpips(LPIPSConfig())
        table.add_row("LPIPS", lpips.reason if isinstance(lpips, Absent) else "backbone found")
    except UserError as error:
        table.add_row("LPIPS", str(error))
    for name, metric in (("DISTS", DISTS()), ("NIQE", NIQE()), ("FID and KID", KID())):
        try:
            found = metric.load(MetricWeights(), ANY_PHOTOGRAPH)
            table.add_row(name, found.reason if isinstance(found, Absent) else "weights found")
        except UserError as error:
            table.add_row(name, str(error))
    table.add_row("W&B", wandb_mode())
    try:
        if not runs.exists():
            table.add_row("runs", f"{runs.resolve()}, created by the first command that writes to it")
        else:
            Runtime(runs).require_writable()
            table.add_row("runs", f"{runs.resolve()}, writable")
        if begun := unfinished(runs):
            size = sum(file.stat().st_size for folder in begun for file in folder.rglob("*") if file.is_file())
            table.add_row(
                "unfinished",
                f"stages: {len(begun)}, {size / 1e6:.1f} MB; run the same commands again to resume them, "
                f"or delete {runs}/stages/*/*{PARTIAL} to discard them",
            )
    except UserError as error:
        table.add_row("runs", str(error))
    Console(markup=False, emoji=False).print(table)
