"""What the calibration study found: each severity encoder on each degradation.

ẑ is the encoder's latent, e = ẑ - z0 its error, σ̂² (`var_hat`) the variance that the encoder predicts, s² the true one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from pandas import DataFrame, Series

from studies._rows import ABSENT, paired, require_axes
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.metrics import Estimate, mean_interval, severity_bins, violation_rate, violation_rates
from workbench.metrics.calibration import ALL, Calibration, bins_for, ence_of, from_plain
from workbench.reporting import readable
from workbench.severity.calibration.conformal import promised_range
from workbench.stages.measure.measure_calibration import bin_name, bound_column, variance_column

AXES = ("autoencoder", "encoder", "degradation")
SMALLEST_BIN = 20
"""Images below which a bin's mean says nothing."""
VARIANCES = {
    "var_hat": "as predicted",
    variance_column("factor"): "one factor",
    variance_column("temperature"): "temperature",
    variance_column("isotonic"): "isotonic",
}
"""What the columns of variances are called here."""


class Start(StrEnum):
    """How images are restored, as the evidence and the page call it."""

    REAL = "real error"  # where the true variance says, from the encoder's latent
    GAUSSIAN = "Gaussian error"  # at the same start, from z0 plus white noise of that variance
    WHITE = "white noise"  # where the predicted variance says; so do all that follow
    CHANNEL = "noise by channel"
    MMSE = "mmse channel"
    RECALIBRATED = "recalibrated"
    CAUTIOUS = "risk of 10 %"


@dataclass(frozen=True)
class Promise:
    """How often s² exceeds the bound of a risk, and where that lies in 95 of 100 trials if the promise is kept."""

    rate: Estimate
    low: float
    high: float

    @property
    def kept(self) -> str:
        """Fewer violations than chance allows keep it too: the bound is looser than it need be."""
        if self.rate.mean > self.high:
            return "broken"
        return "kept" if self.rate.mean >= self.low else "kept, more than promised"


@dataclass(frozen=True)
class Pair:
    """One severity encoder on one degradation.

    Attributes:
        rows: one per image, in float64 (see `stages.measure.measure_calibration`).
        groups: the calibration of all images (`ALL`) and of each bin of severity by its name; empty where mismatched.
        restorations: by start, indexed by image id; empty where there are none.
        num_bins: equal bins of severity on [0, 1].
    """

    autoencoder: str
    encoder: str
    degradation: str
    rows: DataFrame
    groups: Mapping[str, Calibration]
    restorations: Mapping[str, DataFrame]
    num_bins: int

    @property
    def psnr(self) -> DataFrame:
        """Of each image (rows) restored from each start (columns), dB.

        Raises:
            UserError: if starts are of different images.
        """
        return paired(self.restorations, "psnr")

    def ratio(self, variance: str) -> Series:
        """s² over a column of variances, one value per image."""
        ratio: Series = self.rows["s2"] / self.rows[variance]
        return ratio

    def ratio_by_severity(self, variance: str) -> list[Estimate]:
        """Its mean in each bin of severity."""
        bins = severity_bins(self.rows["severity"], self.num_bins)
        chosen = [self.ratio(variance)[bins == place] for place in range(self.num_bins)]
        return [mean_interval(one) if len(one) >= SMALLEST_BIN else ABSENT for one in chosen]

    def ence(self, variance: str) -> Estimate:
        """By what part the error of bins of images by a variance differs from it."""
        return ence_of(self.rows[variance].to_numpy(), self.rows["square"].to_numpy(), bins_for(len(self.rows)))

    @cached_property
    def promises(self) -> dict[float, Promise]:
        """By the risk that the rows hold a bound for."""
        scores, s2 = int(self.rows["num_scores"].iloc[0]), self.rows["s2"]
        return {
            risk: Promise(violation_rate(s2, self.rows[bound_column(risk)]), *promised_range(risk, scores, len(s2)))
            for risk in (float(name.removeprefix("bound_")) for name in self.rows.columns if name.startswith("bound_"))
        }

    def violations_by_severity(self, risk: float) -> list[Estimate]:
        """How often s² exceeds the bound in each bin of severity."""
        return violation_rates(self.rows["s2"], self.rows[bound_column(risk)], self.rows["severity"], self.num_bins)


@dataclass(frozen=True)
class CalibrationResults:
    """Every encoder on every degradation that was measured."""

    pairs: Sequence[Pair]

    @cached_property
    def own(self) -> dict[str, Pair]:
        """The encoders on what they were trained on, by what they are called on the page."""
        matched = [pair for pair in self.pairs if pair.groups]
        several = len({pair.autoencoder for pair in matched}) > 1
        return {(f"{readable(p.autoencoder)}, " if several else "") + readable(p.degradation): p for p in matched}

    @property
    def whole(self) -> dict[str, Calibration]:
        """Those of `own` over all severities."""
        return {name: pair.groups[ALL] for name, pair in self.own.items()}

    @property
    def strangers(self) -> list[Pair]:
        """The encoders on other degradations."""
        return [pair for pair in self.pairs if pair.encoder != pair.degradation]

    @property
    def variances(self) -> dict[str, str]:
        """Those of `VARIANCES` that all pairs have."""
        return {column: name for column, name in VARIANCES.items() if all(column in pair.rows for pair in self.pairs)}

    @property
    def recalibrated(self) -> str:
        """The last of them, which bounds are made of."""
        return [*self.variances][-1]

    @property
    def bin_names(self) -> list[str]:
        num_bins = next(iter(self.own.values())).num_bins
        return [bin_name(place, num_bins) for place in range(num_bins)]

    @property
    def risk(self) -> float:
        """The middle risk, of which is spoken where one has to do."""
        risks = sorted(self.pairs[0].promises)
        return risks[(len(risks) - 1) // 2]

    @cached_property
    def gaussian_gains(self) -> dict[str, Estimate]:
        """PSNR gained by a Gaussian error of the same variance over the real one, at the same start, dB."""
        told = {name: pair.psnr for name, pair in self.own.items() if pair.restorations}
        return {name: mean_interval(psnr[Start.GAUSSIAN] - psnr[Start.REAL]) for name, psnr in told.items()}


def read(results: StudyResults) -> CalibrationResults:
    """Every encoder on every degradation that the results hold.

    Raises:
        UserError: for results with other axes of several values, or one encoder measured on different measurements.
    """
    require_axes(results, AXES, alone=True)
    measured = results.frame.groupby("degradation", observed=True)["measurement_set"].nunique()
    if mixed := [str(degradation) for degradation, sets in measured.items() if sets > 1]:
        raise UserError(f"encoders were tested on different measurements of {mixed[0]}: they cannot be compared")
    pairs = []
    for key, rows in results.frame.groupby(list(AXES), observed=True, sort=False):
        autoencoder, encoder, degradation = map(str, key)
        found = results.evidence.get(evidence_name(autoencoder, degradation), {}) if encoder == degradation else {}
        numbers = rows.select_dtypes("number").astype(float)
        groups = {group: from_plain(one) for group, one in found.get("calibration", {}).items()}
        starts = found.get("restorations", {})
        restorations = {start: DataFrame(columns).set_index("image_id") for start, columns in starts.items()}
        num_bins = found.get("num_severity_bins", 5)  # as many as there were before results said it
        pairs.append(Pair(autoencoder, encoder, degradation, numbers, groups, restorations, num_bins))
    return CalibrationResults(pairs)


def evidence_name(autoencoder: str, degradation: str) -> str:
    """Under which name the evidence holds what is known of a matched encoder."""
    return f"{autoencoder}, {degradation}"
