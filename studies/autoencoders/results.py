"""The autoencoders study's results: each autoencoder by itself, and each on each degradation.

e = z_hat - z0 is the error of the severity encoder's latent, s2 its variance in each image, var_hat the predicted one.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies._rows import ABSENT, difference, over_images, put, require_axes
from workbench.core.config import UserError
from workbench.metrics import Estimate, mean_interval
from workbench.metrics.calibration import Calibration, from_plain
from workbench.metrics.ranks import rank_correlations
from workbench.metrics.statistics import interval_of_counts

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.experiments.results import StudyResults

AUTOENCODER, DEGRADATION, START = AXES = ("autoencoder", "degradation", "start")
MATCHED, ORACLE, FULL = "snr_match", "oracle_variance", "full"
"""The starts: from where the severity encoder says, from where the true error says, from pure noise."""
ITSELF, COST = "itself", "cost"
LOSSLESS = 60.0
"""PSNR in dB from which nothing is lost: 8-bit images lose more by rounding (58.9 dB, from 12 * 255^2)."""
TOLERANCE = 0.1
"""By how much s2 / var_hat may part from 1 where a prediction is called right."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Itself:
    """An autoencoder without any degradation.

    Attributes:
        ceiling: PSNR of clean images through it, dB.
        latents: of the clean latents, as if they were errors of a predicted variance of 1.
        latent_shape: (channel, height, width).
        parameters, encoder_parameters: of the autoencoder, and of the encoder that severity encoders start from.
        trained: on how many images, and in which precision.
        prior_channels: of the network of its prior, at each resolution; empty where nothing was read.
        costs: by operation, seconds and flops per image; empty where not measured.
        where: on what machine, and how many images at once.
    """

    ceiling: Estimate
    latents: Calibration
    latent_shape: Sequence[int]
    parameters: int
    encoder_parameters: int
    trained: str
    prior_channels: Sequence[int]
    costs: Mapping[str, Mapping[str, float]]
    where: str


@dataclass(frozen=True)
class Reading:
    """What a severity encoder reads on the degradation that it was trained on.

    Attributes:
        columns: one value per image each: image_id, var_hat, s2, var_factor and the trivial predictors of `_trivial`,
            of which the severity is one.
        calibration: of its errors over all images.
    """

    columns: Mapping[str, Array]
    calibration: Calibration

    @property
    def is_right(self) -> bool:
        """Whether the predicted variance is right within the tolerance."""
        return bool(self.calibration.figures["ratio"].within(1 - TOLERANCE, 1 + TOLERANCE))


@dataclass(frozen=True)
class Case:
    """One autoencoder on one degradation.

    Attributes:
        runs: by start; rows are indexed by image id, in its order.
        reading: None where it was not measured.
    """

    autoencoder: str
    degradation: str
    runs: "Mapping[str, DataFrame]"
    reading: Reading | None

    def gain(self, over: str) -> Estimate:
        """PSNR from where the severity encoder says above that from another start, image by image, dB."""
        return _gain(self.runs[MATCHED], self.runs.get(over), f"starts of {self.autoencoder} on {self.degradation}")


@dataclass(frozen=True)
class Contest:
    """Two autoencoders on one degradation, from where their severity encoders say.

    Attributes:
        higher, lower: by their ceilings.
        gain: in PSNR, of the one with the higher ceiling over the other, image by image, dB.
        from_noise: the same from pure noise, where neither has a severity encoder in it; absent if not measured.
    """

    higher: str
    lower: str
    degradation: str
    gain: Estimate
    from_noise: Estimate


