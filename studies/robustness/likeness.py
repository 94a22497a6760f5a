"""How alike degradations are in latent space, and what encoders lose between them.

A loss is PSNR against the matched encoder on the same measurement, in dB; positive is worse.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studies._rows import intervals, lost, over_images
from workbench.core.config import UserError
from workbench.metrics import (
    Estimate,
    MantelResult,
    Moments,
    average_linkage,
    frechet_matrix,
    mantel_test,
    radial_counts,
    sampling_distance,
    spectral_matrix,
)
from workbench.stages.measure.latent_statistics import NUM_BINS, read_statistics

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Matrix = NDArray[np.float64]
Pair = tuple[str, str]
"""(encoder trained on, degradation tested on)"""

EVIDENCE = "likeness"
"""Under which name the results hold what `likeness_evidence` gives."""
NUM_SEVERITY_BINS = 5
"""Bins of severity in figures: two of the statistics' tenths each, and some 25 of 128 images."""
BREAK_DB = 0.5
"""An encoder breaks where it is shown (lower end of the interval) to lose more than this."""
MIN_OBJECTS = 4
"""A Mantel test on fewer degradations cannot reach p = 0.05: its smallest p is 1 / n!."""
ALPHA = 0.05


@dataclass(frozen=True)
class Likeness:
    """All matrices are (n, n) in the order of `names`.

    Attributes:
        names: the degradations, at least two.
        distances: by name. Fréchet distances between the latents of degraded images come first: the one named before
            any result was seen. Then those between the errors e = E(y) - z0 (mean and covariance), log-spectral
            distances between the radial spectra of e (their level apart, dB), and, where known, Fréchet distances
            between the matched severity encoders' errors.
        num_images: how many images the distances rest on.
        sampling: (n,) how far apart two independent sets of so many latents of one degradation would lie.
        by_severity: (bins, n, n) the first distance within equal bins of severity.
        sampling_by_severity: (bins,) `sampling` within these bins, the largest of the degradations.
        cells: (encoder, degradation) -> one row per image, indexed by image id.
    """

    names: tuple[str, ...]
    distances: Mapping[str, Matrix]
    num_images: int
    sampling: Matrix
    by_severity: Matrix
    sampling_by_severity: Matrix
    cells: "Mapping[Pair, DataFrame]"

    @property
    def latents(self) -> Matrix:
        """The distance that was named beforehand."""
        return next(iter(self.distances.values()))

    @functools.cached_property
    def lost(self) -> "dict[Pair, Series]":
        """Mismatched (encoder, degradation) -> PSNR lost, one value per image; cells without results are left out."""
        return {
            (e, d): lost(self.cells[e, d], self.cells[d, d], "psnr", f"{e} and {d} on {d}")
            for e, d in itertools.permutations(self.names, 2)
            if (e, d) in self.cells and (d, d) in self.cells
        }

    @functools.cached_property
    def start_error(self) -> "dict[Pair, Series]":
        """The same pairs' start timestep minus the oracle's: positive is too early, negative too late."""
        return {pair: self.cells[pair]["start_timestep"] - self.cells[pair]["oracle_timestep"] for pair in self.lost}

    @functools.cached_property
    def loss(self) -> Matrix:
        """Mean loss, encoders x degradations; 0 for matched ones, NaN where there are no results."""
        matrix = np.full((len(self.names), len(self.names)), math.nan)
        np.fill_diagonal(matrix, 0)
        for pair, values in self.lost.items():
            matrix[self.place(pair)] = float(values.mean())
        return matrix

    def by_bin(self, values: "Mapping[Pair, Series]") -> dict[Pair, list[Estimate]]:
        """Mean and interval in each bin of severity; NaN in empty bins."""
        parts = {
            (pair, k): series[self._bins(pair[1]) == k]
            for pair, series in values.items()
            for k in range(NUM_SEVERITY_BINS)
        }
        found = dict(zip(parts, intervals(list(parts.values())), strict=True))
        return {pair: [found[pair, k] for k in range(NUM_SEVERITY_BINS)] for pair in values}

    def mean_by_bin(self, values: "Mapping[Pair, Series]") -> list[Estimate]:
        """The same over images: each image's mean over the pairs counts once."""
        bins = range(NUM_SEVERITY_BINS)
        return intervals([over_images([series[self._bins(d) == k] for (_, d), series in values.items()]) for k in bins])

    def _bins(self, degradation: str) -> NDArray[np.int64]:
        severity = self.cells[degradation, degradation]["severity"].to_numpy()
        return (severity * NUM_SEVERITY_BINS).astype(int).clip(max=NUM_SEVERITY_BINS - 1)

    @functools.cached_property
    def tests(self) -> dict[str, MantelResult]:
        """Mantel's test of the loss against each distance; empty for few degradations, or where losses are missing."""
        if len(self.names) < MIN_OBJECTS or not np.isfinite(self.loss).all():
            return {}
        found = {name: mantel_test(distances, self.loss) for name, distances in self.distances.items()}
        return {name: test for name, test in found.items() if not math.isnan(test.r)}

    def corrected(self, test: MantelResult) -> float:
        """Bonferroni: two-sided p times the number of distances that were tried."""
        return min(1.0, len(self.distances) * test.p_two_sided)

    def place(self, pair: Pair) -> tuple[int, int]:
        """A pair's row and column."""
        return self.names.index(pair[0]), self.names.index(pair[1])


