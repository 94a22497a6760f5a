"""What is tuned for, and what a cell on validation images is worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from workbench.config import UserError
from workbench.metrics import Absent, load_lpips
from workbench.stages.base import Runtime
from workbench.stages.evaluate import ROWS, Evaluate

if TYPE_CHECKING:
    import pandas as pd

Quality = Literal["psnr", "lpips"]
Cost = Literal["nfe", "flops", "none"]

WORST: Mapping[str, float] = {"psnr": 0.0, "lpips": 1.0}
"""What an image whose chain diverged counts for: on [0, 1] no PSNR is below 0 dB."""


@dataclass(frozen=True)
class Goal:
    """The best `quality` for the least mean `cost`; for whatever cost if that is "none"."""

    quality: Quality = "psnr"
    cost: Cost = "nfe"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the rows whose means are the objectives."""
        return (self.quality,) if self.cost == "none" else (self.quality, self.cost)

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Optuna's directions, one an objective."""
        return ["maximize" if name == "psnr" else "minimize" for name in self.columns]

    def check(self, cell: Evaluate) -> None:
        """Refuse a metric that would be absent from the rows.

        Raises:
            UserError: if LPIPS is asked for and its weights are not here.
        """
        if self.quality == "lpips" and isinstance(lpips := load_lpips(cell.lpips), Absent):
            raise UserError(f"LPIPS cannot be tuned for: {lpips.reason}")


def means_of(cell: Evaluate, runtime: Runtime) -> dict[str, float]:
    """Mean quality and cost over a cell's images, made now if it is not cached; quality counts diverged images."""
    rows = rows_of(cell, runtime)
    return {name: float(rows[name].mean()) for name in ("psnr", "lpips", "nfe", "flops") if name in rows}


def rows_of(cell: Evaluate, runtime: Runtime) -> "pd.DataFrame":
    """A cell's rows by image id, where images that diverged have the worst quality instead of none."""
    import numpy as np
    import pandas as pd

    rows = pd.read_parquet(cell.ensure(runtime) / ROWS).set_index("image_id")
    present = {name: worst for name, worst in WORST.items() if name in rows}
    return rows.assign(**{name: rows[name].where(np.isfinite(rows[name]), worst) for name, worst in present.items()})


def on_validation(cell: Evaluate, params: Mapping[str, Any], num_images: int) -> Evaluate:
    """The cell with these settings on the first validation images: the same measurements and draws in all trials."""
    return cell.replace({**params, "split": "val", "num_images": num_images})


def on_test(cell: Evaluate, params: Mapping[str, Any]) -> Evaluate:
    """The cell with these settings on its test images."""
    return cell.replace({**params, "split": "test"})
