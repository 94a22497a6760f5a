"""Train a latent diffusion prior on cached latents."""

import functools
from pathlib import Path
from typing import Any, ClassVar

import torch

from workbench.core.config import UserError
from workbench.core.places import at_home
from workbench.core.tensors import Ids
from workbench.diffusion import AnyPrior, Prior, UNetPrior
from workbench.stages.base import Stage
from workbench.stages.flops import default_prior_flops, prior_flops
from workbench.stages.latent_stage import LatentStage
from workbench.stages.runtime import Runtime
from workbench.stages.train.encode_latents import EncodeLatents

STEPS_PER_EPOCH = 100


class TrainPrior(LatentStage):
    """Latents of a source's training images -> a prior that denoises them."""

    name: ClassVar[str] = "train_prior"
    artifact_type: ClassVar[str] = "model"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.0065

    prior: AnyPrior

    def effort(self) -> float:
        return self.prior.num_train_images

    def relative_cost(self) -> float:
        return self.evaluation_flops() / default_prior_flops()

    def evaluation_flops(self) -> float:
        """FLOPs of one evaluation of the prior on one latent.

        Raises:
            UserError: for latents that the network does not accept.
        """
        given = None if self.prior.source in ("auto", "train") else Path(self.prior.source)
        shape = self.autoencoder_stage().planned_latent_shape()
        if given is None:
            _check_latents(self.prior, None, shape)
        return prior_flops(self.prior, given, shape)

    @property
    def label(self) -> str:
        return f"prior over {self.autoencoder.label} latents"

    def latents_stage(self) -> EncodeLatents:
        """The stage of the training latents."""
        num_images = min(self.prior.num_train_images, len(self.data.split("train")))
        return EncodeLatents(data=self.data, autoencoder=self.autoencoder, num_images=num_images)

    def upstream(self) -> tuple[Stage, ...]:
        return (self.latents_stage(),)

    def recipe(self) -> dict[str, Any]:
        """The zoo's record of how the prior was trained."""
        return self.autoencoder_stage().recipe() | {"prior": self.prior.canonical()}

    def shipped(self) -> Path | None:
        from workbench.weights import zoo

        if self.prior.source not in ("auto", "train"):
            return at_home(self.prior.source)
        # a prior belongs to the latents of one autoencoder: both must come from the same zoo folder
        if self.prior.source == "train" or self.autoencoder_stage().shipped() is None:
            return None
        folder = zoo.find(self.recipe())
        return folder if folder == self.autoencoder_stage().shipped() else None

    def shipped_parts(self, folder: Path) -> tuple[Path, ...]:
        return tuple(folder / part for part in self.prior.parts)

    def check(self) -> None:
        """Reject invalid given weights, and images or latents that the networks do not accept."""
        _check_latents(self.prior, self.shipped(), self.autoencoder_stage().latent_shape())

    def load(self, runtime: Runtime) -> Prior:
        """Load the trained prior, frozen, on the runtime's device.

        Raises:
            UserError: if its folder is invalid, or it is for latents of another shape.
        """
        if self.identity in runtime.loaded:
            loaded: Prior = runtime.loaded[self.identity]
            return loaded
        folder = self.ensure(runtime)
        prior = self.prior.load(folder)
        for note in prior.notes:
            runtime.progress.say(note)
        _require_channels(prior, folder, self.autoencoder_stage().load(runtime).latent_channels)
        runtime.loaded[self.identity] = runtime.place(prior.requires_grad_(False))
        return prior

    def work(self, folder: Path, runtime: Runtime) -> None:
        from workbench.data.module import StepDataModule
        from workbench.training.fit import fit
        from workbench.training.modules import TrainingModule

        recipe = self.prior
        z0 = self.latents_stage().load(runtime)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            prior = recipe.build((z0.shape[1], z0.shape[2], z0.shape[3]))

        def make_batch(index: Ids, _: int) -> dict[str, Any]:
            return {"z0": z0[index]}

        num_steps = -(-recipe.num_train_images // recipe.batch_size)
        module = TrainingModule(
            prior,
            lambda batch, generator: prior.training_loss(batch["z0"], generator),
            num_steps,
            recipe.learning_rate,
            recipe.seed,
            recipe.ema_decay,
        )
        data = StepDataModule(len(z0), recipe.batch_size, num_steps, STEPS_PER_EPOCH, recipe.seed, make_batch)
        with runtime.progress.task(f"training {self.label}") as update:
            fit(
                module,
                data,
                folder,
                label=self.label,
                precision=recipe.precision,
                device=runtime.device,
                progress=lambda done, total, row: update(done, total, f"loss {row['train/loss']:.3f}"),
            )
        trained = module.trained
        assert isinstance(trained, UNetPrior)
        trained.cpu().save(folder)


@functools.lru_cache(maxsize=16)
def _check_latents(recipe: AnyPrior, given: Path | None, latent_shape: tuple[int, int, int]) -> None:
    """Reject latents that the given weights, or those to be trained, do not accept; checked once per process."""
    channels, height, width = latent_shape
    levels = len(recipe.block_out_channels)
    if given is not None:
        prior = recipe.load(given)
        _require_channels(prior, given, channels)
        levels = len(prior.network.config.block_out_channels)
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        raise UserError(
            f"the prior needs latents divisible by {factor}, but these are {height} x {width}: "
            "change data.size or the number of prior.block_out_channels"
        )


def _require_channels(prior: Prior, folder: Path, channels: int) -> None:
    if prior.latent_channels != channels:
        raise UserError(
            f"the prior in {folder} is for {prior.latent_channels}-channel latents, "
            f"but the autoencoder's have {channels}: add --prior.source=train to train one for it"
        )
