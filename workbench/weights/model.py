"""A pretrained latent diffusion model as a folder: which parts it has, and where they are.

Folders in diffusers' format are read, with or without model_index.json, and models on the Hugging Face Hub. Nothing
that a folder names is imported: its pipeline and networks must be known here.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.core.bounds import MAX_SIZE
from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN
from workbench.core.places import at_home
from workbench.weights.diffusers_folder import CONFIG, class_name, read_config

MODEL_INDEX = "model_index.json"
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""A name of a model on the Hub: owner/name, or the name alone of an old one."""
AUTOENCODERS = ("vae", "vqvae", "autoencoder")
DENOISERS = ("unet", "transformer")
TEXTS = ("tokenizer", "text_encoder")
CHECKPOINTS = (".ckpt", ".safetensors", ".pt", ".pth", ".bin")
"""Suffixes of files that hold the weights of a whole model."""
DEFAULT_SIZE, PATCH = 512, 4
REFUSED = {
    "quantization_config": "is quantised, which is not supported: use the model in its full precision",
    "auto_map": "needs code of its own, which is not run",
}
"""Entries of a part's config with which a library would load something else than the weights."""
NETWORKS = {
    "UNet2DModel": (),
    "UNet2DConditionModel": ("", "_2"),
    "DiTTransformer2DModel": (),
    "SD3Transformer2DModel": ("", "_2", "_3"),
    "FluxTransformer2DModel": ("", "_2"),
}
"""The denoising networks that can be used, and the endings of the folders of their text encoders."""
PIPELINES = (
    "LDMPipeline",
    "LatentDiffusionUncondPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "DiTPipeline",
    "StableDiffusion3Pipeline",
    "StableDiffusion3Img2ImgPipeline",
    "FluxPipeline",
    "FluxImg2ImgPipeline",
)
"""diffusers' pipelines whose networks denoise latents of images; those of one model differ only in what they sample."""


@dataclass(frozen=True)
class ModelFolder:
    """A latent diffusion model on this machine.

    Attributes:
        root: its folder.
        autoencoder, denoiser: the subfolders of the networks.
        network: diffusers' class of the denoiser.
        settings: model_index.json; empty if there is none.
    """

    root: Path
    autoencoder: str
    denoiser: str
    network: str
    settings: Mapping[str, Any]

    def downscale(self) -> int:
        """The factor per side by which latents are smaller than images."""
        widths = read_config(self.root / self.autoencoder).get("block_out_channels")
        if widths is None:  # the autoencoder that ships for photographs
            return PATCH
        if not isinstance(widths, list) or not 0 < len(widths) < 16:
            raise UserError(
                f"{self.root / self.autoencoder / CONFIG}: block_out_channels must be a list, got {widths!r}"
            )
        return int(2 ** (len(widths) - 1))

    def image_size(self) -> int:
        """Pixels a side of the images that the denoiser was trained on, as its config says; 512 if it does not."""
        size = read_config(self.root / self.denoiser).get("sample_size")
        side = max(size) if isinstance(size, list) and size else size
        if side is None:
            return DEFAULT_SIZE
        if not isinstance(side, int) or not 0 < side <= MAX_SIZE:
            raise UserError(
                f"{self.root / self.denoiser / CONFIG}: sample_size must be a number of pixels, got {size!r}"
            )
        return side * self.downscale()

    def texts(self) -> tuple[str, ...]:
        """The endings of the folders of the text encoders that it has: "" for text_encoder, "_2" ..."""
        return tuple(e for e in NETWORKS[self.network] if all((self.root / f"{part}{e}").is_dir() for part in TEXTS))

    def parts(self) -> tuple[Path, ...]:
        """The folders that the prior's answers depend on."""
        texts = [self.root / f"{part}{ending}" for ending in self.texts() for part in TEXTS]
        return (self.root / self.denoiser, self.root / "scheduler", *texts)


def read_model(source: str, revision: str | None = None) -> ModelFolder:
    """The model in a folder or on the Hub; that is downloaded once.

    Args:
        source: a folder, or a Hub id (owner/name).
        revision: branch, tag or commit on the Hub.

    Raises:
        UserError: if there is no such model, or it is of an unknown kind or lacks a part; the message has the remedy.
    """
    local = at_home(source)
    if local.exists() and not (local / MODEL_INDEX).is_file() and (whole := _whole_model(local)) is not None:
        raise UserError(f"{source} is a part of a model: name its folder, {whole}")
    if local.is_dir():
        return _read(local)
    if local.is_file():
        raise UserError(f"{source} is one file, but a model is a folder: {_converted(local)}")
    if not HUB_ID.fullmatch(source) or source.startswith("."):
        raise UserError(f"there is no folder {source}: a model is a folder, or a Hub id (owner/name)")
    return _read(download(source, revision))