@dataclass(frozen=True)
class TrainingChoice:
    """Degradations to train on, by position: the worst loss that is left, where it is, and the mean over all tested."""

    chosen: tuple[int, ...]
    worst: float
    worst_at: int
    mean: float


def training_choices(loss: Matrix, most: int = 3) -> list[TrainingChoice]:
    """For k = 1 ... `most`, the k training families that minimise the worst loss over all tested ones.

    `loss` is (encoders, degradations) with 0 on its diagonal; each tested degradation counts the least loss among the
    chosen. All choices are tried, so none is better; k goes no further than n - 1. Empty where a loss is unknown.
    """
    n = len(loss)
    if not np.isfinite(loss).all():
        return []
    found = []
    for k in range(1, min(most, n - 1) + 1):
        candidates = []
        for chosen in itertools.combinations(range(n), k):
            left = loss[list(chosen)].min(0)
            candidates.append(TrainingChoice(chosen, float(left.max()), int(left.argmax()), float(left.mean())))
        found.append(min(candidates, key=lambda choice: (choice.worst, choice.mean)))
    return found


def groups(distances: Matrix) -> list[list[int]]:
    """Objects that average linkage joins before the largest step in its heights; one group where there is no step."""
    from scipy.cluster.hierarchy import fcluster

    tree = average_linkage(distances)
    heights = np.concatenate([[0.0], tree[:, 2]])
    step = int(np.diff(heights).argmax())
    labels = fcluster(tree, heights[step] * (1 + 1e-9), criterion="distance")
    return [[int(i) for i in np.flatnonzero(labels == label)] for label in dict.fromkeys(labels)]


def first_break(line: Sequence[Estimate]) -> int | None:
    """The first bin of severity where the loss is shown to be larger than `BREAK_DB`."""
    return next((k for k, estimate in enumerate(line) if estimate.low > BREAK_DB), None)


def likeness_evidence(folders: Mapping[str, Path]) -> dict[str, Any]:
    """What `likeness_of` needs beside rows, as JSON could hold it, from the folders of `LatentStatistics`.

    Raises:
        UserError: for fewer than two degradations, or statistics that rest on different numbers of images.
    """
    if len(folders) < 2:
        raise UserError(f"likeness needs the statistics of at least two degradations, got: {', '.join(folders)}")
    step = NUM_BINS // NUM_SEVERITY_BINS
    bins = [range(first, first + step) for first in range(0, NUM_BINS, step)]
    latents, latents_by_bin, errors, encoder_errors, spectra, counts = [], [], [], [], [], np.ones(0, dtype=np.int64)
    for folder in folders.values():  # read one by one: the tenths' covariances are large, their sums are not
        found = read_statistics(folder)
        latents.append(found["latent"].moments())
        latents_by_bin.append([found["latent"].moments(chosen) for chosen in bins])
        errors.append(found["error"].moments())
        spectra.append(found["error"].spectrum())
        counts = radial_counts(*found["error"].latent_shape[1:])
        if "encoder_error" in found:
            encoder_errors.append(found["encoder_error"].moments())
    if len({moments.num for moments in latents}) > 1:
        numbers = ", ".join(f"{name} {moments.num}" for name, moments in zip(folders, latents, strict=True))
        raise UserError(f"latent statistics rest on different numbers of images: {numbers}")
    columns = list(zip(*latents_by_bin, strict=True))
    return {
        "names": list(folders),
        "num_images": latents[0].num,
        "latents": frechet_matrix(latents).tolist(),
        "errors": frechet_matrix(errors).tolist(),
        "spectra": spectral_matrix(spectra, counts).tolist(),
        "sampling": [sampling_distance(moments, moments.num) for moments in latents],
        "by_severity": [frechet_matrix(column).tolist() for column in columns],
        "sampling_by_severity": [_largest_sampling(column) for column in columns],
        "encoder_errors": frechet_matrix(encoder_errors).tolist() if len(encoder_errors) == len(folders) else None,
    }


def likeness_of(cells: "Mapping[Pair, DataFrame]", evidence: Mapping[str, Any]) -> Likeness:
    """From the cells' rows and `likeness_evidence`: of degradations that have statistics and were tested on."""
    tested = {degradation for _, degradation in cells}
    places = [place for place, name in enumerate(evidence["names"]) if name in tested]

    def among(matrix: Sequence[Any]) -> Matrix:
        """(..., n, n) of those compared."""
        return np.array(matrix, dtype=np.float64)[..., places, :][..., places]

    named = {
        "Fréchet distance of latents": evidence["latents"],
        "Fréchet distance of errors": evidence["errors"],
        "spectral distance of errors, dB": evidence["spectra"],
        "Fréchet distance of encoders' errors": evidence["encoder_errors"],
    }
    return Likeness(
        names=tuple(evidence["names"][place] for place in places),
        distances={name: among(matrix) for name, matrix in named.items() if matrix is not None},
        num_images=evidence["num_images"],
        sampling=np.array(evidence["sampling"])[places],
        by_severity=among(evidence["by_severity"]),
        sampling_by_severity=np.array(evidence["sampling_by_severity"]),
        cells=cells,
    )


def _largest_sampling(sets: Sequence[Moments]) -> float:
    return max(sampling_distance(moments, moments.num) for moments in sets)
