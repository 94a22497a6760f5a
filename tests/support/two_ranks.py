"""What a rank of two computes, for tests that start it as a process."""

from pathlib import Path
from typing import Any

import torch
from small_autoencoders import RECIPES
from torch import Tensor, distributed

from workbench.autoencoders import DescentRecipe
from workbench.core import randomness, ranks
from workbench.core.config import UserError, kind_of
from workbench.diffusion import UNetRecipe
from workbench.stages.runtime import Runtime
from workbench.stages.train import train_autoencoder, train_prior, train_severity

BATCH = 8


class EveryStepAutoencoder(train_autoencoder.TrainAutoencoder):
    """Whose curve has a row for every step, also in processes that training starts: they import this module."""

    def work(self, folder: Path, runtime: Runtime) -> None:
        train_autoencoder.STEPS_PER_EPOCH = 1
        super().work(folder, runtime)


class EveryStepPrior(train_prior.TrainPrior):
    """The same."""

    def work(self, folder: Path, runtime: Runtime) -> None:
        train_prior.STEPS_PER_EPOCH = 1
        super().work(folder, runtime)


class EveryStepSeverity(train_severity.TrainSeverity):
    """The same."""

    def work(self, folder: Path, runtime: Runtime) -> None:
        train_severity.STEPS_PER_EPOCH = 1
        super().work(folder, runtime)


class FailsElsewhere(EveryStepAutoencoder):
    """Whose second rank fails before it trains."""

    def work(self, folder: Path, runtime: Runtime) -> None:
        if runtime.rank is not None:
            raise UserError("its disk is full")
        super().work(folder, runtime)


class DiesElsewhere(EveryStepAutoencoder):
    """Whose second rank is killed before it trains."""

    def work(self, folder: Path, runtime: Runtime) -> None:
        if runtime.rank is not None:
            raise SystemExit(9)
        super().work(folder, runtime)


def gradients_of_losses() -> dict[str, Tensor]:
    """The gradient of the loss of every network that ranks can share, on the whole batch; "family name" -> gradient."""
    found: dict[str, Tensor] = {}
    shared = [recipe for recipe in RECIPES if isinstance(recipe, DescentRecipe) and recipe.splits_batches]
    x = torch.rand(BATCH, 1, 16, 16, generator=randomness.generator("x"))
    z0 = torch.randn(BATCH, 4, 8, 8, generator=randomness.generator("z0"))
    for recipe in shared:
        torch.manual_seed(0)
        autoencoder = recipe.build(1)
        found |= _gradient(kind_of(type(recipe)), autoencoder, autoencoder.training_loss, x)
    torch.manual_seed(0)
    prior = UNetRecipe(block_out_channels=(16, 32)).build((4, 8, 8))
    return found | _gradient("prior", prior, prior.training_loss, z0)


def _gradient(name: str, network: torch.nn.Module, loss: Any, batch: Tensor) -> dict[str, Tensor]:
    value, _ = loss(ranks.own(batch), randomness.generator("draws"))
    parameters = [p for p in network.parameters() if p.requires_grad]
    parts = torch.autograd.grad(value, parameters, allow_unused=True)
    gradient = torch.cat([part.flatten() for part in parts if part is not None])
    if ranks.size() > 1:  # what DDP does
        distributed.all_reduce(gradient)
        gradient /= ranks.size()
    return {name: gradient}


def save_gradients(rank: int, meeting: str, path: str) -> None:
    """The work of one of two ranks: the first writes its gradients."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    found = gradients_of_losses()
    if rank == 0:
        torch.save(found, path)
    distributed.destroy_process_group()
