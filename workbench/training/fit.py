"""The one Trainer: resumes from its last checkpoint, reports its curve, keeps quiet."""

import csv
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.pytorch.callbacks import Callback

from workbench.data.module import StepDataModule
from workbench.training.modules import TrainingModule

Precision = Literal["float32", "bf16"]
Progress = Callable[[int, int, dict[str, float]], None]
CHECKPOINT = "last.ckpt"


def fit(
    module: TrainingModule,
    data: StepDataModule,
    folder: Path,
    *,
    precision: Precision = "float32",
    device: str = "cpu",
    validate: Callable[[], dict[str, float]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Train for `data.num_steps` steps, from `folder`'s last checkpoint where there is one.

    After every epoch the curve gains a row in `folder/metrics.csv`, then a checkpoint is written; a run killed in
    between does that epoch again. The caller removes the checkpoint, by `forget_checkpoint`, once it has saved what it
    keeps.

    Args:
        validate: gives the validation figures of a row.
        progress: called with (steps done, steps in all, row).
    """
    epochs = -(-data.num_steps // data.steps_per_epoch)
    checkpoint = folder / CHECKPOINT
    with _quiet():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if device.startswith("cuda") else "cpu",
            devices=[_gpu_number(device)] if device.startswith("cuda") else 1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            gradient_clip_val=1.0,
            reload_dataloaders_every_n_epochs=1,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Curve(data, folder, validate, progress)],
        )
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint if checkpoint.exists() else None, weights_only=False)


def forget_checkpoint(folder: Path) -> None:
    """Remove what a finished training no longer needs."""
    for path in folder.glob(f"{CHECKPOINT}*"):
        path.unlink()


def _gpu_number(device: str) -> int:
    """1 of "cuda:1"; 0 of "cuda"."""
    return int(device.partition(":")[2] or 0)


class _Curve(Callback):
    """Writes the curve and the checkpoint at the end of every epoch."""

    def __init__(
        self,
        data: StepDataModule,
        folder: Path,
        validate: Callable[[], dict[str, float]] | None,
        progress: Progress | None,
    ) -> None:
        self.data, self.folder, self.validate, self.progress = data, folder, validate, progress
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        row = {"step": float(trainer.global_step)}
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.validate is not None:
            module.eval()
            row |= self.validate()
            module.train()
        self.rows.append(row)
        write_csv(self.rows, self.folder / "metrics.csv")
        if self.progress is not None:
            self.progress(trainer.global_step, self.data.num_steps, row)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        # at the start of the next epoch, since only then does Lightning's loop state say that the last one is done
        if trainer.current_epoch > 0:
            partial = self.folder / (CHECKPOINT + ".partial")
            trainer.save_checkpoint(partial)
            partial.replace(self.folder / CHECKPOINT)


def write_csv(rows: list[dict[str, float]], path: Path) -> None:
    """Write rows whose columns are those of the first, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's greetings and its advice on workers and loggers."""
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
