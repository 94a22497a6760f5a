"""Publish a study's results: the report, the terminal, W&B."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from workbench.core.config import UserError
from workbench.core.files import locked, whole
from workbench.core.progress import Progress
from workbench.experiments.catalogue import is_users, study_names
from workbench.reporting.index import recipe_of, write_index, write_summary
from workbench.reporting.labels import with_one_ssim
from workbench.reporting.opening import picture_strip
from workbench.reporting.page import render
from workbench.reporting.sets import set_section
from workbench.reporting.tables import terminal_table
from workbench.reporting.words import only_seen
from workbench.tracking.record import Record, Table

if TYPE_CHECKING:
    from workbench.experiments.results import StudyResults
    from workbench.experiments.study import Study
    from workbench.stages.base import Stage
    from workbench.stages.runtime import Runtime

PICTURE = "report/matrix.png"
MOST_SHOWN = 40
"""Maximum number of cells in the terminal's table."""
MEANS = (
    "psnr",
    "psnr_decoded",
    "psnr_degraded",
    "psnr_ceiling",
    "ssim",
    "ssim_valid",
    "lpips",
    "dists",
    "spectral_angle",
    "si_sdr",
    "log_spectral_distance",
    "niqe",
    "residual_ratio",
    "nfe",
    "seconds",
)
NAMED = {"ssim": "ssim (reflected borders)"}
"""Columns that have another name in records and in the terminal."""


def publish(study: "Study", results: "StudyResults", folder: Path, runtime: "Runtime") -> None:
    """Write `report/index.html`, print the matrix and the answer, and record the study for W&B."""
    results = _comparable(results)
    with locked(folder):
        page, answer = draw(study, results, folder)
    if results.num_images and len(results.examples) <= MOST_SHOWN:  # more only in the report
        runtime.progress.show(terminal_table(results))
    if results.too_small:
        runtime.progress.say(results.too_small)
    for sentence in answer:
        runtime.progress.say(f"- {sentence}")
    runtime.progress.say(f"page: {page}")
    runtime.progress.say(f"rows: {folder / 'results.parquet'} ({len(results.frame)} rows)")
    runtime.tracker.record(_record(study, results, folder, runtime))


def draw(study: "Study", results: "StudyResults", folder: Path) -> tuple[Path, Sequence[str]]:
    """Write the report below `folder`, with its main figure and its summary for the index; (page, answer)."""
    page = folder / "report" / "index.html"
    results = _comparable(results)
    found = study.read(results)  # once, for all figures and sentences
    answer = study.answer(found) if study.answer is not None else []
    answer = only_seen(answer) if results.too_small else answer
    sections = [drawn for section in study.report if (drawn := section(found)) is not None]
    if (of_sets := set_section(results)) is not None:
        sections.append(of_sets)
    figure = study.main_figure(found) if study.main_figure is not None else None
    pictures = picture_strip(results, study.example(found) if study.example is not None else None)
    html = figure.html() if figure is not None else Markup()
    render(results, sections, page, answer, pictures=pictures, figure=html)
    if figure is not None:
        with whole(folder / PICTURE) as partial:
            partial.write_bytes(figure.png())
    write_summary(results, answer, page.parent)
    return page, answer


def publish_cached(name: str, preset: str, overrides: Mapping[str, Any], runtime: "Runtime") -> None:
    """Publish a study if all its cells are computed; else say which command computes them."""
    from workbench.experiments.run import gather_cached

    try:
        study, results, folder = gather_cached(name, preset, overrides, runtime)
    except UserError as error:
        runtime.progress.say(f"no report: {error}")
    else:
        publish(study, results, folder, runtime)


