"""Opens the runtime that the command line asks for: device, progress bars, W&B."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.config import UserError
from workbench.files import disk_refusal
from workbench.progress import Bars
from workbench.stages.base import Runtime
from workbench.tracking import Tracker, WandbTracker


@contextmanager
def open_runtime(runs: Path, device: str, batch_size: int, rerun: bool, group: str | None) -> Iterator[Runtime]:
    """A runtime with bars; with a W&B tracker where a group is named.

    Raises:
        UserError: for a device that is not there, a runs folder that cannot be written, or a disk that is full or gives
            way while the runtime is open.
    """
    with Bars() as progress:
        tracker = Tracker() if group is None else WandbTracker(runs, group, progress.say)
        try:
            yield Runtime(runs, _device(device), batch_size, rerun, progress, tracker)
        except Exception as error:
            if (refusal := disk_refusal(error, runs)) is None:
                raise
            raise UserError(refusal) from error


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used: {reason}") from None
    return name
