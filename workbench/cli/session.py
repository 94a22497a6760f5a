"""The runtime of one command: device, progress bars, records for W&B."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from workbench.core.config import UserError
from workbench.core.files import disk_refusal
from workbench.core.progress import Bars
from workbench.stages.runtime import Runtime, choose_devices
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
    num_devices: int = 1,
    writes: bool = True,
) -> Iterator[Runtime]:
    """A runtime with progress bars, recorded for W&B if a group is given. Read-only commands need no writable folder.

    Raises:
        UserError: if the device does not exist, the runs folder cannot be written, or the disk is full or fails
            while the runtime is open.
    """
    with Bars() as progress:
        devices = choose_devices(device, num_devices)
        runtime = Runtime(runs, devices[0], batch_size, rerun, progress, devices=devices)
        if writes:
            runtime.require_writable()
        elif runs.exists() and not runs.is_dir():
            raise UserError(f"{runs} is not a folder: name the runs folder with --runs")
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
