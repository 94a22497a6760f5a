"""What the training stages share: descent on batches given by step number, with curve, checkpoints and progress."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Generator, Tensor, nn

from workbench.core.tensors import Ids
from workbench.stages.base import Stage
from workbench.stages.runtime import Runtime
from workbench.stages.train.together import check_layers, together


class Descent(Protocol):
    """What a recipe says of its training."""

    @property
    def num_train_images(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def precision(self) -> Literal["float32", "bf16"]: ...
    @property
    def seed(self) -> int: ...


def descend(
    network: nn.Module,
    loss: Callable[[dict[str, Any], Generator], tuple[Tensor, dict[str, Tensor]]],
    make_batch: Callable[[Ids, int], dict[str, Any]],
    recipe: Descent,
    folder: Path,
    runtime: Runtime,
    *,
    num_images: int,
    label: str,
    note: Callable[[dict[str, float]], str],
    steps_per_epoch: int,
    stage: Stage | None = None,
    ema_decay: float | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
) -> nn.Module:
    """Train `network`, from `folder`'s last checkpoint where there is one.

    Args:
        loss: of a batch; see `TrainingModule`.
        make_batch: (indices into the training images, step) -> a dict of tensors.
        num_images: that there are to train on.
        label: what is trained, in words.
        note: says of a row of the curve how training goes, in a word or two.
        steps_per_epoch: between two checkpoints and rows of the curve.
        stage: whose work this is, so that other processes can repeat it on further devices; None: always one device.
        ema_decay: of the weights' moving average; None: no average.
        validate: gives the validation figures of a row.

    Returns:
        The network to keep: the moving average where there is one.

    Raises:
        UserError: if the checkpoint cannot be read, the loss or the weights are no longer finite, or several devices
            cannot share the training.
    """
    from workbench.data.module import StepDataModule
    from workbench.training.fit import fit
    from workbench.training.modules import TrainingModule

    if stage is not None and runtime.num_ranks > 1:
        stage.check_devices(runtime.num_ranks)
        check_layers(network, label)
    num_steps = -(-recipe.num_train_images // recipe.batch_size)
    module = TrainingModule(network, loss, num_steps, recipe.learning_rate, recipe.seed, ema_decay)
    data = StepDataModule(num_images, recipe.batch_size, num_steps, steps_per_epoch, recipe.seed, make_batch)
    with runtime.progress.task(f"training {label}") as update, together(stage, folder, runtime) as rank:
        fit(
            module,
            data,
            folder,
            label=label,
            precision=recipe.precision,
            device=runtime.device,
            rank=rank,
            validate=validate,
            progress=lambda done, total, row: update(done, total, note(row)),
        )
    return module.trained
