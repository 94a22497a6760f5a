"""Other people's model files as a folder in diffusers' format, with safetensors: `python -m workbench import`."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.core.config import UserError
from workbench.core.files import remove
from workbench.core.foreign import readable
from workbench.weights.checkpoint import read_checkpoint
from workbench.weights.compvis import check_betas, read_config, translate
from workbench.weights.diffusers_folder import build_and_save
from workbench.weights.model import AUTOENCODERS, DENOISERS, MODEL_INDEX, TEXTS, read_model

SCHEDULER = "scheduler_config.json"
INDEX = ".bin.index.json"
PARTS = (*AUTOENCODERS, *DENOISERS, *TEXTS, "scheduler")
TEXT = (".json", ".txt", ".model")
"""What is copied beside the weights: configs, and the vocabularies of tokenizers."""


def import_compvis(checkpoint: Path, config: Path, output: Path, say: Callable[[str], None]) -> None:
    """Write a CompVis latent diffusion checkpoint as a folder that `--model` reads.

    Args:
        checkpoint: the file of weights; only its tensors are read, and nothing in it runs.
        config: CompVis' YAML of the model.
        output: the folder to make.
        say: called with a line for the user.

    Raises:
        UserError: for files that cannot be read or translated, or an output that exists.
    """
    params = read_config(config)
    with _made(output) as folder:
        tensors = read_checkpoint(checkpoint)
        imported = translate(params, tensors, config)
        check_betas(imported, tensors, config)
        index: dict[str, Any] = {"_class_name": "LDMPipeline"}
        for role, part in (("vqvae", imported.autoencoder), ("unet", imported.denoiser)):
            build_and_save(part.config, part.weights, folder / part.subfolder, checkpoint)
            index[role if role == "unet" else part.subfolder] = ["diffusers", part.config["_class_name"]]
        _write_json(folder / "scheduler" / SCHEDULER, imported.scheduler)
        index["scheduler"] = ["diffusers", imported.scheduler["_class_name"]]
        _write_json(folder / MODEL_INDEX, index)
    which = "the moving average of its weights" if imported.averaged else "its weights; it has no moving average"
    scale = imported.autoencoder.config["scaling_factor"]
    say(f"{output}: {imported.autoencoder.config['_class_name']} (scaling_factor {scale:.6g}) and UNet2DModel, {which}")


def import_pickled(model: Path, output: Path, say: Callable[[str], None]) -> None:
    """Write a diffusers folder whose weights are pickled (.bin) as one with safetensors.

    Args:
        model: the folder.
        output: the folder to make.
        say: called with a line for the user.

    Raises:
        UserError: if it has no pickled weights, one cannot be read, or the output exists.
    """
    from safetensors.torch import save_file

    own = _own_files(model)
    pickled = [path for path in own if path.suffix == ".bin" and not _renamed(path).exists()]
    if not pickled:
        read_model(str(model))  # says what else it is, if it is no model that can be used
        raise UserError(f"{model} has no pickled weights (*.bin): name it as --model directly")
    with _made(output) as folder:
        for path in own:
            target = folder / path.relative_to(model)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name.endswith(INDEX):
                _write_index(path, target)
            elif path.suffix in (*TEXT, ".safetensors"):
                shutil.copyfile(path, target)
        for path in pickled:
            whole: dict[str, Tensor] = {name: t.clone().contiguous() for name, t in read_checkpoint(path).items()}
            save_file(whole, folder / _renamed(path).relative_to(model), {"format": "pt"})
    say(f"{output}: {len(pickled)} pickled files as safetensors")


def _own_files(model: Path) -> list[Path]:
    """The files of a model's parts. Links out of the model are left out: what they name may be private."""
    home = model.resolve()
    # a snapshot of the Hub's cache consists of links into the cache of the same model
    home = home.parents[1] if home.parent.name == "snapshots" else home
    folders = [folder for folder in sorted(model.iterdir()) if folder.is_dir() and folder.name.startswith(PARTS)]
    files = [path for folder in (model, *folders) for path in sorted(folder.iterdir()) if path.is_file()]
    return [path for path in files if path.resolve().is_relative_to(home)]


def _renamed(path: Path) -> Path:
    """The name of a file of pickled weights as safetensors: transformers and diffusers have different ones."""
    name = path.name.replace("pytorch_model", "model") if path.name.startswith("pytorch") else path.name
    return path.with_name(name).with_suffix(".safetensors")


def _write_index(path: Path, target: Path) -> None:
    """The index of weights in several files, with their new names."""
    with readable(path, "the index"):
        index = json.loads(path.read_text(encoding="utf-8"))
        index["weight_map"] = {name: _renamed(Path(file)).name for name, file in index["weight_map"].items()}
    whole = _renamed(path.with_name(path.name.removesuffix(".index.json"))).name
    _write_json(target.with_name(f"{whole}.index.json"), index)


@contextmanager
def _made(output: Path) -> Iterator[Path]:
    """A folder to write to, which appears at `output` once it is complete."""
    if os.path.lexists(output):
        raise UserError(f"{output} exists: name a new folder")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise UserError(f"{output} cannot be made ({error.strerror})") from None
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(output)
    finally:
        if partial.exists():
            remove(partial)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
