"""`python -m workbench.tracking RUNS`: the process that makes W&B runs beside a study.

It looks for records at every line on its standard input and once more when that ends, with the study or before.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from workbench.files import write_whole
from workbench.tracking.record import Records

LOWEST_PRIORITY = 19


def main() -> None:
    """Publish the records below a runs folder until the study ends."""
    os.nice(LOWEST_PRIORITY)
    records = Records(Path(sys.argv[1]))
    for _ in _wakes():
        if not records.paths():
            continue  # wandb and pandas are only loaded where there is something to do
        reason = _publish(records.runs)
        if reason is None:
            records.problem.unlink(missing_ok=True)
        else:
            _say(reason)
            write_whole(records.problem, f"{reason}; upload later: python -m workbench sync --runs {records.runs}")


def _wakes() -> Iterator[None]:
    """At once, for every record, and at the end."""
    yield
    for _ in sys.stdin:
        yield
    yield


def _say(line: str) -> None:
    print(f"{time.asctime()}: {line}", flush=True)


def _publish(runs: Path) -> str | None:
    """Publish what there is; returns why it could not be uploaded."""
    from workbench.tracking.mode import wandb_mode
    from workbench.tracking.publish import publish
    from workbench.tracking.upload import UploadError

    try:
        published = publish(runs, _say, online=wandb_mode() == "online")
    except UploadError as error:
        return str(error)
    return f"{published.left} runs were not uploaded" if published.left else None


if __name__ == "__main__":
    main()
