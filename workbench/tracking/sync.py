"""`python -m workbench sync`: upload the runs that are not uploaded yet."""

import os
from collections.abc import Callable
from pathlib import Path

from filelock import Timeout

from workbench.core.config import UserError
from workbench.tracking.publish import publish
from workbench.tracking.record import Records
from workbench.tracking.upload import NoKeyError, UploadError

PATIENCE = 10
"""Seconds to wait for the process of a study that has just ended."""


def sync(runs: Path, say: Callable[[str], None]) -> None:
    """Create the runs of all records, and upload them.

    Raises:
        UserError: if nobody is logged in.
        UploadError: if the server does not answer, rejects the key or does not accept all runs.
    """
    if not Records(runs).paths():
        say(f"nothing to upload: there are no records for W&B in {runs}")
        return
    os.environ.pop("WANDB_MODE", None)  # studies may run offline, but sync means upload
    try:
        published = publish(runs, say, online=True, patience=PATIENCE)
    except NoKeyError as error:
        raise UserError(str(error)) from None
    except Timeout:
        raise UploadError("another process is creating or uploading these runs: try again in a minute") from None
    if published.left:
        raise UploadError(f"{published.left} runs were not uploaded, see above; {published.uploaded} were")
    if not published.uploaded:
        say("nothing to upload: all runs are at W&B")
    else:
        say(f"W&B: {published.uploaded} runs uploaded")
