"""The base of all autoencoders: images on [0, 1] to latents of unit variance and back."""

import copy
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.core import ranks
from workbench.core.bounds import BatchSize, Count, LearningRate, Seed
from workbench.core.config import NOT_IDENTITY, UserError
from workbench.core.families import Member
from workbench.core.tensors import Images, Latents
from workbench.weights.diffusers_folder import load_strictly, save_half


class Autoencoder(nn.Module):
    """An adapter for a diffusers autoencoder.

    The interface has images on [0, 1], while the model uses [-1, 1]; the conversion is only done here. Latents are
    scaled and shifted to zero mean and unit variance over the training images, with the `scaling_factor` and
    `shift_factor` that diffusers stores in the model's config.

    Args:
        model: the diffusers model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def _encode(self, x: Tensor) -> Tensor:
        """Raw latents of images on [-1, 1], deterministic."""

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """Images on [-1, 1] from raw latents."""

    @abstractmethod
    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        """The encoder in two parts: images on [-1, 1] to features, and features to raw latents."""

    @abstractmethod
    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The family's own training loss on images x, and its parts for the training curves."""

    def prepare(self, train: "ImageBatches") -> None:
        """Set initial weights that depend on the training images, before the first step of training."""

    def finish(self) -> None:
        """Change the trained weights once, after the last step of training."""

    @property
    def scale(self) -> float:
        """The factor for raw, centred latents."""
        return float(self.model.config.scaling_factor)

    @property
    def shift(self) -> float:
        """The value subtracted from raw latents before scaling."""
        return float(self.model.config.get("shift_factor") or 0.0)

    @property
    def image_channels(self) -> int:
        """Channels of the images: 1 for greyscale, 3 for colour, 2 for complex."""
        return int(self.model.config.in_channels)

    @property
    def downscale(self) -> int:
        """The factor per side by which latents are smaller than images."""
        return int(2 ** (len(self.model.config.block_out_channels) - 1))

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.model.config.latent_channels)

    @property
    def overflows_in_half(self) -> bool:
        """Whether its activations may be too large for fp16, as SDXL's are; diffusers assumes so unless told."""
        return bool(self.model.config.get("force_upcast", False))

    def encode(self, x: Images) -> Latents:
        """The scaled latents of images on [0, 1]; deterministic (KL: the mode; VQ: before quantisation).

        Raises:
            UserError: for images of a size or number of channels that the autoencoder does not support.
        """
        self.latent_shape((x.shape[1], x.shape[2], x.shape[3]))
        return (self._encode(2 * x - 1) - self.shift) * self.scale

    def decode(self, z: Latents) -> Images:
        """Images on about [0, 1] (not clipped, so that gradients pass) from scaled latents."""
        return (self._decode(z / self.scale + self.shift) + 1) / 2

    @property
    def tiles(self) -> bool:
        """Whether it can decode in tiles."""
        return hasattr(self.model, "tiled_decode")

    def decode_in_tiles(self, z: Latents) -> Images:
        """The images, one by one and each in overlapping tiles of the model's own size, blended as diffusers does.

        Memory does not grow with their size, and no gradient is kept. Tiles do not see each other, so images differ a
        little from `decode`.
        """
        self.model.enable_tiling()
        try:
            with torch.no_grad():
                return torch.cat([self.decode(one) for one in z.split(1)])
        finally:
            self.model.disable_tiling()

    def latent_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(channel, height, width) of the latent of a (channel, height, width) image.

        Raises:
            UserError: for a size or number of channels that the autoencoder does not support.
        """
        channels, height, width = image_shape
        if channels != self.image_channels:
            raise UserError(f"the autoencoder needs {self.image_channels}-channel images, but these have {channels}")
        if height % self.downscale or width % self.downscale:
            raise UserError(
                f"the autoencoder needs sizes divisible by {self.downscale}, but these are {height} x {width}"
            )
        return self.latent_channels, height // self.downscale, width // self.downscale

    def encoder_copy(self) -> "EncoderTrunk":
        """A trainable copy of the encoder, to initialize a severity encoder."""
        features, projection = self._encoder_parts()
        trunk = EncoderTrunk(copy.deepcopy(features), copy.deepcopy(projection), self.scale, self.shift)
        return trunk.requires_grad_(True)

    def normalise(self, scale: float, shift: float) -> None:
        """Set scale and shift so that latents have zero mean and unit variance."""
        self.model.register_to_config(scaling_factor=scale, shift_factor=shift)

    def save(self, folder: Path) -> None:
        """Write the model as fp16 safetensors in diffusers' folder format."""
        save_half(self.model, folder)


