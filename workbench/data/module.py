"""Training batches keyed by the step, so that a resumed run sees the same batches as an uninterrupted one."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from workbench.core import randomness, ranks
from workbench.core.tensors import Ids

Batch = dict[str, Any]


class StepDataset(IterableDataset[Batch]):
    """The batches of one epoch of `steps_per_epoch` steps, each a pure function of (seed, step).

    Images come in random passes over the split, keyed by (seed, pass); a batch may span two passes.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        steps: range,
        seed: int,
        make_batch: Callable[[Ids, int], Batch],
    ) -> None:
        self.num_images, self.batch_size, self.steps, self.seed = num_images, batch_size, steps, seed
        self.make_batch = make_batch
        self._orders: dict[int, torch.Tensor] = {}

    def __iter__(self) -> Iterator[Batch]:
        for step in self.steps:
            yield {**self.make_batch(self.indices(step), step), "step": step}

    def indices(self, step: int) -> Ids:
        """The positions in the split of this rank's images of a step."""
        own = self.batch_size // ranks.size()
        first = step * self.batch_size + own * ranks.rank()
        positions = range(first, first + own)
        return torch.stack([self._order(p // self.num_images)[p % self.num_images] for p in positions])

    def _order(self, number: int) -> torch.Tensor:
        if number not in self._orders:
            generator = randomness.generator(self.seed, "order", number)
            self._orders = {number: torch.randperm(self.num_images, generator=generator)} | (
                {number - 1: self._orders[number - 1]} if number - 1 in self._orders else {}
            )
        return self._orders[number]


class StepDataModule(LightningDataModule):
    """Gives each epoch its own batches; an epoch is the fixed number of steps between checkpoints.

    Args:
        num_images: number of images in the training split.
        batch_size: images per step, on all ranks together.
        num_steps: total number of steps.
        steps_per_epoch: steps between checkpoints.
        seed: keys the order of the images.
        make_batch: (indices into the split, step) -> a dict of tensors.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        num_steps: int,
        steps_per_epoch: int,
        seed: int,
        make_batch: Callable[[Ids, int], Batch],
    ) -> None:
        super().__init__()
        self.num_images, self.batch_size, self.num_steps = num_images, batch_size, num_steps
        self.steps_per_epoch, self.seed, self.make_batch = steps_per_epoch, seed, make_batch

    def train_dataloader(self) -> DataLoader[Batch]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        first = epoch * self.steps_per_epoch
        steps = range(first, min(first + self.steps_per_epoch, self.num_steps))
        dataset = StepDataset(self.num_images, self.batch_size, steps, self.seed, self.make_batch)
        return DataLoader(dataset, batch_size=None)
