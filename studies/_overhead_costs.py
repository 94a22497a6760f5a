"""The overhead study's results as costs: of each operation, for each autoencoder, image size and batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.config import UserError
from workbench.stages.measure_cost import DECODING, ENCODING, OPERATIONS, STEP

if TYPE_CHECKING:
    from workbench.results import StudyResults

AUTOENCODER, SIZE, BATCH = "autoencoder", "image_size", "batch_size"
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


def read_costs(results: "StudyResults") -> dict[Setting, Costs]:
    """The costs of every setting.

    Raises:
        UserError: for results with other axes of several values.
    """
    known = (AUTOENCODER, "image size", "batch")
    others = [axis for axis, labels in results.axes.items() if axis not in known and len(labels) > 1]
    if others:
        raise UserError(f"this report cannot show several values of {', '.join(others)} side by side: give it one")
    found: dict[Setting, dict[str, Cost]] = {}
    for key, rows in results.frame.groupby([*known, "operation"], sort=False):
        autoencoder, size, batch, operation = map(str, key)
        setting = Setting(autoencoder, int(size), int(batch))
        low, middle, high = np.quantile(rows["seconds"], [0.25, 0.5, 0.75]) / setting.batch
        first = rows.iloc[0]
        found.setdefault(setting, {})[operation] = Cost(
            float(middle), (float(low), float(high)), first["flops"] / setting.batch, first["peak_bytes"]
        )
    return {setting: {name: costs[name] for name in OPERATIONS} for setting, costs in found.items()}


def machines(results: "StudyResults") -> list[str]:
    """Where the times were taken."""
    pairs = results.frame[["device", "threads"]].drop_duplicates().itertuples(index=False)
    return [f"{device} with {threads} {'thread' if threads == 1 else 'threads'}" for device, threads in pairs]


def nfe_of(results: "StudyResults") -> float:
    """Evaluations of the prior in one reconstruction at the default setting, mean over images."""
    return float(np.mean(results.evidence["nfe"])) if results.evidence else ASSUMED_NFE


def reconstruction(costs: Costs, nfe: float, quantity: str = "seconds", *, start: str = ENCODING) -> float:
    """Of one image: the start, `nfe` reverse steps and the decoder.

    Args:
        start: what the start consists of, the severity encoding alone or the rule that includes it.
        quantity: "seconds" or "flops".
    """
    times = {start: 1.0, STEP: nfe, DECODING: 1.0}
    return float(sum(number * getattr(costs[name], quantity) for name, number in times.items()))


def share(costs: Costs, nfe: float, quantity: str = "seconds", *, start: str = ENCODING) -> float:
    """The start's part of the reconstruction that begins with it."""
    return float(getattr(costs[start], quantity) / reconstruction(costs, nfe, quantity, start=start))


def measured_shares(results: "StudyResults") -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(seconds of the start, seconds in all) of each image restored at the default setting; None: not measured."""
    if not results.evidence:
        return None
    return np.array(results.evidence["start_seconds"]), np.array(results.evidence["seconds"])
