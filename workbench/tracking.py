"""W&B: one run a stage or study. This file is the only one that knows wandb."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class RunLog:
    """What a stage or study may log; this one logs nothing."""

    def finish_stage(self, folder: Path) -> None:
        """Log what a finished stage left in its folder."""


class Tracker:
    """Logs nothing: the base of the W&B tracker, and what tests use."""

    @contextmanager
    def run(self, job_type: str, name: str, config: dict[str, Any], run_id: str) -> Iterator[RunLog]:
        """One run, finished at the end of the context."""
        yield RunLog()
