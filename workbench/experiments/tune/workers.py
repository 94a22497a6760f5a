"""Which process is at work on a trial, and what becomes of the trials of those that died.

A trial keeps the host and the process of its worker in its user attributes, and the next `tune` on the host sees
whether that process lives: if not, the trial has failed, and its parameters are enqueued again. A journal has no
heartbeat, and a database's does not begin before a trial does.
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
"""User attributes: the worker's machine, its process, when that started, and the trial whose parameters these were."""

UNCLAIMED = 60.0
"""Seconds within which a worker claims the trial that it has begun, far more than a sampler takes."""


def claim(trial: "Trial") -> None:
    """Say that this process is at work on the trial."""
    trial.set_user_attr(HOST, socket.gethostname())
    trial.set_user_attr(PID, os.getpid())
    trial.set_user_attr(STARTED, _started(os.getpid()))


def recover(study: "Study", *, everywhere: bool = False) -> int:
    """Mark the trials of dead workers as failed, and enqueue again, once, what failed; returns how many.

    A worker of this host is dead if its process is; one that has not claimed its trial, after UNCLAIMED seconds.

    Args:
        everywhere: take the workers of other hosts to be dead too.
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
    """The running trials of other hosts' workers, in words."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    others = [t for t in running if t.user_attrs.get(HOST, socket.gethostname()) != socket.gethostname()]
    return [f"trial {t.number} of process {t.user_attrs.get(PID)} on {t.user_attrs[HOST]}" for t in others]


def _is_orphan(trial: "FrozenTrial", everywhere: bool) -> bool:
    """Whether nobody is at work on a running trial."""
    attributes = trial.user_attrs
    if PID not in attributes or STARTED not in attributes:
        begun = trial.datetime_start
        return begun is not None and (datetime.now() - begun).total_seconds() > UNCLAIMED
    if attributes[HOST] != socket.gethostname():
        return everywhere
    return _started(attributes[PID]) != attributes[STARTED]


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did (proc(5)); None: there is none, or only a zombie.

    A number alone says little: containers give the same few to one process after another.
    """
    try:
        # the name, in parentheses, may hold spaces
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
