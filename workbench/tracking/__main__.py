"""`python -m workbench.tracking RUNS`: the background process that creates W&B runs, one per runs folder.

Its standard input is open as long as the study runs. It creates runs once a minute and when the study ends: most of its
work comes after the study, because even at the lowest priority it competes for caches and memory. A second process of
the same runs folder ends immediately, before it loads anything: the first one handles all records.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.tracking.turn import give_up, take_again, take_turn

LOWEST_PRIORITY = 19
PAUSE, PAUSE_AFTER = 60.0, 10.0
"""Seconds between two checks for new records, during the study, and after it while other studies write some."""
AFTER_STUDY = 1800
"""Maximum seconds after the end of the study."""
GRACE = 60
"""Seconds after that until it is killed if it hangs."""


class OutOfTime(BaseException):
    """The study ended long ago. Not an Exception, so that no code on the way treats it as the failure of one run."""


def main() -> None:
    """Publish the records below a runs folder until the study ends, and then the remaining ones."""
    runs = Path(sys.argv[1])
    # a study passes its turn on; if started by hand, take it
    turn = int(sys.argv[2]) if sys.argv[2:] else take_turn(runs)
    if turn is None:
        return
    os.setpriority(os.PRIO_PROCESS, 0, LOWEST_PRIORITY)
    os.set_inheritable(turn, False)
    signal.signal(signal.SIGALRM, _out_of_time)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(ended,), daemon=True).start()
    try:
        _publish_all(runs, turn, ended)
    except OutOfTime:
        _say(
            f"ended {AFTER_STUDY // 60} minutes after the study; the next study continues, "
            f"or python -m workbench sync --runs {runs}"
        )


def _publish_all(runs: Path, turn: int, ended: threading.Event) -> None:
    """Publish until the study has ended and no other study has written a record since the last check."""
    from workbench.core.files import write_whole
    from workbench.tracking.record import Records

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") == "online":
        _try(runs, _check_key)  # immediately, so that a short study can report a rejected key
    records, is_over = Records(runs), False
    while True:
        is_over = ended.wait(PAUSE)
        seen = records.written()
        _try(runs, _publish)
        with suppress(OSError):
            write_whole(records.looked, seen)
        if not is_over:
            continue
        if records.written() == seen:
            _tear_down()
            # a study that writes a record now finds the turn free, or is noticed here
            give_up(turn)
            if records.written() == seen or not take_again(turn):
                return
        time.sleep(PAUSE_AFTER)


def _watch(ended: threading.Event) -> None:
    """Wait for the end of standard input, the study; from then on, time is limited, whatever we wait for."""
    while os.read(0, 1024):
        pass
    faulthandler.dump_traceback_later(AFTER_STUDY + GRACE, exit=True)
    signal.alarm(AFTER_STUDY)
    ended.set()


def _out_of_time(*_: Any) -> None:
    raise OutOfTime


def _tear_down() -> None:
    """End W&B's own process: once the turn is free, another process may start immediately."""
    if (wandb := sys.modules.get("wandb")) is not None:
        wandb.teardown()


def _try(runs: Path, step: Callable[[Path], str | None]) -> None:
    """Run a step, and store its problem where the study looks for it."""
    from workbench.core.files import write_whole
    from workbench.tracking.record import Records

    records = Records(runs)
    problem = step(runs)
    if problem is not None:
        _say(problem)
    with suppress(OSError):  # the disk may be full
        if problem is None:
            records.problem.unlink(missing_ok=True)
            return
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
    """Publish all records; return why they could not be uploaded."""
    from workbench.tracking.record import Records

    if not Records(runs).paths():
        return None  # without loading wandb and pandas
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
    # immediately: Python's cleanup with half a gigabyte in memory may overlap with the next such process
    sys.stdout.flush()
    os._exit(0)
