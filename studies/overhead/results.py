"""Rows of the overhead study as costs: of each operation, for each autoencoder, image size and batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from workbench.config import UserError
from workbench.metrics import Estimate, ratio_of_means
from workbench.stages.measure_cost import DECODING, ENCODING, STEP

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

AUTOENCODER, SIZE, BATCH = "autoencoder", "image_size", "batch_size"
SETTING = (AUTOENCODER, "image size", "batch")
ASSUMED_NFE = 30.0
"""Evaluations of the prior in one reconstruction, where results hold no measured number: about that of the default."""


@dataclass(frozen=True)
class Overhead:
    """All costs, and what restorations at the default setting took.

    Attributes:
        costs: a row for each setting (autoencoder, size, batch), a column for each (quantity, operation): of one image
            `seconds`, the median of the repeats, their quartiles `low` and `high`, and `flops`; `peak_bytes` of the
            whole batch, NaN where the system does not tell.
        machines: where times were taken, in words.
        nfe: evaluations of the prior in one reconstruction: their mean at the default setting, or `ASSUMED_NFE`.
        start_share: the whole start's part of the time of those restorations; None where none were measured.
    """

    costs: "DataFrame"
    machines: list[str]
    nfe: float
    start_share: Estimate | None

    def share(self, start: str = ENCODING) -> "Series":
        """The start's part of the time of one image's reconstruction, by setting: the start, `nfe` steps, decoding.

        Args:
            start: the severity encoding alone, or the rule that includes it.
        """
        seconds = self.costs["seconds"]
        part: Series = seconds[start] / (seconds[start] + self.nfe * seconds[STEP] + seconds[DECODING])
        return part


def read(results: "StudyResults") -> Overhead:
    """The costs of every setting.

    Raises:
        UserError: for results with other axes of several values.
    """
    others = [axis for axis, labels in results.axes.items() if axis not in SETTING and len(labels) > 1]
    if others:
        raise UserError(f"this report cannot show several values of {', '.join(others)} side by side: give it one")
    rows = results.frame.astype({"image size": int, "batch": int})
    rows[["seconds", "flops"]] = rows[["seconds", "flops"]].div(rows["batch"], axis=0)
    costs = rows.groupby([*SETTING, "operation"], sort=False, observed=True).agg(
        seconds=("seconds", "median"),
        low=("seconds", lambda seconds: seconds.quantile(0.25)),
        high=("seconds", lambda seconds: seconds.quantile(0.75)),
        flops=("flops", "first"),
        peak_bytes=("peak_bytes", "first"),
    )
    pairs = results.frame[["device", "threads"]].drop_duplicates().itertuples(index=False)
    measured = results.evidence
    return Overhead(
        cast("DataFrame", costs.unstack("operation", sort=False)),
        [f"{device} with {threads} {'thread' if threads == 1 else 'threads'}" for device, threads in pairs],
        float(np.mean(measured["nfe"])) if measured else ASSUMED_NFE,
        ratio_of_means(measured["start_seconds"], measured["seconds"]) if measured else None,
    )
