"""How an artifact was computed, stored with it as JSON: commit, versions, device, threads, checksums."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from workbench import __version__
from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN
from workbench.stages.runtime import Runtime

PROVENANCE = "provenance.json"


def provenance(runtime: Runtime) -> dict[str, Any]:
    """How a result was computed: commit, versions, device, threads."""
    import importlib.metadata

    import torch

    packages = ("torch", "torchvision", "diffusers", "deepinv", "lightning", "torchmetrics", "numpy")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {name: importlib.metadata.version(name) for name in packages}
        | {"python": platform.python_version(), "workbench": __version__},
        "device": torch.cuda.get_device_name(runtime.device)
        if runtime.device.startswith("cuda")
        else f"CPU {platform.machine()}",
        "threads": torch.get_num_threads(),
        "devices": runtime.num_ranks,
    }


def read_provenance(folder: Path) -> dict[str, Any]:
    """The provenance of a finished stage; {} for shipped weights.

    Raises:
        UserError: if it cannot be read.
    """
    path = folder / PROVENANCE
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_bytes())
    except FOREIGN as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): add --rerun to recompute its folder"
        ) from None
    if not isinstance(record, dict):
        raise UserError(f"{path} is not a JSON object: add --rerun to recompute its folder")
    return record


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parents[2]
    try:
        answer = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
