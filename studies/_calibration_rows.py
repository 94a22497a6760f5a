"""The calibration study's results: matched encoders with all that is known of them, and encoders that meet another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from studies._rows import ABSENT
from workbench.config import UserError
from workbench.metrics import (
    Estimate,
    mean_interval,
    paired_difference,
    severity_bins,
    violation_rate,
    violation_rates,
)
from workbench.metrics.calibration import ALL, Calibration, bins_for, ence_of, from_plain
from workbench.severity.calibration.conformal import promised_range
from workbench.stages.measure_calibration import bound_column, variance_column

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.results import StudyResults

AUTOENCODER, ENCODER, DEGRADATION = "autoencoder", "encoder", "degradation"
"""The axes that the report knows."""
SMALLEST_BIN = 20
"""Images below which a bin's mean says nothing."""

REAL, GAUSSIAN = "real error", "Gaussian error"
WHITE, CHANNEL = "white noise", "noise by channel"
MMSE, RECALIBRATED, CAUTIOUS = "mmse channel", "recalibrated", "risk of 10 %"
"""How restorations start: from the true variance with each error; from the predicted one with each noise, or with
white noise as the other channel has it, from the recalibrated variance, or from its conformal bound."""


OWN = "var_hat"
VARIANCES = {
    OWN: "as predicted",
    variance_column("factor"): "one factor",
    variance_column("temperature"): "temperature",
    variance_column("isotonic"): "isotonic",
}
"""What the columns of variances are called here."""
OTHERS = {
    REAL: "true variance",
    CHANNEL: "noise by channel",
    MMSE: "mmse",
    RECALIBRATED: "recalibrated",
    CAUTIOUS: "risk of 10 %",
}
"""Starts that are set beside the predicted variance."""
COSTED = {WHITE: "predicted variance", CAUTIOUS: "risk of 10 %"}
Promise = Literal["kept", "kept, more than promised", "broken"]
RESTORED = ("image_id", "psnr", "start_timestep", "nfe")
"""The columns that are read of restorations, one value per image each."""


@dataclass(frozen=True)
class Restoration:
    """Images that were restored from one start, by one matched encoder."""

    image_id: NDArray[np.int64]
    psnr: NDArray[np.float64]
    start_timestep: NDArray[np.float64]
    nfe: NDArray[np.float64]

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
        num_bins: equal bins of severity on [0, 1].
    """

    autoencoder: str
    encoder: str
    degradation: str
    rows: "DataFrame"
    groups: Mapping[str, Calibration]
    restorations: Mapping[str, Restoration]
    num_bins: int

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
        place = severity_bins(self.values("severity"), self.num_bins)
        ratio = self.values("s2") / self.values(variance)
        chosen = [ratio[place == i] for i in range(self.num_bins)]
        return [mean_interval(one) if one.size >= SMALLEST_BIN else ABSENT for one in chosen]

    @property
    def risks(self) -> list[float]:
        """The risks that the rows hold bounds for."""
        return [float(name.removeprefix("bound_")) for name in self.rows.columns if name.startswith("bound_")]

    def violations(self, risk: float) -> Estimate:
        """How often s2 lies above its bound."""
        return violation_rate(self.values("s2"), self.values(bound_column(risk)))

    def violations_by_severity(self, risk: float) -> list[Estimate]:
        """The same in each bin of severity."""
        s2, severity = self.values("s2"), self.values("severity")
        return violation_rates(s2, self.values(bound_column(risk)), severity, self.num_bins)

    def promised(self, risk: float) -> tuple[float, float]:
        """Where that lies in 95 of 100 trials if the promise is kept."""
        return promised_range(risk, int(self.rows["num_scores"].iloc[0]), len(self.rows))

    def promise(self, risk: float) -> Promise:
        """What became of it; violations rarer than chance allows keep it too: the bound is looser than it need be."""
        rate, (low, high) = self.violations(risk).mean, self.promised(risk)
        return "broken" if rate > high else "kept" if rate >= low else "kept, more than promised"

    def ence(self, variance: str) -> Estimate:
        """Of a column of variances."""
        return ence_of(self.values(variance), self.values("square"), bins_for(len(self.rows)))


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
                    start: Restoration(*(np.array(columns[c]) for c in RESTORED))
                    for start, columns in found.get("restorations", {}).items()
                },
                found.get("num_severity_bins", 5),  # as many as there were before results said it
            )
        )
    _require_same_measurements(pairs)
    return pairs


def matched_pairs(pairs: list[Pair]) -> list[Pair]:
    """The encoders on what they were trained on."""
    return [pair for pair in pairs if pair.is_matched and pair.groups]


def recalibrated(pairs: Sequence[Pair]) -> str:
    """The column of the last recalibration that there is, which bounds are made of."""
    return [column for column in VARIANCES if all(column in pair.rows for pair in pairs)][-1]


def middle_risk(pairs: Sequence[Pair]) -> float:
    """The risk that is spoken of where one has to do."""
    risks = sorted(pairs[0].risks)
    return risks[(len(risks) - 1) // 2]


def evidence_name(autoencoder: str, degradation: str) -> str:
    """Under which name the evidence holds what is known of a matched encoder."""
    return f"{autoencoder}, {degradation}"


def _require_same_measurements(pairs: list[Pair]) -> None:
    sets: dict[str, set[str]] = {}
    for pair in pairs:
        sets.setdefault(pair.degradation, set()).update(pair.rows["measurement_set"])
    if mixed := [degradation for degradation, found in sets.items() if len(found) > 1]:
        raise UserError(f"encoders were tested on different measurements of {mixed[0]}: they cannot be compared")