def report_all(runtime: "Runtime") -> Path:
    """Draw the report of every study that has results below the runs folder, then an index of all.

    A study whose results cannot be collected (a cell is missing) keeps its earlier report, and the index says so.

    Raises:
        UserError: if there are no results, or none with a report.
    """
    from workbench.experiments.run import gather_cached

    studies = runtime.root / "studies"
    folders = sorted(path.parent for path in studies.glob("*/*/results.parquet"))
    if not folders:
        raise UserError(f"no study has results in {studies}; python -m workbench study --list lists the studies")
    kept: dict[Path, str] = {}
    with runtime.progress.task("report --all") as update:
        for index, folder in enumerate(folders):
            update(index, len(folders), f"{folder.parent.name} {folder.name}")
            try:
                if is_users(folder.parent.name) or folder.parent.name not in study_names():
                    raise UserError("it belongs to your own study: run `report` with its path or module")
                study, results, _ = gather_cached(folder.parent.name, *recipe_of(folder), runtime)
                draw(study, results, folder)
            except UserError as error:
                kept[folder] = str(error)
                runtime.progress.say(f"{folder}: not redrawn ({error})")
    page = write_index(studies, folders, kept)
    runtime.progress.say(f"index: {page}")
    return page


def print_cell(stage: "Stage", folder: Path, progress: Progress) -> None:
    """Print the results of one cell, as means with intervals."""
    import numpy as np
    import pandas as pd

    from workbench.metrics import mean_interval
    from workbench.stages.rows import ROWS

    progress.say(f"{stage.label}: {folder}")
    if not (folder / ROWS).is_file():
        return
    frame = pd.read_parquet(folder / ROWS)
    if "image_id" not in frame:
        progress.say(f"  {len(frame)} rows in {folder / ROWS}")
        return
    own = [column for metric in getattr(stage, "metrics", ()) for column in metric.columns if column not in MEANS]
    for name in (*MEANS, *own):
        if name in frame and np.isfinite(frame[name]).all():
            progress.say(f"  {NAMED.get(name, name):<25}{mean_interval(frame[name])}")
    progress.say(f"  over {len(frame)} images")


def print_comparison(name: str, preset: str, runtime: "Runtime") -> None:
    """Print a table of PSNR and NFE of the cells computed here and of the reference, paired by image.

    Raises:
        UserError: if there is no reference, it is of another study (with the differences), or nothing is computed here.
    """
    from rich.table import Table

    from workbench.experiments.run import against_reference
    from workbench.metrics import mean_interval

    table = Table(title=f"{name} ({preset}): here minus reference")
    for column in ("cell", "images", "PSNR here, dB", "difference, dB", "NFE here", "difference"):
        table.add_column(column)
    for label, here, there in against_reference(name, preset, runtime):
        figures = [
            text
            for column in ("psnr", "nfe")
            for text in (f"{here[column].mean():.2f}", str(mean_interval(here[column] - there[column])))
        ]
        table.add_row(label, str(len(here)), *figures)
    runtime.progress.show(table)


def _record(study: "Study", results: "StudyResults", folder: Path, runtime: "Runtime") -> Record:
    """The study's record for W&B, without where it was computed, so that a repeated report is not another run."""
    made_here = ("commit", "dirty", "versions", "device", "threads")
    recorded = [cell for cell in sorted(results.examples) if runtime.tracker.knows(cell)]  # reference cells are not
    return Record(
        run_id=results.identity,
        job_type="study",
        name=f"{results.name} {results.preset}",
        config={
            "command": results.command,
            **{name: value for name, value in results.provenance.items() if name not in made_here},
        },
        inputs=tuple(f"{study.cell.name}:{cell}" for cell in recorded),
        folder=str(folder.relative_to(runtime.root)),
        files=("results.parquet", "cells.json"),
        artifact=f"study-{results.name}",
        artifact_type="results",
        table=_means(results),
        picture=PICTURE if (folder / PICTURE).is_file() else None,
    )


def _means(results: "StudyResults") -> Table:
    """One row per cell: its labels, the number of images and the means."""
    axes = list(results.axes)
    present = [name for name in MEANS if name in results.frame] if results.num_images else []
    grouped = results.frame.groupby(axes, sort=False)
    rows = tuple((*key, len(frame), *(float(frame[name].mean()) for name in present)) for key, frame in grouped)
    return Table(columns=(*axes, "num_images", *(NAMED.get(name, name) for name in present)), rows=rows)


def _comparable(results: "StudyResults") -> "StudyResults":
    """The results for readers: of the two SSIMs, the one that all rows have."""
    return replace(results, frame=with_one_ssim(results.frame))
