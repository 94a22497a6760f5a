"""What is searched for, by `tune` here and by sweeps at W&B: quality, at what cost, on which validation images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from workbench.bounds import MAX_COUNT
from workbench.config import UserError, require_range
from workbench.metrics import Absent, load_lpips
from workbench.metrics.worst import with_worst
from workbench.stages.evaluate import Evaluate
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime
from workbench.study import TuningTask

if TYPE_CHECKING:
    import pandas as pd

Quality = Literal["psnr", "lpips"]
Cost = Literal["nfe", "flops", "none"]
Direction = Literal["maximize", "minimize"]

VAL_IMAGES = 64
"""Validation images of a trial, unless the cell has fewer test images."""
MAX_TRIALS = 1_000_000
FEWEST = 4
"""Images below which nothing is judged."""


@dataclass(frozen=True)
class Objective:
    """The best `quality` for the least mean `cost`; for whatever cost if that is "none"."""

    quality: Quality = "psnr"
    cost: Cost = "nfe"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the rows whose means are the objectives."""
        return (self.quality,) if self.cost == "none" else (self.quality, self.cost)

    @property
    def directions(self) -> list[Direction]:
        """Optuna's directions, one an objective."""
        return ["maximize" if name == "psnr" else "minimize" for name in self.columns]

    def check(self, cell: Evaluate) -> None:
        """Refuse a metric that would be absent from the rows.

        Raises:
            UserError: for a figure that no metric of the cell gives, or LPIPS without its weights.
        """
        given = [name for metric in cell.metrics for name in metric.columns]
        if self.quality not in given:
            raise UserError(f"{self.quality} cannot be tuned for: the cell's metrics give {', '.join(given)}")
        if self.quality == "lpips" and isinstance(lpips := load_lpips(cell.lpips), Absent):
            raise UserError(f"LPIPS cannot be tuned for: {lpips.reason}")


def evaluation_of(name: str, task: TuningTask) -> Evaluate:
    """The task's cell.

    Raises:
        UserError: if it restores nothing.
    """
    if not isinstance(task.cell, Evaluate):
        raise UserError(f"the cells of {name} restore no images and cannot be tuned")
    return task.cell


def images_of(cell: Evaluate, val_images: int | None) -> int:
    """Validation images of a trial of this cell.

    Args:
        val_images: as asked for; None: `VAL_IMAGES`, or the cell's test images if they are fewer.

    Raises:
        UserError: for less than one, or more than any data set has.
    """
    if val_images is None:
        return min(VAL_IMAGES, cell.num_images)
    require_range("--val-images", val_images, 1, MAX_COUNT)
    return val_images


def means_of(cell: Evaluate, runtime: Runtime, needed: Sequence[str] = ()) -> dict[str, float]:
    """Mean quality and cost over a cell's images, made now if it is not cached; quality counts diverged images.

    Raises:
        UserError: as `rows_of`.
    """
    rows = rows_of(cell, runtime, needed)
    return {name: float(rows[name].mean()) for name in ("psnr", "lpips", "nfe", "flops") if name in rows}


def rows_of(cell: Evaluate, runtime: Runtime, needed: Sequence[str] = ()) -> "pd.DataFrame":
    """A cell's rows by image id, where images that diverged have the worst quality instead of none.

    Raises:
        UserError: if they lack a column that is needed: the cell was made when a metric was absent.
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
