"""The run of a sweep: the one that `wandb agent` names to the process that it starts, and whose metric W&B waits for.

It is live, and the only one of its process: runs of the stages, made beside each of a sweep's many short processes,
would take more of the machine than the trials.
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
    """No agent has started this process.

    Attributes:
        is_live: whether one has.
        config: the settings that it gives, by dotted path.
    """

    is_live: ClassVar[bool] = False
    config: Mapping[str, Any] = {}

    def log(self, folder: Path, split: str) -> None:
        """Log the means of a finished stage's rows, as the stage's own run has them."""


class LiveRun(AgentRun):
    """The run that the agent has named."""

    is_live: ClassVar[bool] = True

    def __init__(self, run: Any) -> None:
        self.run, self.config = run, dict(run.config)

    def log(self, folder: Path, split: str) -> None:
        from workbench.tracking.pictures import means

        self.run.log(means(folder, split))
        self.run.summary["cell"] = folder.name


@contextmanager
def agent_run() -> Iterator[AgentRun]:
    """The agent's run while it is open; one that does nothing where there is no agent.

    Raises:
        UserError: if W&B's server cannot be told of it.
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
            # die of it, for an agent counts an exit code as a failure, and gives up after three at once
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        run.finish(exit_code=1)
        raise
    run.finish()
