"""The Trainer factory: resumes from the last checkpoint, writes the training curve, and keeps Lightning quiet."""

import csv
import logging
import math
import pickle
import signal
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from workbench.core.config import UserError
from workbench.core.files import whole
from workbench.core.foreign import FOREIGN
from workbench.core.ranks import Rank
from workbench.data.module import StepDataModule
from workbench.training.group import disbanded, placement
from workbench.training.modules import TrainingModule

Precision = Literal["float32", "bf16"]
Progress = Callable[[int, int, dict[str, float]], None]
CHECKPOINT = "last.ckpt"
PARTS = {"epoch": int, "global_step": int, "state_dict": dict, "loops": dict, "callbacks": dict} | dict.fromkeys(
    ("optimizer_states", "lr_schedulers"), list
)
"""Content of a checkpoint."""


def fit(
    module: TrainingModule,
    data: StepDataModule,
    folder: Path,
    *,
    label: str = "network",
    precision: Precision = "float32",
    device: str = "cpu",
    rank: Rank | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Train for `data.num_steps` steps, resuming from `folder`'s last checkpoint if there is one.

    After every epoch, the curve gets a row in `folder/metrics.csv`, then a checkpoint is written; a run killed in
    between repeats that epoch. The checkpoint is kept until the stage is complete, so that a kill or a full disk after
    the last epoch does not cost the whole training.

    Raises:
        UserError: if the checkpoint cannot be read, or the loss or the weights are not finite.

    Args:
        label: name of what is trained, in words.
        rank: this process's place among those that train together; the first writes everything.
        validate: computes the validation metrics of a row.
        progress: called with (steps done, total steps, row).
    """
    epochs = -(-data.num_steps // data.steps_per_epoch)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists() and (problem := _problem(checkpoint)) is not None:
        raise UserError(f"the checkpoint {checkpoint} {problem}: delete it to train from the start")
    with _quiet(), _interruptible(), disbanded():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            **placement(device, rank),
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            gradient_clip_val=1.0,
            reload_dataloaders_every_n_epochs=1,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Curve(data, folder, label, validate, progress)],
        )
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint if checkpoint.exists() else None, weights_only=True)
    if not all(value.isfinite().all() for value in module.trained.state_dict().values()):
        raise _diverged(label, trainer.global_step, data.num_steps, "weights are not finite")


def _problem(checkpoint: Path) -> str | None:
    """Why training cannot resume from a checkpoint; None if it can. No code in the checkpoint is run.

    A partial stage may be someone else's, and pickle runs code. Lightning writes only tensors and plain data.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:  # as torch writes it
            if archive.testzip() is not None:
                return "is damaged"
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        return "contains more than tensors and plain data, and is not loaded"
    except FOREIGN:
        return "is damaged"
    if not isinstance(state, dict) or any(not isinstance(state.get(name), kind) for name, kind in PARTS.items()):
        return "is not a training checkpoint"
    return None


class _Curve(Callback):
    """Writes the training curve and the checkpoint at the end of every epoch."""

    def __init__(
        self,
        data: StepDataModule,
        folder: Path,
        label: str,
        validate: Callable[[], dict[str, float]] | None,
        progress: Progress | None,
    ) -> None:
        self.data, self.folder, self.label, self.validate, self.progress = data, folder, label, validate, progress
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # Lightning's handler of SIGTERM talks to the other ranks, who may be in the middle of another exchange
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        row = {"step": float(trainer.global_step)}
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(row["train/loss"]):
            raise _diverged(self.label, trainer.global_step, self.data.num_steps, f"loss is {row['train/loss']}")
        if not trainer.is_global_zero:
            return
        if self.validate is not None:
            module.eval()
            row |= self.validate()
            module.train()
        self.rows.append(row)
        write_csv(self.rows, self.folder / "metrics.csv")
        if self.progress is not None:
            self.progress(trainer.global_step, self.data.num_steps, row)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # at the start of the next epoch, because only then does Lightning's loop state count the last one as done
        if trainer.current_epoch > 0:
            if not trainer.is_global_zero:
                trainer.save_checkpoint(self.folder / CHECKPOINT)  # writes nothing, and waits for rank 0
                return
            with whole(self.folder / CHECKPOINT) as partial:
                trainer.save_checkpoint(partial)


def _diverged(label: str, step: int, num_steps: int, what: str) -> UserError:
    return UserError(
        f"the training of the {label} diverged by step {step} of {num_steps}: its {what}; lower its learning_rate"
    )


def write_csv(rows: list[dict[str, float]], path: Path) -> None:
    """Write rows as CSV, with the columns of the first row; the file is written completely or not at all."""
    with whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Keep Ctrl-C as KeyboardInterrupt: Lightning turns it into exit code 1 and ignores the signal afterwards."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's greetings and its advice on workers and loggers."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
