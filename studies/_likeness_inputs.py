"""What the likeness of degradations is read from: distances between their latents, and what encoders lose."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from studies._robustness_grid import Pair
from workbench.config import UserError
from workbench.metrics import (
    Estimate,
    Moments,
    frechet_matrix,
    mean_interval,
    radial_counts,
    sampling_distance,
    spectral_matrix,
)
from workbench.stages.latent_statistics import NUM_BINS, read_statistics

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Matrix = NDArray[np.float64]

NUM_SEVERITY_BINS = 5
"""Bins of severity in figures: two of the statistics' tenths each, and some 25 of 128 images."""


@dataclass(frozen=True)
class LikenessInputs:
    """What the likeness of degradations is read from. All matrices are (n, n) in the order of `names`.

    Attributes:
        names: the degradations, at least two.
        latents: Fréchet distances between the latents of degraded images.
        errors: Fréchet distances between the errors e = E(y) - z0 (mean and covariance).
        spectra: log-spectral distances between the radial spectra of e, their level apart, dB.
        frame: one row per image and cell with encoder, degradation, image_id, severity, psnr, start_timestep and
            oracle_timestep. Several rows of an image in a cell (encoders of several seeds) are averaged.
        num_images: how many images the distances rest on.
        sampling: (n,) how far apart two independent sets of so many latents of one degradation would lie.
        by_severity: (bins, n, n) `latents` within equal bins of severity; None: not known.
        sampling_by_severity: (bins,) `sampling` within these bins, the largest of the degradations.
        encoder_errors: Fréchet distances between the matched severity encoders' errors; None: not known.
    """

    names: tuple[str, ...]
    latents: Matrix
    errors: Matrix
    spectra: Matrix
    frame: "DataFrame"
    num_images: int
    sampling: Matrix
    by_severity: Matrix | None = None
    sampling_by_severity: Matrix | None = None
    encoder_errors: Matrix | None = None

    def __post_init__(self) -> None:
        n = len(self.names)
        if n < 2 or len(set(self.names)) < n:
            raise UserError(f"likeness needs at least two different degradations, got: {', '.join(self.names)}")
        for name in ("latents", "errors", "spectra", "encoder_errors"):
            matrix = getattr(self, name)
            if matrix is not None and matrix.shape != (n, n):
                raise UserError(f"likeness: {name} is {matrix.shape}, expected {n} x {n} for {', '.join(self.names)}")
        needed = {"encoder", "degradation", "image_id", "severity", "psnr", "start_timestep", "oracle_timestep"}
        if missing := needed - set(self.frame.columns):
            raise UserError(f"likeness: the results lack {', '.join(sorted(missing))}")

    @functools.cached_property
    def cells(self) -> "dict[Pair, DataFrame]":
        """(encoder, degradation) -> one row an image, indexed by image id and severity, in their order."""
        columns = ["psnr", "start_timestep", "oracle_timestep"]
        rows = self.frame[self.frame["encoder"].isin(self.names) & self.frame["degradation"].isin(self.names)]
        return {
            (str(encoder), str(degradation)): cell.groupby(["image_id", "severity"])[columns].mean()
            for (encoder, degradation), cell in rows.groupby(["encoder", "degradation"], observed=True)
        }

    @functools.cached_property
    def lost(self) -> "dict[Pair, Series]":
        """Mismatched (encoder, degradation) -> PSNR lost, one value per image; cells without results are left out.

        Raises:
            UserError: if an encoder and the matched one were tested on different images.
        """
        found: dict[Pair, Series] = {}
        for encoder, degradation in self.mismatched():
            mine, matched = self.cells.get((encoder, degradation)), self.cells.get((degradation, degradation))
            if mine is None or matched is None:
                continue
            if not mine.index.equals(matched.index):
                raise UserError(
                    f"{encoder} and {degradation} were tested on different images of {degradation}; run the study again"
                )
            found[encoder, degradation] = matched["psnr"] - mine["psnr"]
        return found

    @functools.cached_property
    def loss(self) -> Matrix:
        """Mean loss, encoders x degradations; 0 for matched ones, NaN where there are no results."""
        matrix = np.zeros((len(self.names), len(self.names)))
        for pair in self.mismatched():
            matrix[self.place(pair)] = float(self.lost[pair].mean()) if pair in self.lost else math.nan
        return matrix

    @functools.cached_property
    def lost_by_severity(self) -> dict[Pair, list[Estimate]]:
        """`lost` in each bin of severity."""
        return {pair: binned(values) for pair, values in self.lost.items()}

    @functools.cached_property
    def start_error_by_severity(self) -> dict[Pair, list[Estimate]]:
        """`start_error` of the mismatched pairs in each bin of severity."""
        return {pair: binned(self.start_error(pair)) for pair in self.lost}

    @functools.cached_property
    def mean_by_severity(self) -> tuple[list[Estimate], list[Estimate]]:
        """Loss and start error in each bin, over images: each image's mean over the mismatched pairs counts once."""
        import pandas as pd

        def over_pairs(cells: "list[Series]") -> list[Estimate]:
            return binned(pd.concat(cells).groupby(level=["image_id", "severity"]).mean())

        return over_pairs(list(self.lost.values())), over_pairs([self.start_error(pair) for pair in self.lost])

    def mismatched(self) -> list[Pair]:
        """All ordered pairs (encoder, degradation) of different degradations."""
        return list(itertools.permutations(self.names, 2))

    def start_error(self, pair: Pair) -> "Series":
        """Start timestep minus the oracle's, one value per image: positive is too early, negative too late."""
        cell = self.cells[pair]
        error: Series = cell["start_timestep"] - cell["oracle_timestep"]
        return error

    def place(self, pair: Pair) -> tuple[int, int]:
        """A pair's row and column."""
        return self.names.index(pair[0]), self.names.index(pair[1])

    def distances(self) -> dict[str, Matrix]:
        """The distances by their names in figures; the first is the one named before any result was seen."""
        found = {
            "Fréchet distance of latents": self.latents,
            "Fréchet distance of errors": self.errors,
            "spectral distance of errors, dB": self.spectra,
        }
        if self.encoder_errors is not None:
            found["Fréchet distance of encoders' errors"] = self.encoder_errors
        return found


