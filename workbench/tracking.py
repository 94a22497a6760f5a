"""W&B: one run a stage or study. This file is the only one that knows wandb.

Offline unless the user is logged in or WANDB_MODE says otherwise. Whatever W&B does, a study goes on.
"""

import csv
import netrc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.config import UserError

PROJECT = "severity-workbench"
PER_IMAGE = "per_image.parquet"
CURVE = "metrics.csv"
TIMEOUT = 10
"""Seconds that the server has to answer; then runs are offline."""
MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
"""What $WANDB_MODE may say, and what it means."""


class RunLog:
    """What a stage or study may log; this one logs nothing."""

    def finish_stage(self, folder: Path) -> None:
        """Log what a finished stage left in its folder: its curve, the means of its rows."""

    def summary(self, values: dict[str, Any]) -> None:
        """Set summary values."""

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Log a table."""

    def image(self, name: str, path: Path) -> None:
        """Log a picture."""


class Tracker:
    """Logs nothing: the base of the W&B tracker, and what tests use."""

    @contextmanager
    def run(self, job_type: str, name: str, config: dict[str, Any], run_id: str) -> Iterator[RunLog]:
        """One run, finished at the end of the context."""
        yield RunLog()

    def close(self, say: Callable[[str], None]) -> None:
        """Say where the runs are and how to look at them."""


class WandbTracker(Tracker):
    """Logs each stage and study as a W&B run of one group.

    Args:
        runs: the runs folder; offline runs lie below it.
        group: the study's name.
        say: tells the user.
    """

    def __init__(self, runs: Path, group: str, say: Callable[[str], None]) -> None:
        self.runs, self.group, self.say = runs, group, say
        self.mode = wandb_mode()
        self.folders: list[Path] = []

    @contextmanager
    def run(self, job_type: str, name: str, config: dict[str, Any], run_id: str) -> Iterator[RunLog]:
        run = None if self.mode == "disabled" else self._start(job_type, name, config, run_id)
        if run is None:
            yield RunLog()
            return
        log = _WandbLog(run)
        try:
            yield log
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()

    def close(self, say: Callable[[str], None]) -> None:
        if not self.folders:
            return
        last = self.folders[-1]
        say(f"W&B: {len(self.folders)} runs, {self.mode}, in {last.parent}")
        if self.mode == "offline":
            say(f"  look: wandb leet {last}    upload: wandb sync {last.parent}/offline-run-*")

    def _start(self, job_type: str, name: str, config: dict[str, Any], run_id: str) -> Any:
        """A wandb run; offline if the server does not answer, None if even that fails."""
        import wandb

        for mode in dict.fromkeys([self.mode, "offline"]):
            try:
                run = wandb.init(
                    project=os.environ.get("WANDB_PROJECT", PROJECT),
                    group=self.group,
                    job_type=job_type,
                    name=name,
                    id=run_id,
                    resume="allow" if mode == "online" else None,
                    config=config,
                    dir=self.runs,
                    mode=mode,  # type: ignore[arg-type]
                    reinit="create_new",
                    settings=wandb.Settings(
                        console="off", silent=True, init_timeout=TIMEOUT, x_disable_stats=True, x_disable_meta=True
                    ),
                )
            except (wandb.errors.Error, OSError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                self.say(f"W&B ({mode}) does not answer: {reason}; going on offline")
                self.mode = "offline"
                # W&B's own process still holds the run's id
                wandb.teardown()
                continue
            self.folders.append(Path(run.dir).parent)
            return run
        self.mode = "disabled"
        return None


class _WandbLog(RunLog):
    """Logs to one wandb run."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def finish_stage(self, folder: Path) -> None:
        # the whole curve once the stage is done: a stage that was killed and resumed has one curve, not two
        if (curve := folder / CURVE).is_file():
            with curve.open() as file:
                for row in csv.DictReader(file):
                    self.run.log({name: float(value) for name, value in row.items()}, step=int(float(row["step"])))
        if (rows := folder / PER_IMAGE).is_file():
            import pandas as pd

            frame = pd.read_parquet(rows)
            means = frame.select_dtypes("number").drop(columns="image_id").mean()
            self.summary({f"{self.run.config.get('split', 'test')}/{name}": float(v) for name, v in means.items()})

    def summary(self, values: dict[str, Any]) -> None:
        self.run.summary.update(values)

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        import wandb

        self.run.log({name: wandb.Table(columns=list(columns), data=list(rows))})

    def image(self, name: str, path: Path) -> None:
        import wandb

        self.run.log({name: wandb.Image(str(path))})


def wandb_mode() -> str:
    """$WANDB_MODE; else online where the user is logged in; else offline.

    Raises:
        UserError: if $WANDB_MODE is no mode.
    """
    if mode := os.environ.get("WANDB_MODE"):
        if mode not in MODES:
            raise UserError(f"WANDB_MODE is {mode!r}: set it to online, offline or disabled, or unset it")
        return MODES[mode]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return "online" if netrc.netrc().authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"