class EncoderTrunk(nn.Module):
    """An encoder that also returns its last features: images on [0, 1] to (features, scaled latent)."""

    def __init__(self, features: nn.Module, projection: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.features, self.projection = features, projection
        self.scale, self.shift = scale, shift

    def forward(self, x: Images) -> tuple[Tensor, Latents]:
        features = self.features(2 * x - 1)
        return features, (self.projection(features) - self.shift) * self.scale


class ImageBatches(Protocol):
    """The part of an image split that fitting needs: its length, and the images at some indices."""

    def __len__(self) -> int: ...

    def batch(self, index: slice) -> Images:
        """The images at these indices."""
        ...


class AutoencoderRecipe(Member):
    """The architecture of an autoencoder, and how it is trained."""

    @property
    def label(self) -> str:
        """Its name in tables and progress messages."""
        return self.kind

    @abstractmethod
    def build(self, image_channels: int) -> Autoencoder:
        """The untrained autoencoder; random weights come from torch's current generator.

        Args:
            image_channels: channels of the images: 1 for greyscale, 3 for colour, 2 for complex.
        """

    @abstractmethod
    def effort(self) -> float:
        """Amount of work to train it, in training images of the default recipe."""

    def fit(self, image_channels: int, train: ImageBatches) -> Autoencoder | None:
        """The autoencoder of a family in closed form; None: it is trained on its adapter's `training_loss`.

        Args:
            image_channels: channels of the images: 1 for greyscale, 3 for colour, 2 for complex.
            train: the training images.
        """
        return None

    @property
    def normalises(self) -> bool:
        """Whether latents are normalised to zero mean and unit variance over the training images."""
        return True

    def save(self, autoencoder: Autoencoder, folder: Path) -> None:
        """Write the files that `load` reads."""
        autoencoder.save(folder)

    @abstractmethod
    def load(self, folder: Path) -> Autoencoder:
        """Read the files that `save` wrote.

        Raises:
            UserError: if the folder does not have valid weights of this family.
        """


class ArchitectureRecipe(AutoencoderRecipe):
    """An architecture whose weights are trained here, or given as a folder."""

    source: str = Field(
        "auto",
        description="'auto': the shipped weights if they were trained by this recipe on these data, else train; "
        "'train': always train; anything else: a diffusers folder to load",
        json_schema_extra=NOT_IDENTITY,
    )

    adapter: ClassVar[type[Autoencoder]]

    def load(self, folder: Path) -> Autoencoder:
        return self.adapter(load_strictly(self.model_class(), folder)).eval()

    @classmethod
    @abstractmethod
    def model_class(cls) -> Any:
        """The model class of the family, from diffusers or in diffusers' folder format."""


class DescentRecipe(ArchitectureRecipe):
    """An architecture that is trained by gradient descent on its `training_loss`."""

    splits_batches: ClassVar[bool] = False
    """Whether it can be trained on several devices: its loss must be a mean over images, and draw its noise and compute
    moments of a batch by `workbench.core.ranks`."""

    num_train_images: Count = Field(400_000, description="number of training images processed")
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 1.5e-3
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16: autocast, faster on CPUs that support it"
    )
    seed: Seed = 0

    def effort(self) -> float:
        return self.num_train_images


def moment_penalty(raw: Tensor) -> Tensor:
    """Deviation of each latent channel from zero mean and unit variance over the batch.

    A single scaling factor cannot normalise channels of different variance, but SNR matching assumes that it does.
    """
    mean, variance = ranks.channel_moments(raw)
    return (mean.square() + (variance - 1).square()).mean()
