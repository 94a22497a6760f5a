"""Train an autoencoder on a source's training images."""

import functools
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import torch

from workbench.autoencoders import AnyAutoencoder, Autoencoder, DescentRecipe, Pretrained
from workbench.autoencoders.base import ImageBatches
from workbench.autoencoders.vqgan import Distance, VQGANAutoencoder
from workbench.core.config import UserError
from workbench.core.places import at_home
from workbench.core.tensors import Ids, Latents
from workbench.data import Source
from workbench.diffusion.latent_std import LatentStd
from workbench.metrics import Absent, LPIPSConfig, load_lpips
from workbench.stages.base import Stage
from workbench.stages.flops import DEFAULT_SHAPE, image_cost, values
from workbench.stages.runtime import Runtime
from workbench.stages.train.descend import descend
from workbench.stages.train.together import check_devices

STEPS_PER_EPOCH = 100
NUM_VALIDATION_IMAGES = 512
NUM_NORMALISING = 2048


class TrainAutoencoder(Stage):
    """Images -> an autoencoder whose latents have unit variance."""

    name: ClassVar[str] = "train_autoencoder"
    artifact_type: ClassVar[str] = "model"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.005

    data: Source
    autoencoder: AnyAutoencoder

    def effort(self) -> float:
        return self.autoencoder.effort()

    def relative_cost(self) -> float:
        if isinstance(self.autoencoder, DescentRecipe):
            return self.image_cost()
        return values(self.data.image_shape) / values(DEFAULT_SHAPE)

    def image_cost(self) -> float:
        """The cost of measuring, encoding and decoding an image, relative to a default image."""
        return image_cost(self.autoencoder, self.shipped_weights(), self.data.image_shape)

    def shipped_weights(self) -> Path | None:
        """The folder of given weights, which may have another architecture."""
        given = getattr(self.autoencoder, "source", "auto") not in ("auto", "train")
        return self.shipped() if given else None

    @property
    def trains(self) -> bool:
        return isinstance(self.autoencoder, DescentRecipe)

    def check_devices(self, number: int) -> None:
        if isinstance(self.autoencoder, DescentRecipe):
            check_devices(self.label, self.autoencoder.splits_batches, self.autoencoder.batch_size, number)

    @property
    def label(self) -> str:
        return f"autoencoder {self.autoencoder.label}"

    def recipe(self) -> dict[str, Any]:
        """The zoo's record of how the autoencoder was trained."""
        return {"data": self.data.canonical(), "autoencoder": self.autoencoder.canonical()}

    def shipped(self) -> Path | None:
        from workbench.weights import zoo

        # whose folder has the weights, but not the scale and shift computed from these data
        if isinstance(self.autoencoder, Pretrained):
            return None
        match self.autoencoder.source:
            case "train":
                return None
            case "auto":
                return zoo.find(self.recipe())
            case path:
                return at_home(path)

    def shipped_parts(self, folder: Path) -> tuple[Path, ...]:
        return (folder / "autoencoder" if (folder / "autoencoder").is_dir() else folder,)

    def check(self) -> None:
        """Reject invalid given weights, and images that the autoencoder does not accept."""
        self.latent_shape()

    def latent_shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of the latents, known before training.

        Raises:
            UserError: for invalid given weights, or images that the autoencoder does not accept.
        """
        return _latent_shape(self.autoencoder, self.shipped(), self.data.image_shape)

    def planned_latent_shape(self) -> tuple[int, int, int]:
        """The same, without reading the images and shipped weights. Raises UserError likewise."""
        return _latent_shape(self.autoencoder, self.shipped_weights(), self.data.image_shape)

    def load(self, runtime: Runtime) -> Autoencoder:
        """Load the trained autoencoder, frozen, on the runtime's device.

        Raises:
            UserError: if its folder is invalid, or it does not accept the source's images.
        """
        if self.identity not in runtime.loaded:
            autoencoder = _read(self.autoencoder, self.ensure(runtime))
            autoencoder.latent_shape(self.data.image_shape)
            runtime.loaded[self.identity] = runtime.place(autoencoder.requires_grad_(False))
        loaded: Autoencoder = runtime.loaded[self.identity]
        return loaded

    def work(self, folder: Path, runtime: Runtime) -> None:
        if isinstance(self.autoencoder, Pretrained) and self.autoencoder.scaling == "config":  # needs no images
            self.autoencoder.save(self.autoencoder.build(self.data.channels), folder / "autoencoder")
            return
        train = self.data.split("train")
        autoencoder = self.autoencoder.fit(self.data.channels, train)
        if autoencoder is None:
            assert isinstance(self.autoencoder, DescentRecipe)
            autoencoder = self._descend(self.autoencoder, folder, runtime)
        autoencoder = autoencoder.cpu().eval()
        if self.autoencoder.normalises:
            normalise(autoencoder, train)
        if self._measures_std:
            spread = _divide_by_std(autoencoder, train)
            spread.save(folder)
            width = f"latents of the {self.label} have standard deviation {spread.std:.3g}"
            runtime.progress.say("; ".join((width, *spread.notes())))
        self.autoencoder.save(autoencoder, folder / "autoencoder")

    @property
    def _measures_std(self) -> bool:
        return isinstance(self.autoencoder, Pretrained) and self.autoencoder.scaling == "measured"

    def latent_std(self, runtime: Runtime) -> LatentStd | None:
        """How wide latents were before they were divided by it, as a pretrained prior knows them; None: not measured.

        Raises:
            UserError: if the record is unsound.
        """
        return LatentStd.read(self.ensure(runtime)) if self._measures_std else None

    def _descend(self, recipe: DescentRecipe, folder: Path, runtime: Runtime) -> Autoencoder:
        from workbench.metrics import psnr

        train = self.data.split("train")
        val_x = self.data.split("val").batch(slice(0, NUM_VALIDATION_IMAGES)).to(runtime.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            autoencoder = recipe.build(self.data.channels)
        autoencoder.latent_shape(self.data.image_shape)
        autoencoder.prepare(train)
        autoencoder = runtime.place(autoencoder)
        if isinstance(autoencoder, VQGANAutoencoder) and autoencoder.perceptual_weight > 0:
            autoencoder.distance = _perceptual_distance(runtime.device)

        def make_batch(index: Ids, _: int) -> dict[str, Any]:
            return {"x": train.batch(index)}

        @torch.no_grad()
        def validate() -> dict[str, float]:
            return {"val/psnr": float(psnr(autoencoder.decode(autoencoder.encode(val_x)), val_x).mean())}

        descend(
            autoencoder,
            lambda batch, generator: autoencoder.training_loss(batch["x"], generator),
            make_batch,
            recipe,
            folder,
            runtime,
            num_images=len(train),
            label=self.label,
            stage=self,
            note=lambda row: f"val {row['val/psnr']:.2f} dB",
            steps_per_epoch=STEPS_PER_EPOCH,
            validate=validate,
        )
        autoencoder.finish()
        return autoencoder


@functools.lru_cache(maxsize=16)
def _latent_shape(
    recipe: AnyAutoencoder, given: Path | None, image_shape: tuple[int, int, int]
) -> tuple[int, int, int]:
    """The latent shape of given weights, or of those to be trained; computed once per process."""
    if given is not None:
        return _read(recipe, given).latent_shape(image_shape)
    with torch.random.fork_rng(devices=[]):
        if not isinstance(recipe, Pretrained):
            # shapes need no memory; layers without a meta kernel are built below, where real errors occur again
            with suppress(NotImplementedError, RuntimeError), torch.device("meta"):
                return recipe.build(image_shape[0]).latent_shape(image_shape)
        return recipe.build(image_shape[0]).latent_shape(image_shape)


def _read(recipe: AnyAutoencoder, folder: Path) -> Autoencoder:
    """Load the autoencoder in a stage's or zoo folder, or in a plain diffusers folder."""
    inner = folder / "autoencoder"
    return recipe.load(inner if inner.is_dir() else folder)


