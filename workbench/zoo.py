"""The pretrained weights that ship: folders in diffusers' format, each with the recipe that made it."""

import hashlib
import json
import os
from collections.abc import Iterable
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
    folders = (path.parent for path in sorted(zoo_root().glob(f"*/{RECIPE}")))
    return next((folder for folder in folders if made_by(folder, recipe)), None)


def made_by(folder: Path, recipe: dict[str, Any]) -> bool:
    """Whether the recipe of a folder of weights holds all of `recipe`; False where there is none."""
    path = folder / RECIPE
    if not path.is_file():
        return False
    try:
        written = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it from version control") from None
    if not isinstance(written, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object); restore it from version control")
    return all(written.get(part) == wanted for part, wanted in recipe.items())


def weight_files(folder: Path) -> list[Path]:
    """Every weight and config file below a folder."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix in (".safetensors", ".json")]


@lru_cache(maxsize=64)
def weights_digest(*folders: Path) -> str:
    """12 hex digits over the contents of every weight and config file below `folders`.

    Raises:
        UserError: if none of them holds weights.
    """
    files = [(str(path.relative_to(folder)), path) for folder in folders for path in weight_files(folder)]
    if not any(path.suffix == ".safetensors" for _, path in files):
        raise UserError(f"{' and '.join(map(str, folders))} holds no weights (*.safetensors)")
    return contents_digest(files)


def contents_digest(files: Iterable[tuple[str, Path]]) -> str:
    """12 hex digits over names and the contents of the files that go by them."""
    total = hashlib.sha256()
    for name, path in files:
        total.update(name.encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]
