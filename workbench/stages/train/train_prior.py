"""Train a latent diffusion prior on cached latents."""

import functools
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import torch

from workbench.autoencoders import Pretrained
from workbench.core.config import UserError
from workbench.core.tensors import Ids
from workbench.diffusion import AnyPrior, NoiseLevels, Prior, PriorRecipe, PriorSource
from workbench.diffusion.prior.conditional import ConditionalPrior
from workbench.stages.base import Stage
from workbench.stages.flops import default_prior_flops, prior_flops
from workbench.stages.latent_stage import LatentStage
from workbench.stages.runtime import Runtime
from workbench.stages.train.descend import descend
from workbench.stages.train.encode_latents import EncodeLatents
from workbench.stages.train.together import check_devices

STEPS_PER_EPOCH = 100


class TrainPrior(LatentStage):
    """Latents of a source's training images -> a prior that denoises them."""

    name: ClassVar[str] = "train_prior"
    artifact_type: ClassVar[str] = "model"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.0065

    prior: AnyPrior

    def effort(self) -> float:
        return self._recipe().num_train_images

    def _recipe(self) -> PriorRecipe:
        """How the prior is trained.

        Raises:
            TypeError: for one that is given.
        """
        if not isinstance(self.prior, PriorRecipe):
            raise TypeError(f"a {self.prior.kind} prior is not trained")
        return self.prior

    def relative_cost(self) -> float:
        return self.evaluation_flops() / default_prior_flops()

    def evaluation_flops(self) -> float:
        """FLOPs of one evaluation of the prior on one latent.

        Raises:
            UserError: for latents that the network does not accept.
        """
        given = self.prior.folder() if self.prior.is_given else None
        shape = self.autoencoder_stage().planned_latent_shape()
        if given is None:
            _levels(self.prior, None, shape)
        return prior_flops(self.prior, given, shape)

    @property
    def trains(self) -> bool:
        return True

    def check_devices(self, number: int) -> None:
        check_devices(self.label, self._recipe().splits_batches, self._recipe().batch_size, number)

    @property
    def label(self) -> str:
        return f"prior over {self.autoencoder.label} latents"

    def latents_stage(self) -> EncodeLatents:
        """The stage of the training latents."""
        num_images = min(self._recipe().num_train_images, self.data.num_images("train"))
        return EncodeLatents(data=self.data, autoencoder=self.autoencoder, num_images=num_images)

    def last_round(self) -> "TrainPrior | None":
        """The stage whose weights this one continues to train, if there is one; those that ship are taken."""
        if self.prior.is_given or self._recipe().rounds == 1:
            return None
        return self.replace({"prior.rounds": self._recipe().rounds - 1, "prior.source": "auto"})

    def upstream(self) -> tuple[Stage, ...]:
        last = self.last_round()
        return (self.latents_stage(),) if last is None else (self.latents_stage(), last)

    def recipe(self) -> dict[str, Any]:
        """The zoo's record of how the prior was trained."""
        return self.autoencoder_stage().recipe() | {"prior": self.prior.canonical()}

    def shipped(self) -> Path | None:
        from workbench.weights import zoo

        if self.prior.is_given:
            return self.prior.folder()
        # a prior belongs to the latents of one autoencoder: both must come from the same zoo folder
        if self.prior.source == "train" or self.autoencoder_stage().shipped() is None:
            return None
        folder = zoo.find(self.recipe())
        return folder if folder == self.autoencoder_stage().shipped() else None

    def shipped_parts(self, folder: Path) -> tuple[Path, ...]:
        return self.prior.given_parts(folder) if self.prior.is_given else self.prior.network_parts(folder)

    def canonical(self) -> dict[str, Any]:
        """For given weights, also what they are told."""
        return super().canonical() | (self.prior.told(self.prior.folder()) if self.prior.is_given else {})

    def check(self) -> None:
        """Reject invalid given weights, and images or latents that the networks do not accept."""
        self.levels()

    def levels(self) -> NoiseLevels:
        """The prior's noise levels, known before training. Raises UserError like `check`."""
        return _levels(self.prior, self.shipped(), self.autoencoder_stage().latent_shape())

    def load(self, runtime: Runtime, dtype: torch.dtype = torch.float32) -> Prior:
        """Load the trained prior, frozen, on the runtime's device, with weights of a type.

        Raises:
            UserError: if its folder is invalid, or it is for latents of another shape.
        """
        # given weights are told how wide the autoencoder's latents are
        key = f"{self.identity} {self.prior.kind} {self.autoencoder_stage().identity} {dtype}"
        if key in runtime.loaded:
            loaded: Prior = runtime.loaded[key]
            return loaded
        folder = self.ensure(runtime)
        prior = self.prior.load_as(folder, dtype)
        if self.prior.is_given and (spread := self.autoencoder_stage().latent_std(runtime)) is not None:
            prior.levels = prior.levels.for_latents(spread.std)
        elif (
            isinstance(self.autoencoder, Pretrained) and self.autoencoder.scaling == "config" and prior.levels.std != 1
        ):
            raise UserError(
                f"{folder} records that latents have standard deviation {prior.levels.std:.3g}, and "
                "autoencoder.scaling=config does not bring them to 1: set autoencoder.scaling=measured"
            )
        for note in prior.notes:
            runtime.progress.say(note)
        _require_channels(prior, folder, self.autoencoder_stage().load(runtime).latent_channels)
        runtime.loaded[key] = runtime.place(prior.requires_grad_(False))
        return prior

    def work(self, folder: Path, runtime: Runtime) -> None:
        recipe = self._recipe()
        z0 = self.latents_stage().load(runtime)
        latent_shape = (z0.shape[1], z0.shape[2], z0.shape[3])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            prior = recipe.build(latent_shape)
        if (last := self.last_round()) is not None:
            prior.load_state_dict(recipe.load(last.ensure(runtime)).state_dict())
            recipe = recipe.replace(seed=recipe.seed + recipe.rounds - 1)  # other batches and noise in every round

        def make_batch(index: Ids, _: int) -> dict[str, Any]:
            return {"z0": z0[index]}

        trained = descend(
            prior,
            lambda batch, generator: prior.training_loss(batch["z0"], generator),
            make_batch,
            recipe,
            folder,
            runtime,
            num_images=len(z0),
            label=self.label,
            stage=self,
            note=lambda row: f"loss {row['train/loss']:.3f}",
            steps_per_epoch=STEPS_PER_EPOCH,
            ema_decay=recipe.ema_decay,
        )
        assert isinstance(trained, Prior)
        recipe.save(trained.cpu(), folder, latent_shape)


