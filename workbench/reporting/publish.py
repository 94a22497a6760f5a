"""Give a study's results to people: the page, the terminal, W&B."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.files import locked, whole
from workbench.progress import Progress
from workbench.reporting.page import render
from workbench.reporting.tables import terminal_table

if TYPE_CHECKING:
    from workbench.stages.base import Runtime, Stage
    from workbench.study import Study, StudyResults

MEANS = ("psnr", "psnr_decoded", "psnr_degraded", "psnr_ceiling", "ssim", "lpips", "residual_ratio", "nfe", "seconds")


def publish(study: "Study", results: "StudyResults", folder: Path, runtime: "Runtime") -> None:
    """Write `report/index.html`, print the matrix and the answer, and log them as a W&B run of the study."""
    page = folder / "report" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    answer = study.answer(results) if study.answer is not None else []
    picture = page.parent / "matrix.png"
    with locked(folder):
        render(results, [section(results) for section in study.report], page, answer)
        if study.picture is not None:
            with whole(picture) as partial:
                partial.write_bytes(study.picture(results))
    runtime.progress.show(terminal_table(results))
    for sentence in answer:
        runtime.progress.say(f"- {sentence}")
    runtime.progress.say(f"page: {page}")
    runtime.progress.say(f"rows: {folder / 'results.parquet'} ({len(results.frame)} rows)")
    with runtime.tracker.run("study", f"{results.name} {results.preset}", results.provenance, results.identity) as log:
        columns, rows = _means(results)
        log.table("matrix", columns, rows)
        if study.picture is not None:
            log.image("matrix_image", picture)


def print_cell(stage: "Stage", folder: Path, progress: Progress) -> None:
    """What one cell came to, as means with intervals."""
    import numpy as np
    import pandas as pd

    from workbench.metrics import mean_interval
    from workbench.stages.evaluate import ROWS

    progress.say(f"{stage.label}: {folder}")
    if not (folder / ROWS).is_file():
        return
    frame = pd.read_parquet(folder / ROWS)
    for name in MEANS:
        if name in frame and np.isfinite(frame[name]).all():
            progress.say(f"  {name:<16}{mean_interval(frame[name])}")
    progress.say(f"  over {len(frame)} images")


def _means(results: "StudyResults") -> tuple[list[str], list[list[Any]]]:
    """A row a cell: its labels, the number of images and the means."""
    axes = list(results.axes)
    present = [name for name in MEANS if name in results.frame]
    grouped = results.frame.groupby(axes, sort=False)
    rows = [[*key, len(frame), *(float(frame[name].mean()) for name in present)] for key, frame in grouped]
    return [*axes, "num_images", *present], rows
