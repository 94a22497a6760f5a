"""The calibration study's results: each severity encoder on each degradation.

ẑ is the encoder's latent, e = ẑ - z0 its error, σ̂² (`var_hat`) the variance that the encoder predicts, s² the true one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from studies._rows import ABSENT
from workbench.core.config import UserError
from workbench.metrics import (
    Estimate,
    mean_interval,
    paired_difference,
    severity_bins,
    violation_rate,
    violation_rates,
)
from workbench.metrics.calibration import ALL, Calibration, bins_for, ence_of, from_plain
from workbench.reporting import readable
from workbench.severity.calibration.conformal import promised_range
from workbench.stages.measure.measure_calibration import bin_name, bound_column, variance_column

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.experiments.results import StudyResults

AXES = ("autoencoder", "encoder", "degradation")
"""The axes that the report knows."""
SMALLEST_BIN = 20
"""Images below which a bin's mean says nothing."""
TOLERANCE = 0.1
"""By how much s² / σ̂² may part from 1 where a prediction is called right."""
SIGNIFICANT = 0.05
"""Below which p the errors are said not to be Gaussian."""

REAL, GAUSSIAN = "real error", "Gaussian error"
WHITE, CHANNEL = "white noise", "noise by channel"
MMSE, RECALIBRATED, CAUTIOUS = "mmse channel", "recalibrated", "risk of 10 %"
"""How restorations start: from the true variance with each error; from the predicted one with each noise, or with
white noise as the other channel has it, from the recalibrated variance, or from its conformal bound."""
RESTORED = ("image_id", "psnr", "start_timestep", "nfe")
"""The columns that are read of restorations, one value per image each."""

OWN = "var_hat"
VARIANCES = {
    OWN: "as predicted",
    variance_column("factor"): "one factor",
    variance_column("temperature"): "temperature",
    variance_column("isotonic"): "isotonic",
}
"""What the columns of variances are called here."""

Kept = Literal["kept", "kept, more than promised", "broken"]


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
class Level:
    """How a variance compares with the true one: s² / variance over all images and in each bin of severity, ENCE."""

    ratio: Estimate
    bins: Sequence[Estimate]
    ence: Estimate


@dataclass(frozen=True)
class Promise:
    """How often s² lies above the bound of a risk, and where that lies in 95 of 100 trials if the promise is kept."""

    rate: Estimate
    low: float
    high: float

    @property
    def kept(self) -> Kept:
        """Violations rarer than chance allows keep it too: the bound is looser than it need be."""
        if self.rate.mean > self.high:
            return "broken"
        return "kept" if self.rate.mean >= self.low else "kept, more than promised"


