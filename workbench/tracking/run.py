"""Create the W&B run of one record, offline."""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from PIL import Image
from safetensors import SafetensorError

from workbench.core.foreign import FOREIGN
from workbench.metrics import calibration
from workbench.tracking.calibration import log_calibration
from workbench.tracking.inside import file_of, folder_of
from workbench.tracking.pictures import EXAMPLES, PER_IMAGE, means, per_image_table
from workbench.tracking.record import Record

CURVE = "metrics.csv"
READ = (CURVE, PER_IMAGE, EXAMPLES, calibration.FILE)
LARGE = 64 * 2**20
"""Size in bytes above which a file is referenced by its checksum and not uploaded: latents can be recomputed."""


UNREADABLE: tuple[type[Exception], ...] = (
    *FOREIGN,
    *(csv.Error, SafetensorError, Image.DecompressionBombError, wandb.errors.Error),
)
"""Errors of libraries that read unchecked files."""


def make_run(record: Record, runs: Path) -> Path:
    """Create the offline run of a record; return its folder.

    Raises:
        OutsideError: if the record names files that it may not, before anything is created.
        UNREADABLE: if its files are damaged.
    """
    folder = folder_of(runs, record.folder) if record.files or record.picture is not None else None
    files = _files(record, folder)
    run = wandb.init(
        project=record.project,
        group=record.group,
        job_type=record.job_type,
        name=record.name,
        id=record.run_id,
        tags=record.tags,
        config={**record.config, "inputs": list(record.inputs)},
        dir=runs,
        mode="offline",
        reinit="create_new",
        # no console and no machine statistics: the work itself was done in another process
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
    )
    made = Path(run.dir).parent
    try:
        _log(run, record, files)
        run.log_artifact(_artifact(record, files), aliases=[record.run_id])
        run.finish()
    except BaseException:
        run.finish(exit_code=1)  # not `with run`, which prints a traceback
        shutil.rmtree(made, ignore_errors=True)  # a partial run must not be uploaded
        raise
    return made


def _files(record: Record, folder: Path | None) -> dict[str, Path]:
    """The files of a record by name: those of its artifact, those that are read here, and its image."""
    if folder is None:
        return {}
    named = {name: file_of(folder, name) for name in record.files}
    if missing := [name for name, path in named.items() if path is None]:
        raise FileNotFoundError(f"{missing[0]} is missing in {folder}")
    read = {name: file_of(folder, name) for name in (*READ, record.picture) if name is not None}
    return {name: path for name, path in (read | named).items() if path is not None}


def _log(run: Any, record: Record, files: Mapping[str, Path]) -> None:
    if (curve := files.get(CURVE)) is not None:
        with curve.open() as file:
            for row in csv.DictReader(file):
                run.log({name: float(value) for name, value in row.items()}, step=int(float(row["step"])))
    if (rows := files.get(PER_IMAGE)) is not None:
        run.summary.update(means(rows.parent, record.config.get("split", "test")))
        run.log({"per_image": per_image_table(rows, files.get(EXAMPLES))})
    if (found := files.get(calibration.FILE)) is not None:
        log_calibration(run, found)
    if record.table is not None:
        run.log({"table": wandb.Table(columns=list(record.table.columns), data=[list(r) for r in record.table.rows])})
    if record.picture is not None:
        run.log({"picture": wandb.Image(str(files[record.picture]))})


def _artifact(record: Record, files: Mapping[str, Path]) -> wandb.Artifact:
    """The stage's result, as a version of the artifact that is named after it."""
    artifact = wandb.Artifact(record.artifact, record.artifact_type, metadata={"inputs": list(record.inputs)})
    for name in record.files:
        path = files[name]
        if path.stat().st_size < LARGE:
            # finished files do not change, so W&B needs no copies
            artifact.add_file(str(path), name=name, policy="immutable", skip_cache=True)
        else:
            artifact.add_reference(path.as_uri(), name=name)
    return artifact