@dataclass(frozen=True)
class AutoencoderResults:
    """All of it; `cases` have been restored from where the severity encoder says, `itself` is by autoencoder."""

    itself: Mapping[str, Itself]
    cases: Sequence[Case]

    @property
    def degradations(self) -> list[str]:
        return list(dict.fromkeys(case.degradation for case in self.cases))

    @cached_property
    def readings(self) -> dict[str, dict[str, Reading]]:
        """By autoencoder and degradation."""
        found: dict[str, dict[str, Reading]] = {}
        for case in self.cases:
            if case.reading is not None:
                found.setdefault(case.autoencoder, {})[case.degradation] = case.reading
        return found

    def readability(self, autoencoder: str, truth: str = "s2") -> Estimate:
        """Spearman's correlation of var_hat with the truth, mean over degradations."""
        mine = list(self.readings[autoencoder].values())
        return interval_of_counts(lambda counts: _mean_rank(mine, truth, counts), len(mine[0].columns["image_id"]))

    def more_readable(self, a: str, b: str) -> Estimate:
        """By how much a's readability is above b's; the same images are resampled for both.

        Raises:
            UserError: if they were measured on different images or degradations.
        """
        first, second = self.readings[a], self.readings[b]
        readings = (list(first.values()), list(second.values()))
        ids = {tuple(reading.columns["image_id"].tolist()) for mine in readings for reading in mine}
        if first.keys() != second.keys() or len(ids) != 1:
            raise UserError(f"{a} and {b} were measured on different images; run the study again")

        def apart(counts: Array) -> Array:
            mine, other = (_mean_rank(one, "s2", counts) for one in readings)
            return mine - other

        return interval_of_counts(apart, len(ids.pop()))

    @cached_property
    def ranks(self) -> dict[str, Estimate]:
        """The readability of each autoencoder that was measured, from the most readable on."""
        ranks = {name: self.readability(name) for name in self.readings}
        return dict(sorted(ranks.items(), key=lambda item: -item[1].mean))

    @cached_property
    def below_best(self) -> dict[str, Estimate]:
        """By how much the others' readability is below that of the most readable autoencoder."""
        names = list(self.ranks)
        return {name: self.more_readable(names[0], name) for name in names[1:]}

    @property
    def right(self) -> list[str]:
        """The autoencoders whose predicted variance is right within the tolerance on every degradation."""
        return [name for name, mine in self.readings.items() if all(reading.is_right for reading in mine.values())]

    @cached_property
    def contests(self) -> list[Contest]:
        """Every two autoencoders of different ceilings on every degradation.

        Raises:
            UserError: if they restored different images.
        """
        ceiling = {name: one.ceiling.mean for name, one in self.itself.items()}
        found = []
        for degradation in self.degradations:
            mine = [case for case in self.cases if case.degradation == degradation and case.autoencoder in ceiling]
            ranked = sorted(mine, key=lambda case: ceiling[case.autoencoder])
            for low, high in itertools.combinations(ranked, 2):
                if ceiling[high.autoencoder] > ceiling[low.autoencoder]:
                    names = f"{high.autoencoder} and {low.autoencoder} on {degradation}"
                    gains = (_gain(high.runs.get(start), low.runs.get(start), names) for start in (MATCHED, FULL))
                    found.append(Contest(high.autoencoder, low.autoencoder, degradation, *gains))
        return found

    @cached_property
    def losses_to_truth(self) -> dict[str, Estimate]:
        """PSNR lost to a start that knows each image's true error, mean over degradations, by autoencoder, dB."""
        losses: dict[str, list[Series]] = {}
        for case in self.cases:
            if ORACLE in case.runs:
                loss = case.runs[ORACLE]["psnr"] - case.runs[MATCHED]["psnr"]
                losses.setdefault(case.autoencoder, []).append(loss)
        return {name: mean_interval(over_images(mine)) for name, mine in losses.items()}


def ceiling_of(psnr: ArrayLike) -> Estimate:
    """The mean PSNR in dB, for which an image counts at most LOSSLESS: so much is the mean where nothing is lost."""
    return mean_interval(np.minimum(np.asarray(psnr, dtype=np.float64), LOSSLESS))


def read(results: "StudyResults") -> AutoencoderResults:
    """What the results hold.

    Raises:
        UserError: without one of the axes, or with cells that cannot be told apart.
    """
    require_axes(results, AXES)
    runs: dict[tuple[str, str], dict[str, DataFrame]] = {}
    for _, rows in results.frame.groupby("cell", sort=False):
        autoencoder, degradation, start = key = tuple(str(rows[axis].iloc[0]) for axis in AXES)
        mine = runs.setdefault((autoencoder, degradation), {})
        put(mine, start, rows.set_index("image_id").sort_index(), ", ".join(key))
    cases = []
    for (autoencoder, degradation), mine in runs.items():
        reading = results.evidence.get(autoencoder, {}).get("encoders", {}).get(degradation)
        if MATCHED in mine:
            cases.append(Case(autoencoder, degradation, mine, None if reading is None else _reading(reading)))
    return AutoencoderResults({name: _itself(one) for name, one in results.evidence.items() if one[ITSELF]}, cases)


def _reading(found: Mapping[str, Any]) -> Reading:
    columns = {name: np.array(values) for name, values in found.items() if name != "calibration"}
    return Reading(columns, from_plain(found["calibration"]))


def _itself(found: Mapping[str, Any]) -> Itself:
    one, costs = found[ITSELF], dict(found[COST])
    where = costs.pop("where", "")
    return Itself(
        ceiling=ceiling_of(one["psnr"]),
        latents=from_plain(one["latents"]),
        **{name: one[name] for name in ("latent_shape", "parameters", "encoder_parameters", "trained")},
        prior_channels=found.get("prior", ()),
        costs=costs,
        where=where,
    )


def _gain(a: "DataFrame | None", b: "DataFrame | None", names: str) -> Estimate:
    """PSNR of a over b, image by image, dB; absent without one of them."""
    return ABSENT if a is None or b is None else mean_interval(difference(a, b, "psnr", names))


def _mean_rank(readings: Sequence[Reading], truth: str, counts: Array) -> Array:
    """Spearman's correlation of var_hat with the truth in each resample, mean over readings."""
    ranks = [rank_correlations([one.columns["var_hat"]], one.columns[truth], counts)[0] for one in readings]
    return np.asarray(np.mean(ranks, axis=0))
