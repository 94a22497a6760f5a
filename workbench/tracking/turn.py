"""Which process may create W&B runs: at most one per runs folder, however many studies are running.

The turn is a kernel lock on a file. A study that takes it passes it, as an open file, to the process that it starts, so
that no second one is ever started; the kernel releases it when that process ends in any way.
"""

import fcntl
import os
from pathlib import Path

RECORDS = "wandb-records"
"""The folder of records below the runs folder."""
TURN = ".turn"


def take_turn(runs: Path) -> int | None:
    """The open file that holds the turn; None if another process has it, or it cannot be locked here."""
    try:
        file = os.open(runs / RECORDS / TURN, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError:
        return None
    if _locked(file):
        return file
    os.close(file)
    return None


def take_again(file: int) -> bool:
    """Whether the turn that was given up could be taken again: another process may have it now."""
    return _locked(file)


def give_up(file: int) -> None:
    """Let another process take the turn."""
    fcntl.flock(file, fcntl.LOCK_UN)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # or a file system without locks
        return False
    return True
