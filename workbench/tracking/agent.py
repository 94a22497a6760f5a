"""The run of a sweep: the one that `wandb agent` names to the process that it starts, and whose metric W&B waits for.

Other runs are made after the study (see the package); this one is live, beside that of its stage.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.config import UserError
from workbench.tracking.mode import require_online
from workbench.tracking.tracker import PROJECT


class AgentRun:
    """No agent has started this process.

    Attributes:
        config: the settings that the agent gives, by dotted path.
    """

    config: Mapping[str, Any] = {}

    def log(self, folder: Path, split: str) -> None:
        """Log the means of a finished stage's rows, as the stage's own run has them."""


class LiveRun(AgentRun):
    """The run that the agent has named."""

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

    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            job_type="sweep",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
        )
    except wandb.errors.Error as error:
        raise UserError(f"the run of the sweep cannot be opened: {str(error).splitlines()[0]}") from None
    with run:
        yield LiveRun(run)