def _perceptual_distance(device: str) -> Distance:
    lpips = load_lpips(LPIPSConfig())
    if isinstance(lpips, Absent):
        raise UserError(f"{lpips.reason}; or train without it: --autoencoder.perceptual_weight=0")
    return lpips.to(device).distance


def _divide_by_std(autoencoder: Autoencoder, train: ImageBatches) -> LatentStd:
    """Bring latents, scaled as they are, to unit variance over the first training images; how wide they were."""
    spread = LatentStd.measured(_first_latents(autoencoder, train, NUM_NORMALISING))
    autoencoder.normalise(autoencoder.scale / spread.std, autoencoder.shift)
    return spread


@torch.no_grad()
def _first_latents(autoencoder: Autoencoder, train: ImageBatches, num_images: int) -> Latents:
    index = slice(0, min(num_images, len(train)))
    return torch.cat([autoencoder.encode(x) for x in train.batch(index).split(256)])


def normalise(autoencoder: Autoencoder, train: ImageBatches, num_images: int = NUM_NORMALISING) -> None:
    """Set scale and shift so that the latents of the first training images have zero mean and unit variance."""
    autoencoder.normalise(1.0, 0.0)
    z = _first_latents(autoencoder, train, num_images)
    autoencoder.normalise(float(1 / z.std()), float(z.mean()))
