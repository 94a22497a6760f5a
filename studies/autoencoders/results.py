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

from studies._rows import ABSENT, difference, over_images, put
from workbench.core.config import UserError
from workbench.metrics import Estimate, mean_interval, spearman
from workbench.metrics.calibration import Calibration, from_plain
from workbench.metrics.ranks import interval_of_counts, rank_correlations

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.experiments.results import StudyResults

AUTOENCODER, DEGRADATION, START = AXES = ("autoencoder", "degradation", "start")
MATCHED, ORACLE, FULL = "snr_match", "oracle_variance", "full"
"""The starts: from where the severity encoder says, from where the true error says, from pure noise."""
ITSELF, COST = "itself", "cost"
ELSEWHERE = "elsewhere"
"""The training of weights that were given: nothing is known of it."""
BESIDE = ("pca", "flow")
"""Autoencoders whose severity encoders get a network beside (`autoencoders.side_features`)."""
LOSSLESS = 60.0
"""PSNR in dB from which nothing is lost: 8-bit images lose more by rounding (58.9 dB, from 12 * 255^2)."""
TOLERANCE = 0.1
"""By how much s2 / var_hat may part from 1 where a prediction is called right."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Itself:
    """An autoencoder without any degradation.

    Attributes:
        psnr, ssim: of each clean image through it; ssim with reflected borders.
        ssim_valid: SSIM of windows within the image; None where it was not measured.
        latents: of the clean latents, as if they were errors of a predicted variance of 1.
        latent_shape: (channel, height, width).
        parameters, encoder_parameters: of the autoencoder, and of the encoder that severity encoders start from.
        trained: on how many images, and in which precision.
        prior_channels: of the network of its prior, at each resolution; empty where nothing was read.
        costs: by operation, seconds and flops an image; empty where not measured.
        where: on what machine, and how many images at once.
    """

    psnr: Array
    ssim: Array
    ssim_valid: Array | None
    latents: Calibration
    latent_shape: tuple[int, ...]
    parameters: int
    encoder_parameters: int
    trained: str
    prior_channels: tuple[int, ...]
    costs: Mapping[str, Mapping[str, float]]
    where: str

    @cached_property
    def ceiling(self) -> Estimate:
        """PSNR of clean images through it, dB."""
        return ceiling_of(self.psnr)


@dataclass(frozen=True)
class Reading:
    """What a severity encoder reads on the degradation that it was trained on.

    Attributes:
        columns: one value per image each: image_id, severity, var_hat, s2, var_factor, start_timestep, oracle_timestep,
            and, unless the results are older than these, the trivial predictors (see `_trivial`).
        calibration: of its errors over all images.
    """

    columns: Mapping[str, Array]
    calibration: Calibration

    def rank(self, truth: str) -> Estimate:
        """Spearman's correlation of var_hat with the true error (s2) or with the level (severity)."""
        return spearman(self.columns["var_hat"], self.columns[truth])


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
        if over not in self.runs:
            return ABSENT
        names = f"starts of {self.autoencoder} on {self.degradation}"
        return mean_interval(difference(self.runs[MATCHED], self.runs[over], "psnr", names))

    @property
    def is_dearer(self) -> bool:
        """Whether the run from pure noise takes fewer evaluations, so that a gain over it is not free."""
        return FULL in self.runs and bool(self.runs[MATCHED]["nfe"].mean() > self.runs[FULL]["nfe"].mean())


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
    def names(self) -> list[str]:
        """The autoencoders."""
        return list(dict.fromkeys(case.autoencoder for case in self.cases))

    @property
    def degradations(self) -> list[str]:
        return list(dict.fromkeys(case.degradation for case in self.cases))

    def readings(self, autoencoder: str) -> dict[str, Reading]:
        """By degradation."""
        mine = [case for case in self.cases if case.autoencoder == autoencoder]
        return {case.degradation: case.reading for case in mine if case.reading is not None}

    def readability(self, autoencoder: str, truth: str = "s2") -> Estimate:
        """Spearman's correlation of var_hat with the truth, mean over degradations."""
        tables = _tables(self.readings(autoencoder), truth)
        return interval_of_counts(lambda counts: _mean_rank(tables, counts), len(tables[0][0]))

    def more_readable(self, a: str, b: str, truth: str = "s2") -> Estimate:
        """By how much a's correlation is above b's; the same images are resampled for both.

        Raises:
            UserError: if they were measured on different images or degradations.
        """
        first, second = self.readings(a), self.readings(b)
        ids = [{tuple(reading.columns["image_id"].tolist()) for reading in one.values()} for one in (first, second)]
        if first.keys() != second.keys() or len(ids[0] | ids[1]) != 1:
            raise UserError(f"{a} and {b} were measured on different images; run the study again")
        tables, others = _tables(first, truth), _tables(second, truth)

        def apart(counts: Array) -> Array:
            return np.asarray(_mean_rank(tables, counts) - _mean_rank(others, counts))

        return interval_of_counts(apart, len(tables[0][0]))

    @cached_property
    def ranks(self) -> dict[str, Estimate]:
        """The readability of each autoencoder that was measured, from the most readable on."""
        ranks = {name: self.readability(name) for name in self.names if self.readings(name)}
        return dict(sorted(ranks.items(), key=lambda item: -item[1].mean))

    @cached_property
    def below_best(self) -> dict[str, Estimate]:
        """By how much the others' readability is below that of the most readable autoencoder."""
        best, *others = self.ranks
        return {name: self.more_readable(best, name) for name in others}

    @property
    def right(self) -> list[str]:
        """The autoencoders whose predicted variance is right within the tolerance on every degradation."""
        return [
            name
            for name in self.ranks
            if all(
                reading.calibration.figures["ratio"].within(1 - TOLERANCE, 1 + TOLERANCE)
                for reading in self.readings(name).values()
            )
        ]

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
                    gains = (_gain_over(high, low, start) for start in (MATCHED, FULL))
                    found.append(Contest(high.autoencoder, low.autoencoder, degradation, *gains))
        return found

    @cached_property
    def losses_to_truth(self) -> dict[str, Estimate]:
        """PSNR lost to a start that knows each image's true error, mean over degradations, by autoencoder, dB."""
        losses = {}
        for name in self.names:
            mine = [case.runs for case in self.cases if case.autoencoder == name and ORACLE in case.runs]
            if mine:
                losses[name] = mean_interval(
                    over_images([runs[ORACLE]["psnr"] - runs[MATCHED]["psnr"] for runs in mine])
                )
        return losses

    def differences(self, a: str, b: str) -> list[str]:
        """In what two autoencoders differ beside themselves and the weights of their priors."""
        first, second = self.itself[a], self.itself[b]
        same = {
            "latents": first.latent_shape == second.latent_shape,
            "prior": first.prior_channels == second.prior_channels,
            "training": first.trained == second.trained != ELSEWHERE,
            "severity encoder": (a in BESIDE) == (b in BESIDE),
        }
        return [what for what, is_same in same.items() if not is_same]


