"""Upload offline runs to W&B's server, and declare their input artifacts."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import wandb

from workbench.core.addresses import shown
from workbench.tracking.record import LONGEST, Record, Records

ANSWER_SECONDS = 10
"""Timeout of a request to the server."""
UPLOAD_SECONDS = 1800
"""Timeout of an upload; the next one continues with the remaining runs."""


class UploadError(Exception):
    """Why nothing can be uploaded now, in one line."""


class NoKeyError(UploadError):
    """Nobody is logged in."""


def first_line(error: BaseException) -> str:
    """The first line of W&B's error message, without its additions."""
    return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST]


def log_in() -> wandb.Api:
    """W&B's server, after checking that it answers and accepts the user's key.

    Raises:
        NoKeyError: if there is no key.
        UploadError: if the server does not answer, or rejects the key.
    """
    wandb.setup(settings=wandb.Settings(silent=True))
    host = wandb.setup().settings.base_url
    try:
        if not wandb.login(prompt=False, verify=False):
            raise NoKeyError(f"no W&B key for {shown(host)}: run `wandb login`, or set WANDB_API_KEY")
        _reach(host)
        return wandb.Api(timeout=ANSWER_SECONDS)
    except wandb.errors.AuthenticationError as error:
        raise UploadError(
            f"W&B rejects the key ({first_line(error)}): set another with `wandb login --relogin`"
        ) from None


def _reach(host: str) -> None:
    """Check that the server answers at all; W&B's own client would retry for minutes without a reason."""
    try:
        urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        pass
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UploadError(f"W&B at {shown(host)} does not answer ({reason})") from None


def upload(offline_runs: Sequence[Path], records: Records) -> None:
    """Upload offline runs, as far as they are not uploaded yet; W&B's output goes to the records' log.

    Raises:
        UploadError: if it takes too long.
    """
    waiting = [str(run) for run in offline_runs if not is_uploaded(run)]
    if not waiting:
        return
    try:
        with records.open_log() as log:
            subprocess.run(
                [sys.executable, "-m", "wandb", "sync", *waiting],
                env={**os.environ, "WANDB_DIR": str(records.runs)},  # it writes its own log there
                stdout=log,
                stderr=log,
                timeout=UPLOAD_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise UploadError(f"the upload of {len(waiting)} runs to W&B took longer than {UPLOAD_SECONDS} s") from None


def is_uploaded(run: Path) -> bool:
    """Whether W&B has marked this offline run as uploaded."""
    return any(run.glob("*.wandb.synced"))


def declare_inputs(record: Record, api: wandb.Api) -> list[str]:
    """Declare to W&B which artifacts an uploaded run used, which an offline run cannot do; return the missing ones."""
    if not record.inputs:
        return []
    project = f"{os.environ.get('WANDB_ENTITY') or api.default_entity}/{record.project}"
    run = api.run(f"{project}/{record.run_id}")
    lacking = []
    for name in record.inputs:
        try:
            run.use_artifact(api.artifact(f"{project}/{name}"))
        except wandb.errors.CommError:
            lacking.append(name)
    return lacking