def binned(values: "Series") -> list[Estimate]:
    """Mean and interval in each bin of severity of values indexed by (image id, severity); NaN in empty bins."""
    severity = values.index.get_level_values("severity").to_numpy()
    index = (severity * NUM_SEVERITY_BINS).astype(int).clip(max=NUM_SEVERITY_BINS - 1)
    return [mean_interval(values.to_numpy()[index == k]) for k in range(NUM_SEVERITY_BINS)]


def likeness_evidence(folders: Mapping[str, Path]) -> dict[str, Any]:
    """What `likeness_inputs` needs beside rows, as JSON could hold it.

    `folders` are those of `LatentStatistics`, by degradation.

    The fields are those of `LikenessInputs`, matrices as nested lists in the order of `folders`.

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


def likeness_inputs(frame: "DataFrame", evidence: Mapping[str, Any]) -> LikenessInputs:
    """The inputs from the cells' rows and `likeness_evidence`.

    Degradations that have statistics and were tested on are compared, in the order of the evidence.

    Raises:
        UserError: if fewer than two are left.
    """
    tested = set(frame["degradation"].astype(str))
    places = [place for place, name in enumerate(evidence["names"]) if name in tested]
    if len(places) < 2:
        raise UserError(
            f"likeness needs at least two degradations with statistics and results; statistics: "
            f"{', '.join(evidence['names'])}; results: {', '.join(sorted(tested))}"
        )

    def among(matrix: Sequence[Any]) -> Matrix:
        """(..., n, n) of those compared."""
        return np.array(matrix, dtype=np.float64)[..., places, :][..., places]

    return LikenessInputs(
        names=tuple(evidence["names"][place] for place in places),
        latents=among(evidence["latents"]),
        errors=among(evidence["errors"]),
        spectra=among(evidence["spectra"]),
        frame=frame,
        num_images=evidence["num_images"],
        sampling=np.array(evidence["sampling"])[places],
        by_severity=among(evidence["by_severity"]),
        sampling_by_severity=np.array(evidence["sampling_by_severity"]),
        encoder_errors=None if evidence["encoder_errors"] is None else among(evidence["encoder_errors"]),
    )


def _largest_sampling(sets: Sequence[Moments]) -> float:
    return max(sampling_distance(moments, moments.num) for moments in sets)
