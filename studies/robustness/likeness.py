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

from studies._rows import lost, over_images
from workbench.core.config import UserError
from workbench.metrics import (
    Estimate,
    MantelResult,
    Moments,
    average_linkage,
    frechet_matrix,
    mantel_test,
    mean_interval,
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
        matrix = np.where(np.eye(len(self.names)), 0.0, math.nan)
        for pair, values in self.lost.items():
            matrix[self.place(pair)] = values.mean()
        return matrix

    def by_bin(self, values: "Mapping[Pair, Series]") -> dict[Pair, list[Estimate]]:
        """Mean and interval in each bin of severity; NaN in empty bins."""
        return {pair: [mean_interval(part) for part in self._in_bins(pair, of)] for pair, of in values.items()}

    def mean_by_bin(self, values: "Mapping[Pair, Series]") -> list[Estimate]:
        """The same over images: each image's mean over the pairs counts once."""
        parts = [self._in_bins(pair, of) for pair, of in values.items()]
        return [mean_interval(over_images(of_bin)) for of_bin in zip(*parts, strict=True)]

    def _in_bins(self, pair: Pair, values: "Series") -> "list[Series]":
        severity = self.cells[pair[1], pair[1]]["severity"]
        bins = (severity * NUM_SEVERITY_BINS).astype(int).clip(upper=NUM_SEVERITY_BINS - 1)
        return [values[bins == k] for k in range(NUM_SEVERITY_BINS)]

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
    latents, by_bin, errors, encoder_errors, spectra, counts = [], [], [], [], [], np.ones(0, dtype=np.int64)
    for folder in folders.values():  # read one by one: the tenths' covariances are large, their sums are not
        found = read_statistics(folder)
        latents.append(found["latent"].moments())
        by_bin.append([found["latent"].moments(range(k, k + step)) for k in range(0, NUM_BINS, step)])
        errors.append(found["error"].moments())
        spectra.append(found["error"].spectrum())
        counts = radial_counts(*found["error"].latent_shape[1:])
        encoder_errors += [found["encoder_error"].moments()] if "encoder_error" in found else []
    if len({moments.num for moments in latents}) > 1:
        numbers = ", ".join(f"{name} {moments.num}" for name, moments in zip(folders, latents, strict=True))
        raise UserError(f"latent statistics rest on different numbers of images: {numbers}")
    columns = list(zip(*by_bin, strict=True))
    return {
        "names": list(folders),
        "num_images": latents[0].num,
        "latents": frechet_matrix(latents).tolist(),
        "errors": frechet_matrix(errors).tolist(),
        "spectra": spectral_matrix(spectra, counts).tolist(),
        "sampling": _sampling(latents),
        "by_severity": [frechet_matrix(column).tolist() for column in columns],
        "sampling_by_severity": [max(_sampling(column)) for column in columns],
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


def _sampling(sets: Sequence[Moments]) -> list[float]:
    """How far apart two independent sets of as many images as each would lie."""
    return [sampling_distance(moments, moments.num) for moments in sets]
