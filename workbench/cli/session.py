"""The runtime of one command, open while it works: device, progress bars, records for W&B."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from workbench.config import UserError
from workbench.files import disk_refusal
from workbench.progress import Bars
from workbench.stages.runtime import Runtime, choose_device
from workbench.tracking.mode import stated_mode
from workbench.tracking.tracker import Recorder


@contextmanager
def open_runtime(
    runs: Path,
    device: str,
    batch_size: int,
    rerun: bool,
    group: str | None,
    tags: tuple[str, ...] = (),
    *,
    writes: bool = True,
) -> Iterator[Runtime]:
    """A runtime with bars; recorded for W&B where a group is named. Who writes nothing needs no folder, nor the right.

    Raises:
        UserError: for a device that is not there, a runs folder that cannot be written, or a disk that is full or gives
            way while the runtime is open.
    """
    with Bars() as progress:
        runtime = Runtime(runs, choose_device(device), batch_size, rerun, progress)
        if writes:
            runtime.require_writable()
        elif runs.exists() and not runs.is_dir():
            raise UserError(f"{runs} is no folder: name the runs folder by --runs")
        if group is not None and stated_mode() != "disabled":
            runtime = replace(runtime, tracker=Recorder(runs, group, tags, progress.say))
        try:
            yield runtime
        except Exception as error:
            if (refusal := disk_refusal(error, runs)) is None:
                raise
            raise UserError(refusal) from error
        finally:
            runtime.tracker.close()
