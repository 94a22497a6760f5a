"""Strict saving and loading in diffusers' folder format: no weight stays random, and nothing is unpickled."""

import json
from pathlib import Path
from typing import Any

from workbench.core.config import UserError
from workbench.core.digests import require
from workbench.core.foreign import FOREIGN

CONFIG = "config.json"


def save_half(model: Any, folder: Path) -> None:
    """Write a diffusers model as fp16 safetensors; the model in memory keeps its precision.

    The config does not say from which folder the model was loaded, if it was.
    """
    import copy

    copy.deepcopy(model).half().save_pretrained(folder, variant="fp16", safe_serialization=True)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.pop("_name_or_path", None) is not None:
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_strictly(model_class: Any, folder: Path, dtype: Any = None) -> Any:
    """`model_class.from_pretrained(folder)`, from safetensors only.

    Args:
        model_class: a class of diffusers, or like one.
        folder: config and weights.
        dtype: the torch type of the weights; None: float32.

    diffusers only warns about weights that a file lacks and leaves them random; here that is an error.

    Raises:
        UserError: if the folder, its config or its weights are missing or truncated, or of another class or shape.
    """
    stated = class_name(folder)
    found = {path.name for path in folder.glob("*.safetensors")}
    if not found:
        raise UserError(f"{folder} has a config.json but no weights (*.safetensors); restore them or train again")
    for path in folder.iterdir():
        require(path)
    from diffusers.utils import logging

    # AutoencoderTiny saves a config entry that it warns about at every load
    logging.set_verbosity_error()
    if stated != model_class.__name__:
        raise UserError(f"{folder} holds a {stated}, not a {model_class.__name__}")
    # of two precisions, the higher one
    variant = "fp16" if all(".fp16" in name for name in found) else None
    import torch

    try:
        model, report = model_class.from_pretrained(
            folder,
            variant=variant,
            torch_dtype=dtype or torch.float32,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except FOREIGN as error:
        raise UserError(f"cannot load {folder}: {_first_line(error)}") from error
    except Exception as error:  # safetensors raises its own class, derived from Exception only
        if type(error).__name__ != "SafetensorError":
            raise
        raise UserError(f"the weights in {folder} are truncated or damaged: {_first_line(error)}") from error
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *map(str, report.get("mismatched_keys", []))]
    if wrong:
        raise UserError(
            f"the weights in {folder} do not fit its config.json: {len(wrong)} keys differ, e.g. {wrong[0]}"
        )
    return model.eval()


def build_and_save(config: dict[str, Any], weights: dict[str, Any], folder: Path, origin: Path) -> None:
    """Write a diffusers model from its config and all of its weights, in float32.

    Args:
        config: config.json; its `_class_name` must be one of diffusers' models.
        weights: its state dict.
        folder: where to.
        origin: the file that both are from, named in messages.

    Raises:
        UserError: if they do not fit each other.
    """
    import diffusers

    given = {name: value for name, value in config.items() if not name.startswith("_")}
    try:
        model = getattr(diffusers, config["_class_name"])(**given)
        model.load_state_dict({name: value.float() for name, value in weights.items()})
    except FOREIGN as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"the weights in {origin} do not fit the config: {detail}") from None
    model.save_pretrained(folder, safe_serialization=True)


def read_state_dict(path: Path) -> dict[str, Any]:
    """A state dict in torch's own format, on the CPU; only tensors are read, and no code runs.

    Raises:
        UserError: if the file is missing or truncated, or contains anything else.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # torch.load has no error class: a truncated, foreign or pickled file raises any of these
    except FOREIGN as error:
        raise UserError(f"{path} is not a readable state dict ({_first_line(error)}); replace the file") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state dict")
    return state


def class_name(folder: Path) -> str:
    """The diffusers class that the config.json of a folder names.

    Raises:
        UserError: if the config is missing or cannot be read.
    """
    try:
        return str(read_config(folder)["_class_name"])
    except KeyError:
        raise UserError(f"{folder / CONFIG} does not name the model's class: it has no _class_name") from None


def read_config(folder: Path) -> dict[str, Any]:
    """The settings in the config.json of a folder, without the defaults of its class.

    Raises:
        UserError: if the config is missing or cannot be read.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} has no model: expected config.json and safetensors in diffusers' folder format")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FOREIGN as error:
        raise UserError(f"{path} does not name the model's class ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
