"""One W&B run of one record, made offline."""

import csv
import shutil
from pathlib import Path
from typing import Any

import wandb

from workbench.metrics import calibration
from workbench.tracking.calibration import log_calibration
from workbench.tracking.pictures import PER_IMAGE, means, per_image_table
from workbench.tracking.record import Record

CURVE = "metrics.csv"
LARGE = 64 * 2**20
"""Bytes from which a file is referred to, with its checksum, and not uploaded: latents can be made again."""


def make_run(record: Record, runs: Path) -> Path:
    """Make the offline run of a record whose folder is there; returns the run's folder."""
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
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
    )
    made = Path(run.dir).parent
    try:
        with run:
            _log(run, record, runs / record.folder)
    except BaseException:
        shutil.rmtree(made)  # half a run must not be uploaded
        raise
    return made


def _log(run: Any, record: Record, folder: Path) -> None:
    if (curve := folder / CURVE).is_file():
        with curve.open() as file:
            for row in csv.DictReader(file):
                run.log({name: float(value) for name, value in row.items()}, step=int(float(row["step"])))
    if (folder / PER_IMAGE).is_file():
        run.summary.update(means(folder, record.config.get("split", "test")))
        run.log({"per_image": per_image_table(folder)})
    if (found := folder / calibration.FILE).is_file():
        log_calibration(run, found)
    if record.table is not None:
        run.log({"table": wandb.Table(columns=list(record.table.columns), data=[list(r) for r in record.table.rows])})
    if record.picture is not None:
        run.log({"picture": wandb.Image(str(folder / record.picture))})
    run.log_artifact(_artifact(record, folder), aliases=[record.run_id])


def _artifact(record: Record, folder: Path) -> wandb.Artifact:
    """What the stage made, as a version of the artifact that is named after it."""
    artifact = wandb.Artifact(record.artifact, record.artifact_type, metadata={"inputs": list(record.inputs)})
    for name in record.files:
        path = (folder / name).resolve()
        if path.stat().st_size < LARGE:
            # finished files do not change: W&B needs no copies of them
            artifact.add_file(str(path), name=name, policy="immutable", skip_cache=True)
        else:
            artifact.add_reference(path.as_uri(), name=name)
    return artifact
