"""The objective of `tune` and of W&B sweeps: quality, cost, and the validation images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from workbench.core.bounds import MAX_COUNT
from workbench.core.config import UserError, require_range
from workbench.experiments.study import TuningTask
from workbench.metrics import LPIPS, PSNR, Absent, Metric, load_lpips
from workbench.metrics.worst import with_worst
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    import pandas as pd

Quality = Literal["psnr", "lpips"]
Cost = Literal["nfe", "flops", "none"]
Direction = Literal["maximize", "minimize"]

METRICS: tuple[type[Metric], ...] = (PSNR, LPIPS)
"""Those that can be tuned for."""
VAL_IMAGES = 64
"""Validation images per trial, unless the cell has fewer test images."""
MAX_TRIALS = 1_000_000
FEWEST = 4
"""Minimum number of images to judge a trial on."""


@dataclass(frozen=True)
class Objective:
    """The best `quality` for the least mean `cost`; quality alone if the cost is "none"."""

    quality: Quality = "psnr"
    cost: Cost = "nfe"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the rows whose means are the objectives."""
        return (self.quality,) if self.cost == "none" else (self.quality, self.cost)

    @property
    def directions(self) -> list[Direction]:
        """Optuna's directions, one per objective: as the metrics declare them; costs are minimised."""
        better = {name: way for metric in METRICS for name, way in metric.columns.items()}
        return ["maximize" if better.get(name) == "higher" else "minimize" for name in self.columns]

    def check(self, cell: Evaluate) -> None:
        """Reject a metric that would be missing in the rows.

        Raises:
            UserError: for a quality that no metric of the cell computes, or LPIPS without its weights.
        """
        given = [name for metric in cell.metrics for name in metric.columns]
        if self.quality not in given:
            raise UserError(f"cannot tune for {self.quality}: the cell's metrics compute {', '.join(given)}")
        if self.quality == "lpips" and isinstance(lpips := load_lpips(cell.lpips), Absent):
            raise UserError(f"cannot tune for LPIPS: {lpips.reason}")


def evaluation_of(name: str, task: TuningTask) -> Evaluate:
    """The task's cell.

    Raises:
        UserError: if the cell does not restore images.
    """
    if not isinstance(task.cell, Evaluate):
        raise UserError(f"the cells of {name} do not restore images and cannot be tuned")
    return task.cell


def images_of(cell: Evaluate, val_images: int | None) -> int:
    """Number of validation images per trial of this cell.

    Args:
        val_images: the requested number; None: `VAL_IMAGES`, or the number of the cell's test images if it is smaller.

    Raises:
        UserError: for less than one, or more than any data set has.
    """
    if val_images is None:
        return min(VAL_IMAGES, cell.num_images)
    require_range("--val-images", val_images, 1, MAX_COUNT)
    return val_images


def means_of(cell: Evaluate, runtime: Runtime, needed: Sequence[str] = ()) -> dict[str, float]:
    """Mean quality and cost over a cell's images, computed now if not cached; quality includes diverged images.

    Raises:
        UserError: as for `rows_of`.
    """
    rows = rows_of(cell, runtime, needed)
    return {name: float(rows[name].mean()) for name in ("psnr", "lpips", "nfe", "flops") if name in rows}


def rows_of(cell: Evaluate, runtime: Runtime, needed: Sequence[str] = ()) -> "pd.DataFrame":
    """A cell's rows by image id; diverged images get the worst quality instead of none.

    Raises:
        UserError: if a required column is missing because a metric was not available when the cell was computed.
    """
    import pandas as pd

    rows = with_worst(pd.read_parquet(cell.ensure(runtime) / ROWS).set_index("image_id"))
    if absent := [name for name in needed if name not in rows]:
        raise UserError(f"{cell.label} was evaluated without {', '.join(absent)}: add --rerun")
    return rows


def on_validation(cell: Evaluate, params: Mapping[str, Any], num_images: int) -> Evaluate:
    """The cell with these settings on the first validation images: the same measurements and draws in all trials."""
    return cell.replace({**params, "split": "val", "num_images": num_images})


def on_test(cell: Evaluate, params: Mapping[str, Any]) -> Evaluate:
    """The cell with these settings on its test images."""
    return cell.replace({**params, "split": "test"})
