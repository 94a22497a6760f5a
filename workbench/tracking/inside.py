"""Which files a record may name: a runs folder may come from someone else, and others may see what W&B uploads.

All paths are resolved here, including links. Files elsewhere are neither read, nor uploaded, nor deleted.
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
    """Whether W&B may receive files of this folder: it is in the runs folder's stages or studies, or in the zoo."""
    roots = [runs.resolve() / place for place in PLACES] + [zoo_root().resolve()]
    found = folder.resolve()
    return any(found.is_relative_to(root) and found != root for root in roots)


def folder_of(runs: Path, name: str) -> Path:
    """The folder that a record names.

    Raises:
        OutsideError: if nothing in it may be recorded.
    """
    try:
        if is_recordable(runs, folder := runs / name):
            return folder.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that is too long or contains a null
        pass
    raise OutsideError(f"{name[:200]!r} lies outside the stages, studies and zoo that may be recorded")


def file_of(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder that may be recorded; None if there is none.

    Raises:
        OutsideError: if it is outside the folder.
    """
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder):
            return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):
        pass
    raise OutsideError(f"{name[:200]!r} lies outside its folder {folder}")


def offline_run_of(runs: Path, name: str, run_id: str) -> Path:
    """The folder of an offline run with this id, as named by W&B.

    Raises:
        OutsideError: if it is not such a folder.
    """
    path = runs.resolve() / name
    found = OFFLINE_RUN.fullmatch(name)
    if found is None or found[1] != run_id or path.resolve() != path:
        raise OutsideError(f"{name[:200]!r} is not an offline run of {run_id} in {runs / 'wandb'}")
    return path