def _read(root: Path) -> ModelFolder:
    settings = _settings(root)
    pipeline = settings.get("_class_name")
    if pipeline is not None and pipeline not in PIPELINES:
        raise UserError(f"{root} is a {str(pipeline)[:80]}, which is not supported; available: {', '.join(PIPELINES)}")
    denoiser = _one_of(root, DENOISERS, "denoising network")
    network = class_name(root / denoiser)
    if network not in NETWORKS:
        raise UserError(
            f"{root / denoiser} holds a {network[:80]}, which is not supported; available: {', '.join(NETWORKS)}"
        )
    autoencoder = _one_of(root, AUTOENCODERS, "autoencoder")
    for part in (autoencoder, denoiser):
        _require_weights(root / part)
    model = ModelFolder(root, autoencoder, denoiser, network, settings)
    for part in (autoencoder, denoiser, *(f"text_encoder{ending}" for ending in model.texts())):
        refused = [name for name in REFUSED if name in read_config(root / part)]
        if refused:
            raise UserError(f"{root / part / CONFIG}: {refused[0]}: the network {REFUSED[refused[0]]}")
    return model


def _settings(root: Path) -> Mapping[str, Any]:
    path = root / MODEL_INDEX
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FOREIGN as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} must be a JSON object, not a {type(settings).__name__}")
    return settings


def _one_of(root: Path, names: tuple[str, ...], what: str) -> str:
    found = [name for name in names if (root / name / CONFIG).is_file()]
    if len(found) == 1:
        return found[0]
    listed = " or ".join(f"{name}/{CONFIG}" for name in names)
    if found:
        raise UserError(f"{root} has {len(found)} {what}s, {' and '.join(found)}: keep one of them")
    files = sorted(path for path in root.iterdir() if path.suffix in CHECKPOINTS)
    if files and names == DENOISERS:
        raise UserError(f"{root} is not in diffusers' folder format: {_converted(files[0])}")
    raise UserError(f"{root} has no {what}: expected {listed}, in diffusers' folder format")


def _converted(checkpoint: Path) -> str:
    """How a model in one file becomes a folder."""
    configs = sorted(checkpoint.parent.glob("*.yaml"))
    config = shlex.quote(str(configs[0])) if len(configs) == 1 else "CONFIG.yaml"
    return (
        f"python -m workbench import {shlex.quote(str(checkpoint))} --config {config} --output NEW_FOLDER converts a "
        "CompVis checkpoint (Stable Diffusion: from_single_file and save_pretrained of diffusers)"
    )


def _whole_model(part: Path) -> Path | None:
    """The folder of the model that a file or a folder is a part of."""
    return next((folder for folder in (part.parent, part.parent.parent) if (folder / MODEL_INDEX).is_file()), None)


def _require_weights(folder: Path) -> None:
    """Refuse a folder without safetensors, with the remedy for pickled ones."""
    if any(folder.glob("*.safetensors")):
        return
    pickled = next(iter(sorted([*folder.glob("*.bin"), *folder.glob("*.ckpt")])), None)
    if pickled is None:
        raise UserError(f"{folder} has a config.json but no weights (*.safetensors)")
    raise UserError(
        f"{pickled} is pickled, and loading it could run its code: "
        f"python -m workbench import {folder.parent} --output NEW_FOLDER reads only its tensors"
    )


@lru_cache(maxsize=16)
def download(name: str, revision: str | None, subfolder: str | None = None) -> Path:
    """The local copy of a Hub model's configs, vocabularies and weights; the Hub is queried once per process.

    Pickled weights are downloaded only where a model has no others, to be converted.

    Args:
        name: owner/name.
        revision: branch, tag or commit.
        subfolder: only what is in it; "": only what is in none; None: all parts of a latent diffusion model.

    Raises:
        UserError: if it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RevisionResolutionError

    if subfolder is None:
        folders = [*AUTOENCODERS, *DENOISERS, "scheduler", *(f"{part}{e}" for part in TEXTS for e in ("", "_2", "_3"))]
        wanted = [MODEL_INDEX, *(f"{f}/*{e}" for f in folders for e in (".json", ".txt", ".model", ".safetensors"))]
        # a model in two precisions is downloaded in the higher one, and without weights from before averaging
        unwanted: list[str] | None = ["*.fp16.*", "*.fp16-*", "*.bf16.*", "*non_ema*"]
    else:
        inside = f"{subfolder}/" if subfolder else ""
        wanted = [f"{inside}*.json", f"{inside}*.safetensors"]
        # a star also matches slashes: without a subfolder, a whole latent diffusion model would be downloaded
        unwanted = None if subfolder else ["*/*"]
    try:
        root = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted))
        if subfolder is None and not any(root.glob(f"{part}/*.safetensors") for part in DENOISERS):
            half = [f"{part}/*.fp16*" for part in (*AUTOENCODERS, *DENOISERS, "text_encoder*")]
            pickled = [f"{part}/*.bin" for part in (*AUTOENCODERS, *DENOISERS)]
            snapshot_download(name, revision=revision, allow_patterns=half)
            if not any(root.glob(f"{part}/*.safetensors") for part in DENOISERS):
                snapshot_download(name, revision=revision, allow_patterns=pickled)
        return root
    except (OSError, ValueError, RevisionResolutionError) as error:
        said = str(error).strip().splitlines()[0]
        where = "" if revision is None else f" at {revision}"
        raise UserError(f"{name!r} is neither a folder nor a model found on the Hub{where} ({said})") from None
