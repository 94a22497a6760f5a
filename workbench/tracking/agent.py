"""The run of a sweep: `wandb agent` names it to the process that it starts, and W&B waits for its metric.

It is live, and the only run of its process: creating runs of the stages next to each of a sweep's many short processes
would cost more than the trials.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from workbench.core.config import UserError, is_termination
from workbench.tracking.mode import require_online
from workbench.tracking.tracker import PROJECT


class AgentRun:
    """The run if no agent has started this process: does nothing.

    Attributes:
        is_live: whether an agent has started this process.
        config: the agent's settings, by dotted path.
    """

    is_live: ClassVar[bool] = False
    config: Mapping[str, Any] = {}

    def log(self, folder: Path, split: str) -> None:
        """Log the means of a finished stage's rows, like the stage's own run."""


class LiveRun(AgentRun):
    """The run named by the agent."""

    is_live: ClassVar[bool] = True

    def __init__(self, run: Any) -> None:
        self.run, self.config = run, dict(run.config)

    def log(self, folder: Path, split: str) -> None:
        from workbench.tracking.pictures import means

        self.run.log(means(folder, split))
        self.run.summary["cell"] = folder.name


@contextmanager
def agent_run() -> Iterator[AgentRun]:
    """The agent's run as a context; one that does nothing if there is no agent.

    Raises:
        UserError: if W&B's server cannot be reached.
    """
    if not os.environ.get("WANDB_SWEEP_ID"):
        yield AgentRun()
        return
    require_online("the sweep waits for this run's metric")
    import wandb

    from workbench.tracking.upload import first_line

    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            job_type="sweep",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
        )
    except wandb.errors.Error as error:
        raise UserError(f"the run of the sweep cannot be opened: {first_line(error)}") from None
    try:
        yield LiveRun(run)
    except BaseException as error:
        if is_termination(error):  # W&B has the agent stop the run early
            run.finish()
            # die of the signal: an agent counts an exit code as a failure, and gives up after three in a row
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        run.finish(exit_code=1)
        raise
    run.finish()
