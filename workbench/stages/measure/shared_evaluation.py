"""Restore a cell's images on several devices: each has an engine of its own, and an equal part of the images."""

from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from numpy import ndarray
from torch import from_numpy

from workbench.core.config import UserError
from workbench.stages.execute.processes import fewer_threads, own_processes
from workbench.stages.measure.scoring import Scoring
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    from workbench.stages.measure.evaluate import Evaluate

Kept = tuple[dict[int, dict[str, ndarray]], dict[str, dict[int, tuple[ndarray, ndarray]]]]
"""The stored images of a part, and the features of its images for figures of the set: as arrays, because every tensor
that goes to another process takes a file descriptor."""
FEWEST = 64
"""Images for each device: a process for fewer takes longer to begin than to restore them."""


def restore_all(cell: "Evaluate", folder: Path, runtime: Runtime) -> tuple[Scoring, list[Path]]:
    """Restore the images of a cell on all devices of the runtime.

    Returns:
        The scoring with what is kept of every image, and the files of rows.

    Raises:
        UserError: if a device's process fails.
    """
    num_parts = max(1, min(len(runtime.devices), cell.num_images // FEWEST))
    streams = [cell.stream(folder, number) for number in range(num_parts)]
    if num_parts == 1:
        return cell.restore_part(streams[0], runtime, 0, 1), streams
    try:
        with own_processes(runtime.devices[1:num_parts], runtime) as pool:
            others = [
                pool.submit(_restore_part, cell, streams[number], device, number, num_parts)
                for number, device in enumerate(runtime.devices[1:num_parts], start=1)
            ]
            with fewer_threads(num_parts):
                scoring = cell.restore_part(streams[0], replace(runtime, devices=()), 0, num_parts)
            for other in others:
                examples, features = other.result()
                scoring.take(
                    {key: {n: from_numpy(x) for n, x in kept.items()} for key, kept in examples.items()},
                    {
                        f: {key: (from_numpy(x), from_numpy(y)) for key, (x, y) in kept.items()}
                        for f, kept in features.items()
                    },
                )
    except BrokenProcessPool:
        raise UserError(
            "a process that restores images was killed, perhaps because memory ran out: "
            "run the same command again with fewer --devices"
        ) from None
    return scoring, streams


def _restore_part(cell: "Evaluate", stream: Path, device: str, number: int, num_parts: int) -> Kept:
    """The work of another process."""
    from workbench.stages.execute.processes import runtime_here

    scoring = cell.restore_part(stream, replace(runtime_here(), device=device, devices=()), number, num_parts)
    return (
        {key: {name: x.numpy() for name, x in kept.items()} for key, kept in scoring.examples.items()},
        {f: {key: (x.numpy(), y.numpy()) for key, (x, y) in kept.items()} for f, kept in scoring.features.items()},
    )
