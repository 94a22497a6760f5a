"""The calibration study's results: matched encoders with all that is known of them, and encoders that meet another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from studies._rows import ABSENT
from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval, paired_difference
from workbench.metrics.calibration import Calibration, from_plain
from workbench.stages.measure_calibration import ALL

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.results import StudyResults

AUTOENCODER, ENCODER, DEGRADATION = "autoencoder", "encoder", "degradation"
"""The axes that the report knows."""
NUM_BINS = 5
"""Equal bins of severity on [0, 1]."""
SMALLEST_BIN = 20
"""Images below which a bin's mean says nothing."""

REAL, GAUSSIAN = "real error", "Gaussian error"
WHITE, CHANNEL = "white noise", "noise by channel"
"""How restorations start: from the true variance with each error, from the predicted one with each noise."""


@dataclass(frozen=True)
class Restoration:
    """Images that were restored from one start, by one matched encoder."""

    image_id: NDArray[np.int64]
    psnr: NDArray[np.float64]
    start_timestep: NDArray[np.float64]

    def gain_over(self, other: "Restoration") -> Estimate:
        """Mean PSNR gained over another start, image by image, in dB.

        Raises:
            UserError: if they are of different images.
        """
        if not np.array_equal(self.image_id, other.image_id):
            raise UserError("two starts were tested on different images; run the study again")
        return paired_difference(self.psnr, other.psnr)


@dataclass(frozen=True)
class Pair:
    """One severity encoder on one degradation.

    Attributes:
        rows: one an image (see `stages.measure_calibration`).
        groups: the calibration of all images (`ALL`) and of each bin of severity by its name; empty where mismatched.
        restorations: by the name of their start; empty where there are none.
    """

    autoencoder: str
    encoder: str
    degradation: str
    rows: "DataFrame"
    groups: Mapping[str, Calibration]
    restorations: Mapping[str, Restoration]

    @property
    def is_matched(self) -> bool:
        return self.encoder == self.degradation

    @property
    def whole(self) -> Calibration:
        """Of all images."""
        return self.groups[ALL]

    @property
    def bins(self) -> dict[str, Calibration]:
        """Of each bin of severity, from mild to severe."""
        return {name: found for name, found in self.groups.items() if name != ALL}

    def values(self, column: str) -> NDArray[np.float64]:
        return self.rows[column].to_numpy(dtype=np.float64)

    def ratio(self, variance: str) -> Estimate:
        """Mean s2 / variance, over all images."""
        return mean_interval(self.values("s2") / self.values(variance))

    def ratios(self, variance: str) -> list[Estimate]:
        """The same in each bin of severity; absent where it holds few images."""
        place = np.clip((self.values("severity") * NUM_BINS).astype(int), 0, NUM_BINS - 1)
        ratio = self.values("s2") / self.values(variance)
        chosen = [ratio[place == i] for i in range(NUM_BINS)]
        return [mean_interval(one) if one.size >= SMALLEST_BIN else ABSENT for one in chosen]


def read_pairs(results: "StudyResults") -> list[Pair]:
    """Every encoder on every degradation that the results hold.

    Raises:
        UserError: for results with other axes of several values, or one encoder measured on different measurements.
    """
    known = (AUTOENCODER, ENCODER, DEGRADATION)
    others = [axis for axis, labels in results.axes.items() if axis not in known and len(labels) > 1]
    if others or not set(known) <= {*results.axes}:
        raise UserError(
            f"this report needs the axes {', '.join(known)} and no other of several values; "
            f"the results have: {', '.join(results.axes)}"
        )
    pairs = []
    for key, rows in results.frame.groupby(list(known), observed=True, sort=False):
        autoencoder, encoder, degradation = map(str, key)
        name = evidence_name(autoencoder, degradation)
        matched = encoder == degradation
        found = results.evidence.get(name, {}) if matched else {}
        pairs.append(
            Pair(
                autoencoder,
                encoder,
                degradation,
                rows,
                {group: from_plain(one) for group, one in found.get("calibration", {}).items()},
                {
                    start: Restoration(*(np.array(columns[c]) for c in ("image_id", "psnr", "start_timestep")))
                    for start, columns in found.get("restorations", {}).items()
                },
            )
        )
    _require_same_measurements(pairs)
    return pairs


def matched_pairs(pairs: list[Pair]) -> list[Pair]:
    """The encoders on what they were trained on."""
    return [pair for pair in pairs if pair.is_matched and pair.groups]


def evidence_name(autoencoder: str, degradation: str) -> str:
    """Under which name the evidence holds what is known of a matched encoder."""
    return f"{autoencoder}, {degradation}"


def _require_same_measurements(pairs: list[Pair]) -> None:
    sets: dict[str, set[str]] = {}
    for pair in pairs:
        sets.setdefault(pair.degradation, set()).update(pair.rows["measurement_set"])
    if mixed := [degradation for degradation, found in sets.items() if len(found) > 1]:
        raise UserError(f"encoders were tested on different measurements of {mixed[0]}: they cannot be compared")
