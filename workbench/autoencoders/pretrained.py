"""An autoencoder trained elsewhere: a diffusers folder, a model on the Hugging Face Hub, or TAEF2's state dicts."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from workbench.autoencoders.base import Autoencoder, AutoencoderRecipe, ImageBatches
from workbench.autoencoders.grey import GreyAutoencoder
from workbench.autoencoders.kl import KL
from workbench.autoencoders.patch import Patch
from workbench.autoencoders.tiny import Tiny, TinyAutoencoder
from workbench.autoencoders.vq import VQ
from workbench.core.config import NOT_IDENTITY, UserError
from workbench.core.places import at_home
from workbench.weights import zoo
from workbench.weights.diffusers_folder import class_name
from workbench.weights.model import HUB_ID, download

NORMALISATION = "normalisation.json"
TAEF2_FILES = ("taef2_encoder.pth", "taef2_decoder.pth")
FAMILIES: dict[str, AutoencoderRecipe] = {
    "AutoencoderKL": KL(),
    "AutoencoderTiny": Tiny(),
    "VQModel": VQ(),
    "CorrectedPatches": Patch(),
}
"""The adapter for each class, of diffusers or of what ships."""
EFFORT = 10.0
"""Encoding the images for scale and shift takes as long as training on this many images."""


class Pretrained(AutoencoderRecipe):
    """Weights trained elsewhere: a diffusers folder, a model on the Hub, or a folder of TAEF2's state dicts.

    They are never trained or copied here: a stage only stores the scale and shift of their latents.
    """

    kind: Literal["pretrained"] = "pretrained"
    source: str = Field(
        description="a folder in diffusers' format, a folder of TAEF2's state dicts, or a Hub id (owner/name)",
        json_schema_extra=NOT_IDENTITY,
    )
    subfolder: str = Field("", description="subfolder of the autoencoder, e.g. vae", json_schema_extra=NOT_IDENTITY)
    revision: str | None = Field(None, description="branch, tag or commit on the Hub", json_schema_extra=NOT_IDENTITY)
    scaling: Literal["data", "config", "measured"] = Field(
        "data",
        description="data: latents of zero mean and unit variance over the training images; config: scaled by the "
        "model's own config, as a pretrained prior expects; measured: as config, divided by their standard deviation "
        "on the training images, which is passed to a pretrained prior",
    )

    @property
    def label(self) -> str:
        """The last two parts of its location, and its non-default settings."""
        local = at_home(self.source)
        where = [*(local.resolve() if local.is_dir() else local).parts[-2:], *Path(self.subfolder).parts]
        scaling = [] if self.scaling == "data" else [f"{self.scaling} scaling"]
        return " ".join(
            ["pretrained", *(part for part in where if part != "/"), *filter(None, [self.revision]), *scaling]
        )

    def canonical(self) -> dict[str, Any]:
        """The contents of the weights instead of their location."""
        return {**super().canonical(), "weights": _digest(self.folder())}

    def folder(self) -> Path:
        """The folder of the weights; those on the Hub are downloaded once.

        Raises:
            UserError: if there is neither such a folder nor such a model on the Hub.
        """
        local = at_home(self.source)
        if not local.is_dir() and not HUB_ID.fullmatch(self.source):
            raise UserError(f"autoencoder.source: {self.source!r} is not a folder")
        root = local if local.is_dir() else download(self.source, self.revision, self.subfolder)
        return root / self.subfolder if self.subfolder else root

    def build(self, image_channels: int) -> Autoencoder:
        """The autoencoder with its own weights; a colour model is adapted to greyscale images.

        Raises:
            UserError: for missing or invalid weights, or a class without an adapter.
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
    """Load the autoencoder in a folder, of any known class."""
    if _is_taef2(folder):
        from workbench.autoencoders.taef2 import load_taef2

        return TinyAutoencoder(load_taef2(*(folder / name for name in TAEF2_FILES))).eval()
    name = class_name(folder)
    if name not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(
            f"{folder} contains a {name}, for which there is no adapter; available: {known}, TAEF2's state dicts"
        )
    return FAMILIES[name].load(folder)


def _is_taef2(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TAEF2_FILES)


@lru_cache(maxsize=16)
def _digest(folder: Path) -> str:
    """12 hex digits of a hash over the weights; computed once per process.

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