@functools.lru_cache(maxsize=16)
def _levels(recipe: PriorSource, given: Path | None, latent_shape: tuple[int, int, int]) -> NoiseLevels:
    """The noise levels of given weights, or of those to be trained; computed once per process.

    Raises:
        UserError: for invalid weights, or latents that the network does not accept.
    """
    if given is not None:
        prior = recipe.plan(given)
        _require_channels(prior, given, latent_shape[0])
    else:
        assert isinstance(recipe, PriorRecipe)
        prior = _untrained(recipe, latent_shape)
    prior.check_latents(latent_shape)
    return prior.levels


def _untrained(recipe: PriorRecipe, latent_shape: tuple[int, int, int]) -> Prior:
    with torch.random.fork_rng(devices=[]):
        # noise levels need no weights; a network that cannot be built without memory is built here, where errors recur
        with suppress(NotImplementedError, RuntimeError), torch.device("meta"):
            return recipe.build(latent_shape)
        return recipe.build(latent_shape)


def _require_channels(prior: Prior, folder: Path, channels: int) -> None:
    if prior.latent_channels != channels:
        remedy = "add --prior.source=train to train one for it"
        if isinstance(prior, ConditionalPrior):
            remedy = "name both by --model"
        raise UserError(
            f"the prior in {folder} is for {prior.latent_channels}-channel latents, "
            f"but the autoencoder's have {channels}: {remedy}"
        )
