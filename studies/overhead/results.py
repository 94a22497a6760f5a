"""Rows of the overhead study as costs: of each operation, for each autoencoder, image size and batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pandas import DataFrame, Series

from studies._rows import require_axes
from workbench.experiments.results import StudyResults
from workbench.metrics import Estimate, ratio_of_means
from workbench.stages.measure.measure_cost import DECODING, ENCODING, STEP

AUTOENCODER, SIZE, BATCH = "autoencoder", "image_size", "batch_size"
SETTING = [AUTOENCODER, "image size", "batch"]
ASSUMED_NFE = 30.0
"""Evaluations of the prior in one reconstruction, where results hold no measured number: about that of the default."""


@dataclass(frozen=True)
class Overhead:
    """All costs, and what restorations at the default setting took.

    Attributes:
        costs: by quantity a row for each setting (autoencoder, size, batch) and a column for each operation: of one
            image `time`, the median of the repeats with their quartiles in seconds, and `flops`; `peak_bytes` of the
            whole batch, NaN where the system does not tell.
        machines: where times were taken, in words.
        nfe: evaluations of the prior in one reconstruction: their mean at the default setting, or `ASSUMED_NFE`.
        start_share: the whole start's part of the time of those restorations; None where none were measured.
    """

    costs: Mapping[str, DataFrame]
    machines: list[str]
    nfe: float
    start_share: Estimate | None

    @property
    def seconds(self) -> DataFrame:
        """The median time of one image: a row for each setting, a column for each operation."""
        return self.costs["time"].map(lambda time: time.mean)

    def share(self, start: str = ENCODING) -> Series:
        """The part of the severity encoding, or of the start rule with it, in one image's reconstruction, by setting.

        Of the time of the start, `nfe` steps and decoding.
        """
        seconds = self.seconds
        return seconds[start] / (seconds[start] + self.nfe * seconds[STEP] + seconds[DECODING])


def read(results: StudyResults) -> Overhead:
    """The costs of every setting.

    Raises:
        UserError: for results with other axes of several values.
    """
    require_axes(results, SETTING, alone=True)
    rows = results.frame.astype({"image size": int, "batch": int})
    rows[["time", "flops"]] = rows[["seconds", "flops"]].div(rows["batch"], axis=0)
    cells = rows.groupby([*SETTING, "operation"], sort=False, observed=True)
    costs = {
        "time": cells["time"].apply(_with_quartiles),
        "flops": cells["flops"].first(),
        "peak_bytes": cells["peak_bytes"].first(),
    }
    pairs = results.frame[["device", "threads"]].drop_duplicates().itertuples(index=False)
    measured = results.evidence
    return Overhead(
        {name: cost.unstack("operation", sort=False) for name, cost in costs.items()},
        [f"{device} with {threads} {'thread' if threads == 1 else 'threads'}" for device, threads in pairs],
        float(np.mean(measured["nfe"])) if measured else ASSUMED_NFE,
        ratio_of_means(measured["start_seconds"], measured["seconds"]) if measured else None,
    )


def _with_quartiles(values: Series) -> Estimate:
    low, median, high = values.quantile([0.25, 0.5, 0.75])
    return Estimate(median, low, high, 0)
