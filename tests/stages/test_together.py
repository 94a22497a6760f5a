"""Training on two devices of this machine (two processes) learns what one process learns."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import two_ranks
from small_study import tiny_cell
from torch import nn

from workbench.core.config import UserError
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime
from workbench.stages.train import train_autoencoder, train_prior, train_severity
from workbench.stages.train.together import check_layers

NUM_STEPS = 20
TWO = ("cpu", "cpu")
SETTINGS: dict[str, Any] = {
    f"{name}.{field}": value
    for name in ("autoencoder", "prior", "severity_encoder")
    for field, value in {"batch_size": 8, "num_train_images": 8 * NUM_STEPS, "learning_rate": 1e-3}.items()
}
CLASSES = {
    "autoencoder": two_ranks.EveryStepAutoencoder,
    "prior": two_ranks.EveryStepPrior,
    "severity": two_ranks.EveryStepSeverity,
}


@pytest.fixture(scope="module")
def cell(images: Path) -> Evaluate:
    return tiny_cell(images, **SETTINGS)


def stage_of(cell: Evaluate, kind: str) -> Stage:
    """The stage that trains one of the networks, with a row of its curve for every step."""
    stage = {"autoencoder": cell.autoencoder_stage, "prior": cell.prior_stage, "severity": cell.severity_stage}[kind]()
    assert stage is not None
    return CLASSES[kind](**dict(stage))


@pytest.fixture(autouse=True)
def epochs_of_their_own() -> Iterator[None]:
    """Put back what the stages of `two_ranks` set."""
    modules = (train_autoencoder, train_prior, train_severity)
    before = [module.STEPS_PER_EPOCH for module in modules]
    yield
    for module, steps in zip(modules, before, strict=True):
        module.STEPS_PER_EPOCH = steps


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_step_on_two_devices_is_that_of_one(kind: str, cell: Evaluate, tmp_path: Path) -> None:
    stage = stage_of(cell, kind)
    alone = losses(stage.ensure(Runtime(tmp_path / "one")))
    for needed in stage.upstream():  # only the stage itself is to be shared
        needed.ensure(Runtime(tmp_path / "two"))
    shared = losses(stage.ensure(Runtime(tmp_path / "two", devices=TWO)))
    assert len(alone) == NUM_STEPS
    assert shared == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == NUM_STEPS  # the steps differ by more than that


def test_the_gradient_of_a_shared_batch_is_that_of_the_whole(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(
        two_ranks.save_gradients, (str(tmp_path / "meeting"), str(tmp_path / "shared")), nprocs=2
    )
    shared = torch.load(tmp_path / "shared", weights_only=True)
    whole = two_ranks.gradients_of_losses()
    assert set(shared) == {"tiny", "kl", "vq", "patch", "flow", "prior"}
    for name, gradient in whole.items():
        assert float((shared[name] - gradient).norm()) < 1e-5 * float(gradient.norm()), name


def test_stopped_and_resumed_on_another_number_of_devices(cell: Evaluate, tmp_path: Path) -> None:
    stage = stage_of(cell, "autoencoder")
    expected = losses(stage.ensure(Runtime(tmp_path / "one")))
    stopped = Runtime(tmp_path / "two", devices=TWO, progress=StopsAfter(5))
    with pytest.raises(KeyboardInterrupt):
        stage.ensure(stopped)
    resumed = losses(stage.ensure(Runtime(tmp_path / "two", devices=TWO)))
    assert resumed == pytest.approx(expected, abs=1e-5)


class StopsAfter:
    """Progress that stops training as Ctrl-C does, after so many rows of its curve."""

    def __init__(self, rows: int) -> None:
        self.left = rows

    def task(self, description: str) -> "StopsAfter":
        return self

    def __enter__(self) -> Any:
        return self.update

    def __exit__(self, *_: object) -> None:
        """Nothing."""

    def update(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def say(self, line: str) -> None:
        """Nothing."""

    def show(self, table: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("stage_class", "message"),
    [
        (two_ranks.FailsElsewhere, "a training process failed: its disk is full"),
        (two_ranks.DiesElsewhere, "was killed"),
    ],
)
def test_a_rank_that_fails_ends_the_training_with_its_message(
    stage_class: type[Stage], message: str, cell: Evaluate, tmp_path: Path
) -> None:
    stage = stage_class(**dict(cell.autoencoder_stage()))
    with pytest.raises(UserError, match=message):
        stage.ensure(Runtime(tmp_path, devices=TWO))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"autoencoder.kind": "vqgan"}, "the autoencoder vqgan cannot be trained on several devices"),
        ({"autoencoder.batch_size": 9}, "2 devices cannot share batches of 9 equally"),
    ],
)
def test_what_cannot_be_shared_is_refused(fields: dict[str, Any], message: str, images: Path, tmp_path: Path) -> None:
    small = {"autoencoder.block_out_channels": (16,)} if "autoencoder.kind" in fields else {}
    stage = tiny_cell(images).replace({**fields, **small}).autoencoder_stage()
    with pytest.raises(UserError, match=message):
        stage.ensure(Runtime(tmp_path, devices=TWO))


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.Dropout(0.1)])
def test_layers_that_depend_on_the_rest_of_a_batch_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UserError, match=type(layer).__name__):
        check_layers(nn.Sequential(nn.Linear(2, 2), layer), "network")
    check_layers(nn.Sequential(nn.GroupNorm(2, 4), nn.Dropout(0.0)), "network")
