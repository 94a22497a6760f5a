"""An autoencoder that others trained: a diffusers folder, a model on the Hugging Face hub, or TAEF2's state dicts."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder, AutoencoderRecipe, ImageBatches
from workbench.autoencoders.kl import KL
from workbench.autoencoders.tiny import Tiny, TinyAutoencoder
from workbench.autoencoders.vq import VQ
from workbench.core.config import NOT_IDENTITY, UserError
from workbench.core.places import at_home
from workbench.core.tensors import Images
from workbench.weights import zoo
from workbench.weights.diffusers_folder import class_name

NORMALISATION = "normalisation.json"
TAEF2_FILES = ("taef2_encoder.pth", "taef2_decoder.pth")
FAMILIES: dict[str, AutoencoderRecipe] = {"AutoencoderKL": KL(), "AutoencoderTiny": Tiny(), "VQModel": VQ()}
"""Whose adapter stands over which diffusers class."""
EFFORT = 10.0
"""It takes as long to encode the images that give scale and shift as to train on so many."""


class GreyAutoencoder(Autoencoder):
    """A colour autoencoder for grey images: their channel is repeated, and the decoded channels are averaged.

    Decoding then has all gradients of the colour model, and its error in colour averages out.
    """

    def __init__(self, colour: Autoencoder) -> None:
        super().__init__(colour.model)
        self.colour = colour

    @property
    def image_channels(self) -> int:
        return 1

    @property
    def downscale(self) -> int:
        return self.colour.downscale

    @property
    def latent_channels(self) -> int:
        return self.colour.latent_channels

    def _encode(self, x: Tensor) -> Tensor:
        return self.colour._encode(_Repeat()(x))

    def _decode(self, latents: Tensor) -> Tensor:
        return self.colour._decode(latents).mean(1, keepdim=True)

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        features, projection = self.colour._encoder_parts()
        return nn.Sequential(_Repeat(), features), projection

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.colour.training_loss(_Repeat()(x), generator)


class _Repeat(nn.Module):
    """One channel three times."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)


class Pretrained(AutoencoderRecipe):
    """Weights that others trained: a diffusers folder, a model on the hub, or a folder of TAEF2's state dicts.

    They are never trained here, nor copied: what a stage keeps is the scale and shift of their latents.
    """

    kind: Literal["pretrained"] = "pretrained"
    source: str = Field(
        description="a folder in diffusers' format, a folder of TAEF2's state dicts, or a hub id (owner/name)",
        json_schema_extra=NOT_IDENTITY,
    )
    subfolder: str = Field(
        "", description="where the autoencoder lies inside, e.g. vae", json_schema_extra=NOT_IDENTITY
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub", json_schema_extra=NOT_IDENTITY)
    scaling: Literal["data", "config", "measured"] = Field(
        "data",
        description="data: latents of zero mean and unit variance over the training images; config: as the model's own "
        "config scales them, which a pretrained prior expects; measured: these divided by their standard deviation on "
        "the training images, which a pretrained prior is told",
    )

    @property
    def label(self) -> str:
        """Where it lies, by the last two parts, and what of it is not as usual."""
        local = at_home(self.source)
        where = [*(local.resolve() if local.is_dir() else local).parts[-2:], *Path(self.subfolder).parts]
        scaling = [] if self.scaling == "data" else [f"{self.scaling} scaling"]
        return " ".join(
            ["pretrained", *(part for part in where if part != "/"), *filter(None, [self.revision]), *scaling]
        )

    def canonical(self) -> dict[str, Any]:
        """Not where the weights come from, but what they are."""
        return {**super().canonical(), "weights": _digest(self.folder())}

    def folder(self) -> Path:
        """The folder of the weights; those of the hub are downloaded, once.

        Raises:
            UserError: if there is no such folder, and no such model on the hub.
        """
        local = at_home(self.source)
        root = local if local.is_dir() else _download(self.source, self.subfolder, self.revision)
        return root / self.subfolder if self.subfolder else root

    def build(self, image_channels: int) -> Autoencoder:
        """The autoencoder with its own weights; a colour one is adapted to grey images.

        Raises:
            UserError: for missing or unsound weights, or a class that has no adapter here.
        """
        autoencoder = _read(self.folder())
        if image_channels == 1 and autoencoder.image_channels == 3:
            return GreyAutoencoder(autoencoder).eval()
        return autoencoder

    def fit(self, image_channels: int, train: ImageBatches) -> Autoencoder:
        return self.build(image_channels)

    def effort(self) -> float:
        return EFFORT

    @property
    def normalises(self) -> bool:
        return self.scaling == "data"

    def save(self, autoencoder: Autoencoder, folder: Path) -> None:
        """Write scale, shift and the channels of the images; the weights stay where they are."""
        record = {
            "scale": autoencoder.scale,
            "shift": autoencoder.shift,
            "image_channels": autoencoder.image_channels,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NORMALISATION).write_text(json.dumps(record, indent=2))

    def load(self, folder: Path) -> Autoencoder:
        record = json.loads((folder / NORMALISATION).read_text())
        autoencoder = self.build(record["image_channels"])
        autoencoder.normalise(record["scale"], record["shift"])
        return autoencoder


def _read(folder: Path) -> Autoencoder:
    """The autoencoder in a folder, of whatever known class it is."""
    if _is_taef2(folder):
        from workbench.autoencoders.taef2 import load_taef2

        return TinyAutoencoder(load_taef2(*(folder / name for name in TAEF2_FILES))).eval()
    name = class_name(folder)
    if name not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(
            f"{folder} holds a {name}, for which there is no adapter; available: {known}, TAEF2's state dicts"
        )
    return FAMILIES[name].load(folder)


def _is_taef2(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TAEF2_FILES)


@lru_cache(maxsize=16)
def _digest(folder: Path) -> str:
    """12 hex digits over the weights; computed once a process.

    Raises:
        UserError: if there are none.
    """
    if not _is_taef2(folder):
        return zoo.weights_digest(folder)
    files = [(name, folder / name) for name in TAEF2_FILES]
    for _, path in files:
        if not path.is_file():
            raise UserError(f"TAEF2 needs both of its state dicts; {path} is missing")
    return zoo.contents_digest(files)


@lru_cache(maxsize=16)
def _download(name: str, subfolder: str, revision: str | None) -> Path:
    """The local copy of a hub model's configs and safetensors; asked of the hub once a process.

    Raises:
        UserError: if it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RevisionResolutionError

    inside = f"{subfolder}/" if subfolder else ""
    wanted = [f"{inside}*.json", f"{inside}*.safetensors"]
    # a star stands for slashes too: without a subfolder, a whole latent diffusion model would come
    unwanted = None if subfolder else ["*/*"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted))
    except (OSError, ValueError, RevisionResolutionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"autoencoder.source: {name!r} is neither a folder nor a model found on the Hub ({reason})"
        ) from None
