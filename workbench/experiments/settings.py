"""Settings by name: `--preset-settings=NAME` puts them before overrides.

Those that `tune` found and `tune --save` wrote, and the recipes of the autoencoders and priors that ship (`zoo_NAME`).
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
    """Settings and how they were found.

    Attributes:
        settings: dotted path into a cell -> value.
        provenance: the command that made them; if tuned, for what, and what was gained on how many test images.
    """

    settings: dict[str, JsonValue]
    provenance: dict[str, JsonValue]


def with_settings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides in which `preset-settings`, if it is there, is replaced by those settings; the other overrides win.

    Raises:
        UserError: for a name that there is not, or a file that holds no settings, or settings that name what is in a
            module which is not allowed.
    """
    given = dict(overrides)
    name = given.pop(FLAG, None)
    if name is None:
        return given
    settings = load_settings(str(name)).settings
    refuse_unnamed(settings, str(name))
    return {**settings, **given}


def load_settings(name: str) -> Settings:
    """Those of a name in workbench/presets, or of a JSON file.

    Raises:
        UserError: as above.
    """
    path = at_home(name) if name.endswith(".json") else PRESETS / f"{name}.json"
    if not path.is_file():
        names = sorted(p.stem for p in PRESETS.glob("*.json"))
        known = f"available: {', '.join(names)}; or " if names else ""
        raise UserError(f"there are no settings {name!r}; {known}name a JSON file of `tune --save`")
    with readable(path, "the settings"):
        text = checked(path).decode()
    try:
        found = Settings.model_validate_json(text)
        json.dumps(found.settings)  # a whole number of thousands of digits cannot even be printed
    except ValidationError as error:
        raise UserError(f"{path} holds no settings: {error.errors()[0]['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} holds no settings: {reason(error)}") from None
    return found
