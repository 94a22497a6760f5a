"""Which files a record may name: a runs folder may be someone else's, and what W&B uploads others may see.

All paths here are resolved, links included. What lies elsewhere is neither read, nor uploaded, nor deleted.
"""

import re
from pathlib import Path

from workbench.weights.zoo import zoo_root

PLACES = ("stages", "studies")
"""The folders below the runs folder whose contents are recorded."""
OFFLINE_RUN = re.compile(r"wandb/offline-run-[0-9]{8}_[0-9]{6}-([0-9a-f]{12})")


class OutsideError(ValueError):
    """A path that a record may not name."""


def is_recordable(runs: Path, folder: Path) -> bool:
    """Whether W&B may be given files of this folder: it is in the runs folder's stages or studies, or in the zoo."""
    roots = [runs.resolve() / place for place in PLACES] + [zoo_root().resolve()]
    found = folder.resolve()
    return any(found.is_relative_to(root) and found != root for root in roots)


def folder_of(runs: Path, name: str) -> Path:
    """The folder that a record names.

    Raises:
        OutsideError: if nothing of it may be recorded.
    """
    try:
        if is_recordable(runs, folder := runs / name):
            return folder.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name of any length or with a null
        pass
    raise OutsideError(f"{name[:200]!r} lies outside the stages, studies and zoo that may be recorded")


def file_of(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder that may be recorded; None: there is none.

    Raises:
        OutsideError: if it lies elsewhere.
    """
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder):
            return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):
        pass
    raise OutsideError(f"{name[:200]!r} lies outside its folder {folder}")


def offline_run_of(runs: Path, name: str, run_id: str) -> Path:
    """The folder of an offline run of this id, as W&B names it.

    Raises:
        OutsideError: if it is no such folder.
    """
    path = runs.resolve() / name
    found = OFFLINE_RUN.fullmatch(name)
    if found is None or found[1] != run_id or path.resolve() != path:
        raise OutsideError(f"{name[:200]!r} is no offline run of {run_id} in {runs / 'wandb'}")
    return path
