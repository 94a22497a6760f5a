"""The tables of `python -m workbench bench`."""

from collections.abc import Mapping, Sequence

import pandas as pd

from workbench.core.config import UserError
from workbench.experiments.bench import NUM_COPIES, Bench, Part, Timed
from workbench.reporting.tables import rich_table
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.provenance import provenance
from workbench.stages.runtime import Runtime

NUM_SLOTS = 64
"""Slots of the runs that measure scaling with the number of images, and of the parts."""
DECIMALS = {"change, dB": 4, "GFLOP": 4, "ms": 3, "times": 1, "NFE/s": 0, "NFE": 1}


def print_bench(cell: Evaluate, runtime: Runtime) -> None:
    """Measure and print: batch sizes, overhead over full steps, scaling with the number of images, and the parts.

    Raises:
        UserError: without shipped weights, or without the data.
    """
    stages = (cell.autoencoder_stage(), cell.prior_stage(), cell.severity_stage())
    lacking = [stage.label for stage in stages if stage is not None and stage.shipped() is None]
    if lacking:
        raise UserError(f"bench needs shipped weights (data/zoo), but there are none for: {', '.join(lacking)}")
    if not cell.solver.diffuses:
        raise UserError(f"solver {cell.solver.kind} takes no steps that could be timed: use another")
    cell.check()
    say, show = runtime.progress.say, runtime.progress.show
    with runtime.progress.task("timing") as update:
        bench = Bench(cell, runtime)
        slots = list(bench.slots())
        steps = len(slots) + 2
        batches: list[Timed] = []
        for num_slots in slots:
            update(len(batches), steps, f"batch size {num_slots}")
            batches.append(bench.restore(num_slots))
        few = max(cell.num_images // 2, 1)
        update(steps - 2, steps, f"{few} images")
        short = bench.restore(NUM_SLOTS, few)
        update(steps - 1, steps, f"{NUM_COPIES * few} images")
        long = bench.restore(NUM_SLOTS, few, NUM_COPIES)
        full = next((timed for timed in batches if timed.num_slots == NUM_SLOTS), batches[-1])
        parts = bench.parts(full)
    made = provenance(runtime)
    say(
        f"{made['device']}, {made['threads']} threads, torch {made['versions']['torch']}, {cell.precision}: "
        f"{cell.label}, {len(bench.x)} images"
    )
    show(rich_table(batch_table(batches), "Batch size", DECIMALS))
    show(rich_table(growth_table(short, long), f"More images, batch size {NUM_SLOTS}", DECIMALS))
    show(rich_table(part_table(parts), f"Where the time goes, batch size {full.num_slots}", DECIMALS))


def batch_table(batches: Sequence[Timed]) -> pd.DataFrame:
    """One row per batch size; speed and PSNR relative to the first, wall time relative to full steps."""
    first = batches[0]
    columns = {
        "images/s": [timed.images_per_second for timed in batches],
        "NFE/s": [timed.nfe_per_second for timed in batches],
        "NFE": [timed.nfe / timed.num_images for timed in batches],
        "speed-up": [timed.images_per_second / first.images_per_second for timed in batches],
        "wall / steps": [timed.overhead for timed in batches],
        "PSNR, dB": [timed.psnr for timed in batches],
        "change, dB": [timed.psnr - first.psnr for timed in batches],
    }
    return pd.DataFrame(columns, pd.Index([timed.num_slots for timed in batches], name="at once"))


def growth_table(short: Timed, long: Timed) -> pd.DataFrame:
    """The rate with few and with many images; the many are copies of the few with other ids."""
    both = (short, long)
    columns = {
        "images/s": [timed.images_per_second for timed in both],
        "NFE": [timed.nfe / timed.num_images for timed in both],
        "rate / first": [timed.images_per_second / short.images_per_second for timed in both],
    }
    return pd.DataFrame(columns, pd.Index([timed.num_images for timed in both], name="images"))


def part_table(parts: Mapping[str, Part]) -> pd.DataFrame:
    """Time and compute of each part of a restoration, and its share of the total time."""
    whole = parts["whole restoration"].milliseconds
    columns = {
        "times": [part.times for part in parts.values()],
        "ms": [part.milliseconds for part in parts.values()],
        "GFLOP": [part.flops / 1e9 for part in parts.values()],
        "% of the time": [100 * part.times * part.milliseconds / whole for part in parts.values()],
    }
    return pd.DataFrame(columns, pd.Index(list(parts), name="part of an image"))
