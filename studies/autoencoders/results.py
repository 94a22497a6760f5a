"""What the autoencoders study found: each autoencoder by itself, and each on each degradation.

e = z_hat - z0 is the error of the severity encoder's latent, s2 its variance in each image, var_hat the predicted one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pandas import DataFrame

from studies._rows import ABSENT, cells_by, difference, mean_over, require_axes
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.metrics import Estimate, mean_interval
from workbench.metrics.calibration import Calibration, from_plain
from workbench.metrics.ranks import rank_correlations
from workbench.metrics.statistics import intervals_of_counts
from workbench.reporting.verdicts import CALIBRATED, confidence

AXES = ("autoencoder", "degradation", "start")
MATCHED, ORACLE, FULL = "snr_match", "oracle_variance", "full"
"""The starts: where the severity encoder says, where the true error says, and pure noise."""
ITSELF, COST = "itself", "cost"
TRUTHS = ("s2", "severity")
LOSSLESS = 60.0
"""PSNR in dB from which nothing is lost: 8-bit images lose more by rounding (58.9 dB, from 12 * 255^2)."""


class Reading(NamedTuple):
    """What a severity encoder reads on the degradation that it was trained on.

    Attributes:
        columns: image_id, var_hat, s2, var_factor and the trivial predictors of `_trivial`, one row per image.
        calibration: of its errors over all images.
    """

    columns: DataFrame
    calibration: Calibration


@dataclass(frozen=True)
class AutoencoderResults:
    """All of it.

    Attributes:
        itself: by autoencoder, what was measured of it without any degradation (see `study.evidence`).
        runs: rows by image id, of each autoencoder, degradation and start.
        readings: of each autoencoder and degradation.
    """

    itself: Mapping[str, Mapping[str, Any]]
    runs: Mapping[tuple[str, str, str], DataFrame]
    readings: Mapping[tuple[str, str], Reading]

    @cached_property
    def matched(self) -> dict[tuple[str, str], DataFrame]:
        """The runs from where the severity encoder says, of each autoencoder and degradation."""
        return {(name, degradation): rows for (name, degradation, start), rows in self.runs.items() if start == MATCHED}

    @cached_property
    def ceilings(self) -> dict[str, Estimate]:
        """PSNR of clean images through each autoencoder, dB."""
        return {name: ceiling_of(one[ITSELF]["psnr"]) for name, one in self.itself.items()}

    def gain(self, name: str, degradation: str, over: str) -> Estimate:
        """PSNR from where the severity encoder says above that of another start, image by image, dB."""
        other = self.runs.get((name, degradation, over))
        return ABSENT if other is None else _gain(self.matched[name, degradation], other)

    @cached_property
    def contests(self) -> dict[tuple[str, str, str], Estimate]:
        """PSNR that the first autoencoder, of a higher ceiling, gains over the second one on a degradation, dB.

        Raises:
            UserError: if they restored different images.
        """
        return {
            (high, low, degradation): _gain(rows, self.matched[low, degradation])
            for (high, degradation), rows in self.matched.items()
            for low in self.ceilings
            if (low, degradation) in self.matched
            and high in self.ceilings
            and self.ceilings[high].mean > self.ceilings[low].mean
        }

    @cached_property
    def losses_to_truth(self) -> dict[str, Estimate]:
        """PSNR lost to a start that knows each image's true error, mean over degradations, by autoencoder, dB."""
        lost = {
            (name, degradation): rows["psnr"] - self.matched[name, degradation]["psnr"]
            for (name, degradation, start), rows in self.runs.items()
            if start == ORACLE and (name, degradation) in self.matched
        }
        return {name: mean_over(loss for key, loss in lost.items() if key[0] == name) for name, _ in lost}

    @cached_property
    def ranks(self) -> dict[str, dict[str, Estimate]]:
        """By autoencoder, Spearman's correlation of var_hat, mean over degradations, from the most readable on.

        With each of `TRUTHS` and, by the name of another autoencoder, by how much that with s2 is above the other's.
        All are of the same resampled images.

        Raises:
            UserError: if autoencoders were measured on different images or degradations.
        """
        by_name: dict[str, dict[str, Reading]] = {}
        for (name, degradation), reading in self.readings.items():
            by_name.setdefault(name, {})[degradation] = reading
        images = {tuple(reading.columns["image_id"]) for reading in self.readings.values()}
        if len(images) > 1 or len({tuple(mine) for mine in by_name.values()}) > 1:
            raise UserError("severity encoders were measured on different images; run the study again")
        if not images:
            return {}

        def figures(counts: NDArray[np.float64]) -> NDArray[np.float64]:
            by_reading = [[_ranks(one.columns, counts) for one in mine.values()] for mine in by_name.values()]
            ranks = np.mean(by_reading, axis=1)  # (autoencoder, truth, resample)
            error = ranks[:, 0]
            return np.concatenate([ranks, error[:, None] - error], axis=1).reshape(-1, len(counts))

        found = iter(intervals_of_counts(figures, len(images.pop())))
        ranks = {name: {key: next(found) for key in (*TRUTHS, *by_name)} for name in by_name}
        return dict(sorted(ranks.items(), key=lambda item: -item[1]["s2"].mean))

    @property
    def right(self) -> list[str]:
        """The autoencoders whose predicted variance is calibrated within the tolerance on every degradation."""
        wrong = {name for (name, _), one in self.readings.items() if confidence(one.calibration) != CALIBRATED}
        return [name for name in self.ranks if name not in wrong]


def ceiling_of(psnr: ArrayLike) -> Estimate:
    """The mean PSNR in dB, for which an image counts at most LOSSLESS: so much is the mean where nothing is lost."""
    return mean_interval(np.minimum(np.asarray(psnr, dtype=np.float64), LOSSLESS))


def read(results: StudyResults) -> AutoencoderResults:
    """What the results hold.

    Raises:
        UserError: without one of the axes, or with cells that cannot be told apart.
    """
    require_axes(results, AXES)
    runs = cells_by(results.frame, lambda row: (str(row[AXES[0]]), str(row[AXES[1]]), str(row[AXES[2]])))
    readings = {}
    for name, degradation, start in runs:
        reading = results.evidence.get(name, {}).get("encoders", {}).get(degradation)
        if start == MATCHED and reading is not None:
            columns = DataFrame({column: values for column, values in reading.items() if column != "calibration"})
            readings[name, degradation] = Reading(columns, from_plain(reading["calibration"]))
    return AutoencoderResults({name: one for name, one in results.evidence.items() if one[ITSELF]}, runs, readings)


def _gain(a: DataFrame, b: DataFrame) -> Estimate:
    return mean_interval(difference(a, b, "psnr", "restorations"))


def _ranks(columns: DataFrame, counts: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Spearman's correlation of var_hat with each of `TRUTHS` in each resample."""
    predicted, *truths = (columns[name].to_numpy(float) for name in ("var_hat", *TRUTHS))
    return rank_correlations(truths, predicted, counts)