def ceiling_of(psnr: ArrayLike) -> Estimate:
    """The mean PSNR in dB, for which an image counts at most LOSSLESS: so much is the mean where nothing is lost."""
    return mean_interval(np.minimum(np.asarray(psnr, dtype=np.float64), LOSSLESS))


def read(results: "StudyResults") -> AutoencoderResults:
    """What the results hold.

    Raises:
        UserError: without one of the axes, or with cells that cannot be told apart.
    """
    if lacking := [axis for axis in AXES if axis not in results.axes]:
        raise UserError(f"this report needs the axes {', '.join(AXES)}; the results lack {', '.join(lacking)}")
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
        psnr=np.array(one["psnr"]),
        ssim=np.array(one["ssim"]),
        ssim_valid=np.array(one["ssim_valid"]) if "ssim_valid" in one else None,
        latents=from_plain(one["latents"]),
        latent_shape=tuple(one["latent_shape"]),
        parameters=one["parameters"],
        encoder_parameters=one["encoder_parameters"],
        trained=one["trained"],
        prior_channels=tuple(found.get("prior", ())),
        costs=costs,
        where=where,
    )


def _gain_over(one: Case, other: Case, start: str) -> Estimate:
    if not (start in one.runs and start in other.runs):
        return ABSENT
    names = f"{one.autoencoder} and {other.autoencoder} on {one.degradation}"
    return mean_interval(difference(one.runs[start], other.runs[start], "psnr", names))


def _tables(readings: Mapping[str, Reading], truth: str) -> list[tuple[Array, Array]]:
    """(var_hat, truth) on each degradation."""
    return [(reading.columns["var_hat"], reading.columns[truth]) for reading in readings.values()]


def _mean_rank(tables: Sequence[tuple[Array, Array]], counts: Array) -> Array:
    ranks = [rank_correlations([x], y, counts)[0] for x, y in tables]
    return np.asarray(np.mean(ranks, axis=0))
