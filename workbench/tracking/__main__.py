"""`python -m workbench.tracking RUNS`: the process that makes W&B runs beside a study.

Its standard input is open as long as the study runs. It makes runs once a minute and when that ends: most of its work
comes after the study, for even at the lowest priority it takes a share of caches and memory.
"""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOWEST_PRIORITY = 19
PAUSE = 60.0
"""Seconds between two looks for new records while the study runs."""


def main() -> None:
    """Publish the records below a runs folder until the study ends, and what is left then."""
    os.nice(LOWEST_PRIORITY)
    runs = Path(sys.argv[1])
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") == "online":
        _try(runs, _check_key)  # at once, for a short study to say that the key is rejected
    for _ in _wakes(PAUSE):
        _try(runs, _publish)


def _wakes(pause: float) -> Iterator[None]:
    """Every `pause` seconds until standard input ends, and then once more."""
    while not select.select([sys.stdin], [], [], pause)[0]:
        yield
    yield


def _try(runs: Path, step: Callable[[Path], str | None]) -> None:
    """Do a step, and keep what it says is wrong where the study looks for it."""
    from workbench.files import write_whole
    from workbench.tracking.record import Records

    records = Records(runs)
    problem = step(runs)
    if problem is None:
        records.problem.unlink(missing_ok=True)
    else:
        _say(problem)
        write_whole(records.problem, f"{problem}; upload later: python -m workbench sync --runs {runs}")


def _check_key(_: Path) -> str | None:
    """Why the key cannot be used, if runs are to be uploaded."""
    from workbench.tracking.mode import wandb_mode
    from workbench.tracking.upload import UploadError, log_in

    try:
        if wandb_mode() == "online":
            log_in()
    except UploadError as error:
        return str(error)
    return None


def _publish(runs: Path) -> str | None:
    """Publish what there is; returns why it could not be uploaded."""
    from workbench.tracking.record import Records

    if not Records(runs).paths():
        return None  # without wandb and pandas loaded
    from workbench.tracking.mode import wandb_mode
    from workbench.tracking.publish import publish
    from workbench.tracking.upload import UploadError

    try:
        published = publish(runs, _say, online=wandb_mode() == "online")
    except UploadError as error:
        return str(error)
    return f"{published.left} runs were not uploaded" if published.left else None


def _say(line: str) -> None:
    print(f"{time.asctime()}: {line}", flush=True)


if __name__ == "__main__":
    main()
