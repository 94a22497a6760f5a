"""The pretrained weights that ship: folders in diffusers' format, each with the recipe that made it."""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.config import UserError

RECIPE = "recipe.json"


def zoo_root() -> Path:
    """$WORKBENCH_ZOO, else data/zoo beside the package."""
    return Path(os.environ.get("WORKBENCH_ZOO") or Path(__file__).parents[1] / "data" / "zoo")


def find(recipe: dict[str, Any]) -> Path | None:
    """The zoo folder whose recipe holds all of `recipe` (data, autoencoder, prior); None where there is none."""
    for path in sorted(zoo_root().glob(f"*/{RECIPE}")):
        try:
            made_by = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged ({error}); restore it from version control") from None
        if not isinstance(made_by, dict):
            raise UserError(f"{path} is damaged (it holds no JSON object); restore it from version control")
        if all(made_by.get(part) == wanted for part, wanted in recipe.items()):
            return path.parent
    return None


@lru_cache(maxsize=64)
def weights_digest(folder: Path) -> str:
    """12 hex digits over the contents of every weight and config file below `folder`.

    Raises:
        UserError: if the folder does not exist or holds no weights.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json"))
    if not any(p.suffix == ".safetensors" for p in files):
        raise UserError(f"{folder} holds no weights (*.safetensors)")
    total = hashlib.sha256()
    for path in files:
        total.update(str(path.relative_to(folder)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]
