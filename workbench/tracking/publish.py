"""From records to W&B: create the missing runs and, if online, upload them."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import wandb

from workbench.core.addresses import shown
from workbench.core.files import locked
from workbench.tracking.contents import refuse_foreign_files
from workbench.tracking.inside import OutsideError, folder_of, offline_run_of
from workbench.tracking.record import LONGEST, Record, Records
from workbench.tracking.run import UNREADABLE, make_run
from workbench.tracking.upload import declare_inputs, first_line, is_uploaded, log_in, upload


@dataclass(frozen=True)
class Published:
    """Number of uploaded runs, and of runs that should have been uploaded and were not."""

    uploaded: int = 0
    left: int = 0


def publish(runs: Path, say: Callable[[str], None], *, online: bool, patience: float = -1) -> Published:
    """Create the missing offline runs of records, one process at a time, and upload those that are not uploaded.

    If one run fails, the others continue.

    Args:
        say: called with messages about uploads and problems.
        online: whether to upload.
        patience: seconds to wait while another process is publishing; -1: without limit.

    Raises:
        filelock.Timeout: if another process is still publishing.
        UploadError: if nothing can be uploaded.
    """
    records = Records(runs.resolve())
    if not records.paths():
        return Published()
    # where W&B stores tables and images until they are uploaded; its default is the user's home
    os.environ.setdefault("WANDB_DATA_DIR", str(records.runs / "wandb"))
    # `sync` may be called while a study's process is publishing: both would create the same runs
    with locked(records.folder).acquire(timeout=patience):
        known = _read(records, say)
        made = [_make(record, records, say) for record in known]
        if any(made):
            wandb.teardown()  # until then, W&B's own process may buffer a run's last lines
        if not online:
            return Published()
        waiting = [(record, run) for record in known if (run := _waiting_run(record, records, say)) is not None]
        if not waiting:
            return Published()
        api = log_in()
        say(f"uploading {len(waiting)} runs to {shown(api.settings['base_url'])} (log: {records.log})")
        upload([run for _, run in waiting], records)
        uploaded = sum(_complete(record, run, records, api, say) for record, run in waiting)
        return Published(uploaded, len(waiting) - uploaded)


def _read(records: Records, say: Callable[[str], None]) -> list[Record]:
    found = []
    for path in records.paths():
        try:
            found.append(records.read(path))
        except (OSError, ValueError) as error:
            say(f"{path} is skipped: {first_line(error)}")
    return found


def _make(record: Record, records: Records, say: Callable[[str], None]) -> bool:
    """Create the offline run of a record unless it exists; return whether one was created."""
    mark = records.mark_of(record)
    try:
        # the run of a mark may be deleted and uploaded
        if mark is not None:
            run = offline_run_of(records.runs, mark.run, record.run_id)
            if mark.record == record.identity and (mark.uploaded or run.is_dir()):
                return False
            shutil.rmtree(run, ignore_errors=True)  # the run of an earlier result of the stage
        if record.files and not folder_of(records.runs, record.folder).is_dir():
            return False  # deleted since
        records.mark(record, make_run(record, records.runs))
    except UNREADABLE as error:
        say(f"{_name(record)}: {type(error).__name__}: {first_line(error)}")
        return False
    return True


def _waiting_run(record: Record, records: Records, say: Callable[[str], None]) -> Path | None:
    """The record's offline run if it exists, may be uploaded and is not yet."""
    mark = records.mark_of(record)
    if mark is None or mark.uploaded or mark.record != record.identity:
        return None
    try:
        run = offline_run_of(records.runs, mark.run, record.run_id)
    except OutsideError:
        return None  # reported when it should have been created
    try:
        if not is_uploaded(run):
            refuse_foreign_files(run, records.runs)
    except (OSError, OutsideError) as error:
        say(f"{_name(record)} is not uploaded: {first_line(error)}")
        return None
    return run


def _complete(record: Record, run: Path, records: Records, api: wandb.Api, say: Callable[[str], None]) -> bool:
    """Declare the inputs of an uploaded run and mark the record; return whether all of that succeeded."""
    if not is_uploaded(run):
        return False
    try:
        lacking = declare_inputs(record, api)
    except UNREADABLE as error:
        say(f"{_name(record)}: {first_line(error)}")
        return False
    for name in lacking:
        say(f"{_name(record)}: W&B has no artifact {name}")
    # an artifact deleted before its upload will never exist; do not wait for it
    waited_for = [name for name in lacking if records.can_be_made(name.rpartition(":")[2])]
    if not waited_for:
        records.mark(record, run, uploaded=True)
    return not waited_for


def _name(record: Record) -> str:
    """The name of a record, on one line."""
    return " ".join(record.name.split())[:LONGEST]
