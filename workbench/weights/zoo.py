"""The pretrained weights that ship: folders in diffusers' format, each with its training recipe."""

import hashlib
import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.core.config import UserError
from workbench.core.digests import DIGESTS, checked, is_foreign, listed_below, require
from workbench.core.foreign import reason

RECIPE = "recipe.json"
LARGE = 2**26
"""Bytes; larger files are read in parts of this size: pretrained models have gigabytes."""
SUFFIXES = (".safetensors", ".json")
"""Suffixes of weight and config files."""
VOCABULARIES = (".txt", ".model")
"""Suffixes of a tokenizer's further files."""


def zoo_root() -> Path:
    """$WORKBENCH_ZOO, else data/zoo next to the package."""
    return Path(os.environ.get("WORKBENCH_ZOO") or Path(__file__).parents[2] / "data" / "zoo")


def find(recipe: dict[str, Any]) -> Path | None:
    """The zoo folder whose recipe contains all of `recipe` (data, autoencoder, prior); None if there is none.

    Raises:
        UserError: if any folder's recipe is damaged or missing: it may be the right one, and retraining takes hours.
    """
    return next((folder for folder in folders() if made_by(folder, recipe)), None)


def find_without_images(recipe: dict[str, Any]) -> Path | None:
    """Like `find`, by published data that need not be on this machine.

    Args:
        recipe: its `data` may lack the fingerprint of the images, which follows from the other fields.

    Raises:
        UserError: if any folder's recipe is damaged or missing.
    """
    others = {part: wanted for part, wanted in recipe.items() if part != "data"}
    return next(
        (
            folder
            for folder in folders()
            if made_by(folder, others) and recipe["data"].items() <= read_recipe(folder)["data"].items()
        ),
        None,
    )


def folders() -> list[Path]:
    """The folders of the zoo: those with a recipe, or with digests that list one."""
    root = zoo_root()
    below = root.iterdir() if root.is_dir() else ()
    return sorted(path for path in below if any((path / name).exists() for name in (RECIPE, DIGESTS)))


def made_by(folder: Path, recipe: dict[str, Any]) -> bool:
    """Whether the recipe of a folder of weights contains all of `recipe`; False if it has no recipe.

    Raises:
        UserError: if the recipe is damaged, or a shipped one is missing.
    """
    if not (folder / RECIPE).is_file():
        require(folder / RECIPE)
        return False
    written = read_recipe(folder)
    return all(written.get(part) == wanted for part, wanted in recipe.items())


def read_recipe(folder: Path) -> dict[str, Any]:
    """How the weights in a folder were trained.

    Raises:
        UserError: if the record is damaged.
        OSError: if there is none.
    """
    path = folder / RECIPE
    status = path.stat()
    return _read_recipe(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read_recipe(path: Path, _changed: int, _size: int) -> dict[str, Any]:
    """The content of a recipe; cached, because every cell of a study reads it."""
    try:
        written = json.loads(checked(path))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, or too long numbers or too many nested brackets
        raise UserError(f"{path} is damaged ({reason(error)}); restore it from version control") from None
    if not isinstance(written, dict):
        raise UserError(f"{path} is damaged (not a JSON object); restore it from version control")
    return written


def weight_files(folder: Path) -> list[Path]:
    """Every weight and config file below a folder; of a tokenizer, its vocabulary, too."""
    suffixes = (*SUFFIXES, *VOCABULARIES) if folder.name.startswith("tokenizer") else SUFFIXES
    return [path for path in sorted(folder.rglob("*")) if path.suffix in suffixes]


@lru_cache(maxsize=64)
def weights_digest(*folders: Path) -> str:
    """12 hex digits of a hash over the contents of every weight and config file below `folders`.

    Raises:
        UserError: if there are no weights, or shipped ones are damaged: with other bytes they would count as different
            weights, and everything would be recomputed from them.
    """
    for path in (path for folder in folders for path in listed_below(folder) if path.suffix in SUFFIXES):
        require(path)
    files = [(str(path.relative_to(folder)), path) for folder in folders for path in weight_files(folder)]
    if not any(path.suffix == ".safetensors" for _, path in files):
        raise UserError(f"{' and '.join(map(str, folders))} has no weights (*.safetensors)")
    if foreign := [path for _, path in files if is_foreign(path)]:
        raise UserError(f"{foreign[0]} did not ship with the weights in its folder: move it away")
    return contents_digest(files)


def contents_digest(files: Iterable[tuple[str, Path]]) -> str:
    """12 hex digits of a hash over file names and contents."""
    total = hashlib.sha256()
    for name, path in files:
        total.update(name.encode())
        if path.stat().st_size < LARGE:
            total.update(checked(path))
            continue
        require(path)
        with path.open("rb") as file:
            while part := file.read(LARGE):
                total.update(part)
    return total.hexdigest()[:12]