@dataclass(frozen=True)
class Pair:
    """One severity encoder on one degradation.

    Attributes:
        rows: one per image (see `stages.measure_calibration`).
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
        """Of each bin of severity, from mild to severe, by what its line is called."""
        return {f"severity {name}": found for name, found in self.groups.items() if name != ALL}

    @property
    def bin_names(self) -> list[str]:
        return [bin_name(i, self.num_bins) for i in range(self.num_bins)]

    @cached_property
    def levels(self) -> dict[str, Level]:
        """By the column of the variance, of those that the rows hold."""
        return {column: self._level(column) for column in VARIANCES if column in self.rows}

    def _level(self, column: str) -> Level:
        ratio = self._values("s2") / self._values(column)
        place = severity_bins(self._values("severity"), self.num_bins)
        chosen = [ratio[place == i] for i in range(self.num_bins)]
        return Level(
            mean_interval(ratio),
            [mean_interval(one) if one.size >= SMALLEST_BIN else ABSENT for one in chosen],
            ence_of(self._values(column), self._values("square"), bins_for(len(self.rows))),
        )

    @cached_property
    def promises(self) -> dict[float, Promise]:
        """By the risk that the rows hold a bound for."""
        risks = [float(name.removeprefix("bound_")) for name in self.rows.columns if name.startswith("bound_")]
        num_scores = int(self.rows["num_scores"].iloc[0]) if risks else 0
        return {
            risk: Promise(
                violation_rate(self._values("s2"), self._values(bound_column(risk))),
                *promised_range(risk, num_scores, len(self.rows)),
            )
            for risk in risks
        }

    def violations_by_severity(self, risk: float) -> list[Estimate]:
        """How often s² lies above the bound in each bin of severity."""
        s2, severity = self._values("s2"), self._values("severity")
        return violation_rates(s2, self._values(bound_column(risk)), severity, self.num_bins)

    def _values(self, column: str) -> NDArray[np.float64]:
        return self.rows[column].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class CalibrationResults:
    """Every encoder on every degradation that was measured."""

    pairs: Sequence[Pair]

    @cached_property
    def own(self) -> dict[str, Pair]:
        """The encoders on what they were trained on, by what they are called on the page."""
        matched = [pair for pair in self.pairs if pair.is_matched and pair.groups]
        several = len({pair.autoencoder for pair in matched}) > 1
        return {(f"{readable(p.autoencoder)}, " if several else "") + readable(p.degradation): p for p in matched}

    @property
    def strangers(self) -> list[Pair]:
        """The encoders on other degradations."""
        return [pair for pair in self.pairs if not pair.is_matched]

    @property
    def restored(self) -> dict[str, Pair]:
        """Those of `own` that images were restored with."""
        return {name: pair for name, pair in self.own.items() if pair.restorations}

    @property
    def variances(self) -> dict[str, str]:
        """What the columns are called that all pairs have: as predicted, then the recalibrations."""
        return {column: name for column, name in VARIANCES.items() if all(column in pair.rows for pair in self.pairs)}

    @property
    def recalibrated(self) -> str:
        """The column of the last recalibration, which bounds are made of."""
        return [*self.variances][-1]

    @property
    def risk(self) -> float:
        """The middle risk, of which is spoken where one has to do."""
        risks = sorted(self.pairs[0].promises)
        return risks[(len(risks) - 1) // 2]

    @property
    def not_gaussian(self) -> int:
        """Encoders whose standardised errors part from the Gaussian of their own mean and variance."""
        return sum(pair.whole.p_values["shape_ks"] < SIGNIFICANT for pair in self.own.values())

    @property
    def right(self) -> int:
        """Encoders whose predicted variance is right within the tolerance, as far as the intervals tell."""
        ratios = [pair.whole.figures["ratio"] for pair in self.own.values()]
        return sum(ratio.within(1 - TOLERANCE, 1 + TOLERANCE) is True for ratio in ratios)

    @property
    def kept(self) -> list[Kept]:
        """What became of each promise to a matched encoder."""
        return [promise.kept for pair in self.own.values() for promise in pair.promises.values()]

    @property
    def kept_elsewhere(self) -> list[Kept]:
        """What became of the middle risk on other degradations."""
        return [pair.promises[self.risk].kept for pair in self.strangers]

    @cached_property
    def gaussian_gains(self) -> dict[str, Estimate]:
        """PSNR gained by a Gaussian error of the same variance over the real one, at the same start, dB."""
        return {
            name: pair.restorations[GAUSSIAN].gain_over(pair.restorations[REAL]) for name, pair in self.restored.items()
        }


def read(results: "StudyResults") -> CalibrationResults:
    """Every encoder on every degradation that the results hold.

    Raises:
        UserError: for results with other axes of several values, or one encoder measured on different measurements.
    """
    others = [axis for axis, labels in results.axes.items() if axis not in AXES and len(labels) > 1]
    if others or not set(AXES) <= {*results.axes}:
        raise UserError(
            f"this report needs the axes {', '.join(AXES)} and no other of several values; "
            f"the results have: {', '.join(results.axes)}"
        )
    measured = results.frame.groupby("degradation", observed=True)["measurement_set"].nunique()
    if mixed := [str(degradation) for degradation, sets in measured.items() if sets > 1]:
        raise UserError(f"encoders were tested on different measurements of {mixed[0]}: they cannot be compared")
    pairs = []
    for key, rows in results.frame.groupby(list(AXES), observed=True, sort=False):
        autoencoder, encoder, degradation = map(str, key)
        found = results.evidence.get(evidence_name(autoencoder, degradation), {}) if encoder == degradation else {}
        groups = {group: from_plain(one) for group, one in found.get("calibration", {}).items()}
        restorations = {
            start: Restoration(*(np.array(columns[c]) for c in RESTORED))
            for start, columns in found.get("restorations", {}).items()
        }
        num_bins = found.get("num_severity_bins", 5)  # as many as there were before results said it
        pairs.append(Pair(autoencoder, encoder, degradation, rows, groups, restorations, num_bins))
    return CalibrationResults(pairs)


def evidence_name(autoencoder: str, degradation: str) -> str:
    """Under which name the evidence holds what is known of a matched encoder."""
    return f"{autoencoder}, {degradation}"
