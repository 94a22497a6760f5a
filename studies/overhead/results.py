"""Rows of the overhead study as costs: of each operation, for each autoencoder, image size and batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench.config import UserError
from workbench.metrics import Estimate, ratio_of_means
from workbench.stages.measure_cost import DECODING, ENCODING, OPERATIONS, STEP

if TYPE_CHECKING:
    from workbench.results import StudyResults

AUTOENCODER, SIZE, BATCH = "autoencoder", "image_size", "batch_size"
KNOWN = (AUTOENCODER, "image size", "batch")
ASSUMED_NFE = 30.0
"""Evaluations of the prior in one reconstruction, where results hold no measured number: about that of the default."""


class Setting(NamedTuple):
    """What was measured."""

    autoencoder: str
    size: int
    batch: int


@dataclass(frozen=True)
class Cost:
    """Of one operation on one image, at the batch that it was measured with.

    Attributes:
        seconds: the median of the repeats.
        quartiles: the first and the third of them.
        flops: floating-point operations.
        peak_bytes: of the whole batch; NaN where the system does not tell.
    """

    seconds: float
    quartiles: tuple[float, float]
    flops: float
    peak_bytes: float


Costs = Mapping[str, Cost]
"""By operation."""


@dataclass(frozen=True)
class Overhead:
    """All costs, and what restorations at the default setting took.

    Attributes:
        costs: by setting, then by operation.
        machines: where times were taken, in words.
        nfe: evaluations of the prior in one reconstruction: their mean at the default setting, or `ASSUMED_NFE`.
        start_share: the whole start's part of the time of those restorations; None where none were measured.
    """

    costs: Mapping[Setting, Costs]
    machines: list[str]
    nfe: float
    start_share: Estimate | None

    def reconstruction(self, setting: Setting, quantity: str = "seconds", *, start: str = ENCODING) -> float:
        """Of one image: the start, `nfe` reverse steps and the decoder.

        Args:
            start: what the start consists of, the severity encoding alone or the rule that includes it.
            quantity: "seconds" or "flops".
        """
        numbers = {start: 1.0, STEP: self.nfe, DECODING: 1.0}
        return float(sum(number * getattr(self.costs[setting][name], quantity) for name, number in numbers.items()))

    def share(self, setting: Setting, quantity: str = "seconds", *, start: str = ENCODING) -> float:
        """The start's part of the reconstruction that begins with it."""
        own = float(getattr(self.costs[setting][start], quantity))
        return own / self.reconstruction(setting, quantity, start=start)


def read(results: "StudyResults") -> Overhead:
    """The costs of every setting.

    Raises:
        UserError: for results with other axes of several values.
    """
    others = [axis for axis, labels in results.axes.items() if axis not in KNOWN and len(labels) > 1]
    if others:
        raise UserError(f"this report cannot show several values of {', '.join(others)} side by side: give it one")
    found: dict[Setting, dict[str, Cost]] = {}
    for key, rows in results.frame.groupby([*KNOWN, "operation"], sort=False, observed=True):
        autoencoder, size, batch, operation = map(str, key)
        setting = Setting(autoencoder, int(size), int(batch))
        low, middle, high = np.quantile(rows["seconds"], [0.25, 0.5, 0.75]) / setting.batch
        first = rows.iloc[0]
        found.setdefault(setting, {})[operation] = Cost(
            float(middle), (float(low), float(high)), first["flops"] / setting.batch, first["peak_bytes"]
        )
    pairs = results.frame[["device", "threads"]].drop_duplicates().itertuples(index=False)
    measured = results.evidence
    return Overhead(
        {setting: {name: costs[name] for name in OPERATIONS} for setting, costs in found.items()},
        [f"{device} with {threads} {'thread' if threads == 1 else 'threads'}" for device, threads in pairs],
        float(np.mean(measured["nfe"])) if measured else ASSUMED_NFE,
        ratio_of_means(measured["start_seconds"], measured["seconds"]) if measured else None,
    )
