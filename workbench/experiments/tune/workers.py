"""Which process is running a trial, and how the trials of dead processes are recovered.

A trial stores the host and process of its worker in its user attributes. The next `tune` on the host checks whether
that process is alive; if not, the trial is marked as failed and its parameters are enqueued again. A journal has no
heartbeat, and a database's does not start before the trial.
"""

import os
import socket
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

HOST, PID, STARTED, AGAIN = "host", "pid", "process_started", "again_of"
"""User attributes: the worker's host, its process, the start time of that, and the trial that is being repeated."""

UNCLAIMED = 60.0
"""Seconds within which a worker claims the trial that it has started; a sampler needs far less."""


def claim(trial: "Trial") -> None:
    """Mark the trial as running in this process."""
    trial.set_user_attr(HOST, socket.gethostname())
    trial.set_user_attr(PID, os.getpid())
    trial.set_user_attr(STARTED, _started(os.getpid()))


def recover(study: "Study", *, everywhere: bool = False) -> int:
    """Mark the trials of dead workers as failed, and enqueue them again, once; return their number.

    A worker of this host is dead if its process is, or if it has not claimed its trial after UNCLAIMED seconds.

    Args:
        everywhere: also treat the workers of other hosts as dead.
    """
    from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_orphan(trial, everywhere):
            study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    again = {number for t in trials for number in (t.user_attrs.get(AGAIN), Retry.retried_trial_number(t))}
    failed = [t for t in trials if t.state == TrialState.FAIL and t.params]
    lost = [t for t in failed if t.number not in again and AGAIN not in t.user_attrs]
    for trial in lost:
        study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})
    return len(lost)


def elsewhere(study: "Study") -> list[str]:
    """The running trials of workers on other hosts, in words."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    others = [t for t in running if t.user_attrs.get(HOST, socket.gethostname()) != socket.gethostname()]
    return [f"trial {t.number} of process {t.user_attrs.get(PID)} on {t.user_attrs[HOST]}" for t in others]


def _is_orphan(trial: "FrozenTrial", everywhere: bool) -> bool:
    """Whether no worker is running a trial that is marked as running."""
    attributes = trial.user_attrs
    if PID not in attributes or STARTED not in attributes:
        begun = trial.datetime_start
        return begun is not None and (datetime.now() - begun).total_seconds() > UNCLAIMED
    if attributes[HOST] != socket.gethostname():
        return everywhere
    return _started(attributes[PID]) != attributes[STARTED]


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5)); None if it does not exist or is a zombie.

    The process number alone is not enough: containers reuse the same few numbers.
    """
    try:
        # the name, in parentheses, may contain spaces
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
