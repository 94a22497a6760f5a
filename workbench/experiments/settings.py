"""Settings by name: `--preset-settings=NAME` applies them before other overrides.

These are results of tuning, written by `tune --save`, and the recipes of the shipped autoencoders and priors
(`zoo_NAME`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from workbench.core.config import Config, UserError
from workbench.core.digests import checked
from workbench.core.families import refuse_unnamed
from workbench.core.foreign import readable, reason
from workbench.core.places import at_home

PRESETS = Path(__file__).parents[1] / "presets"
FLAG = "preset-settings"


class Settings(Config):
    """Settings, and how they were found.

    Attributes:
        settings: dotted path into a cell -> value.
        provenance: the command that found them and, if tuned, the objective and the gain with the number of test
            images.
    """

    settings: dict[str, JsonValue]
    provenance: dict[str, JsonValue]


def with_settings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `preset-settings` in overrides, if present, by those settings; the other overrides take precedence.

    Raises:
        UserError: for an unknown name, a file without settings, or settings that name an object in a module that is not
            allowed.
    """
    given = dict(overrides)
    name = given.pop(FLAG, None)
    if name is None:
        return given
    settings = load_settings(str(name)).settings
    refuse_unnamed(settings, str(name))
    return {**settings, **given}


def with_model(overrides: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Overrides with the autoencoder and the prior of a pretrained latent diffusion model; others take precedence.

    Args:
        overrides: the user's.
        model: a folder, a Hub id or a Hub id@revision; None: no model.

    Raises:
        UserError: if there is no such model, or it is of an unknown kind.
    """
    if model is None:
        return dict(overrides)
    if not model.strip():
        raise UserError("--model is empty: name a folder or a Hub id")
    from workbench.weights.model import read_model

    source, at, revision = model.rpartition("@")
    if not at or at_home(model).is_dir():
        source, revision = model, ""
    found = read_model(source, revision or None)
    if revision and at_home(source).is_dir():
        raise UserError(f"--model: {source} is a folder, which has no revision {revision}")
    return {
        "autoencoder.kind": "pretrained",
        "autoencoder.source": source,
        "autoencoder.subfolder": found.autoencoder,
        "autoencoder.scaling": "config",
        "prior.kind": "pretrained",
        "prior.source": source,
        **({"autoencoder.revision": revision, "prior.revision": revision} if revision else {}),
        **overrides,
    }


RESIZED = ("image_folder", "huggingface")
"""Sources whose images are made the size that is asked for."""


def with_clean_images(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of a study; with a pretrained model, its images are made the size that the model was trained on.

    Raises:
        UserError: for a pretrained model without images: no data set goes with it.
    """
    if overrides.get("prior.kind") != "pretrained" or "prior.source" not in overrides:
        return dict(overrides)
    from workbench.weights.model import read_model

    size = read_model(str(overrides["prior.source"]), overrides.get("prior.revision")).image_size()
    if not any(path == "data" or path.startswith("data.") for path in overrides):
        raise UserError(
            "a study with --model needs clean images of the model's kind: add --data.kind=image_folder "
            f"--data.path=FOLDER (made {size} x {size}, the model's own size, unless --data.size says otherwise)"
        )
    return {**({"data.size": size} if overrides.get("data.kind") in RESIZED else {}), **overrides}


def load_settings(name: str) -> Settings:
    """Load the settings of a name in workbench/presets, or of a JSON file.

    Raises:
        UserError: as above.
    """
    path = at_home(name) if name.endswith(".json") else PRESETS / f"{name}.json"
    if not path.is_file():
        names = sorted(p.stem for p in PRESETS.glob("*.json"))
        known = f"available: {', '.join(names)}; or " if names else ""
        raise UserError(f"unknown settings {name!r}; {known}give a JSON file of `tune --save`")
    with readable(path, "the settings"):
        text = checked(path).decode()
    try:
        found = Settings.model_validate_json(text)
        json.dumps(found.settings)  # an integer of thousands of digits cannot be printed
    except ValidationError as error:
        raise UserError(f"{path} is not a settings file: {error.errors()[0]['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a settings file: {reason(error)}") from None
    return found
