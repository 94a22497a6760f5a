"""Which process is at work on a trial, and what becomes of the trials of those that died.

A trial keeps the host and the process of its worker in its user attributes, and the next `tune` on the host sees
whether that process lives: if not, the trial has failed, and its parameters are enqueued again. A journal has no
heartbeat, and a database's does not begin before a trial does.
"""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study, Trial

HOST, PID, STARTED, AGAIN = "host", "pid", "process_started", "again_of"
"""User attributes: the worker's machine, its process, when that started, and the trial whose parameters these were."""


def claim(trial: "Trial") -> None:
    """Say that this process is at work on the trial."""
    trial.set_user_attr(HOST, socket.gethostname())
    trial.set_user_attr(PID, os.getpid())
    trial.set_user_attr(STARTED, _started(os.getpid()))


def recover(study: "Study", *, has_heartbeat: bool) -> int:
    """Mark the trials of dead workers of this host as failed, and enqueue again what failed; returns how many.

    Hold the lock under which trials are begun: one that is running and unclaimed then has no worker any more.

    Args:
        has_heartbeat: the storage has one, which sees to the trials of other hosts, and they hold no lock of ours.
    """
    from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_orphan(trial.user_attrs, unclaimed=not has_heartbeat):
            study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    succeeded = {number for t in trials for number in (t.user_attrs.get(AGAIN), Retry.retried_trial_number(t))}
    lost = [t for t in trials if t.state == TrialState.FAIL and t.params and t.number not in succeeded]
    for trial in lost:
        study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})
    return len(lost)


def _is_orphan(attributes: dict[str, Any], unclaimed: bool) -> bool:
    """Whether nobody is at work on a running trial; another host's worker is taken to live.

    Args:
        unclaimed: what to say of a trial that nobody has claimed.
    """
    if PID not in attributes or STARTED not in attributes:
        return unclaimed
    return attributes[HOST] == socket.gethostname() and _started(attributes[PID]) != attributes[STARTED]


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
