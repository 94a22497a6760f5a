"""Whether severity encoders know how wrong they are: rank, calibration, and where the starts land."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from studies._robustness_figures import grid_map
from studies._robustness_grid import Grid, Pair, read_grid
from studies._rows import ABSENT, over_images
from studies._trivial import GAIN, trivial_gain, trivial_of, trivial_table, trivial_text
from workbench.metrics import Estimate, mean_interval, paired_difference, spearman
from workbench.reporting import Section, number, paragraph, readable, side_by_side, spoken

if TYPE_CHECKING:
    from pandas import Series

    from workbench.results import StudyResults


def severity_matrix(results: "StudyResults") -> Section:
    """Whether each encoder ranks and calibrates the error of its own latents, and where its starts land."""
    grid = read_grid(results)
    start_error = grid.matrix(lambda cell: paired_difference(cell["start_timestep"], cell["oracle_timestep"]))
    figures = [
        grid_map(
            grid,
            grid.matrix(lambda cell: spearman(cell["var_hat"], cell["severity"])),
            "Rank correlation with severity",
            span=1,
            scale="diverging",
            red="low",
        ),
        grid_map(
            grid,
            grid.matrix(lambda cell: spearman(cell["var_hat"], cell["s2"])),
            "Rank correlation with the true error",
            span=1,
            scale="diverging",
            red="low",
        ),
        grid_map(
            grid,
            grid.matrix(lambda cell: mean_interval(cell["variance_ratio"])),
            "True over predicted variance, mean",
            scale="ratio",
        ),
        grid_map(grid, start_error, "Start timestep minus the oracle's", 0, "diverging", red="low"),
    ]
    if grid.has("bias"):
        bias = grid.matrix(lambda cell: mean_interval(cell["bias"]))
        figures.append(grid_map(grid, bias, "Mean error of the latent (bias)", 3, "diverging"))
    text = paragraph(
        "An encoder predicts the variance of the error of its own latent ẑ; only a study knows the variance that the "
        "error really has. The prediction's rank correlation (Spearman, over the test images) with severity and with "
        "the true variance says whether it knows which image is worse. The true variance over the predicted one says "
        "whether it knows how bad: 1 is honest, above 1 (red) over-confident, below 1 (blue) over-cautious."
    ) + paragraph(
        "Reverse diffusion counts its timesteps down to 0, and the predicted variance decides where it joins. The "
        "oracle's start uses the true variance instead. A start below the oracle's (negative, red) joins too late: it "
        "adds too little noise and trusts ẑ too much, so errors of ẑ stay in the image. A start above it (positive, "
        "blue) joins too early: it throws away what ẑ had right and spends more evaluations."
    )
    text += paragraph(f"{_rank_summary(grid)}{_start_summary(grid, start_error)}") + _fallback_note(grid)
    return Section("Does the encoder know how wrong it is?", text + side_by_side(figures) + _trivial(grid))


def _trivial(grid: Grid) -> Markup:
    """Every encoder against trivial predictors, and the matched ones with all figures."""
    matched = {readable(d): grid.frames[e, d] for e, d in grid.matched_pairs() if trivial_of(grid.frames[e, d])}
    if not matched:
        return Markup()
    gains = grid.matrix(lambda cell: trivial_gain(cell) if trivial_of(cell) else ABSENT)
    title = f"Rank correlation with the true error: {GAIN}"
    map_ = grid_map(grid, gains, title, span=1, scale="diverging", red="low")
    said = paragraph(_trivial_summary(grid, gains))
    return trivial_text(matched) + said + side_by_side([map_]) + trivial_table(matched, "matched encoder on")


def _trivial_summary(grid: Grid, gains: Sequence[Sequence[Estimate]]) -> str:
    """How many matched and mismatched encoders are shown to beat the best trivial predictor, or to do worse."""
    found = {(e, d): gains[i][j] for i, e in enumerate(grid.encoders) for j, d in enumerate(grid.degradations)}
    parts = []
    for name, pairs in (("matched", grid.matched_pairs()), ("mismatched", grid.mismatched_pairs())):
        known = [found[pair] for pair in pairs if not math.isnan(found[pair].low)]
        better, worse = sum(gain.low > 0 for gain in known), sum(gain.high < 0 for gain in known)
        parts.append(
            f"of {len(known)} pairs with a {name} encoder it ranks images better on {better} and worse on {worse}"
        )
    return f"Beyond their intervals, {'; '.join(parts)}."


def severity_sentence(grid: Grid, pairs: Sequence[Pair]) -> str:
    """How far the encoders of these pairs are from knowing their errors, against the matched ones."""
    ratio, matched_ratio = _mean_ratio(grid, pairs), _mean_ratio(grid, grid.matched_pairs())
    error = mean_interval(over_images([_start_error(grid, *pair) for pair in pairs]))
    return (
        "It predicts the error of its own first estimate of the image, which decides where reverse diffusion starts: "
        f"the true error has {number(ratio.mean, 1)} times the variance predicted on average (matched encoders: "
        f"{number(matched_ratio.mean, 1)}), and reverse diffusion starts {early_or_late(error)}."
    )


def _mean_ratio(grid: Grid, pairs: Sequence[Pair]) -> Estimate:
    cells = [grid.frames[pair] for pair in pairs]
    return mean_interval(over_images([cell["variance_ratio"] for cell in cells]))


def _mean_rank(grid: Grid, pairs: Sequence[Pair]) -> float:
    """Mean over the pairs' rank correlations, those that are defined."""
    cells = [grid.frames[pair] for pair in pairs]
    known = [rank for cell in cells if not math.isnan(rank := spearman(cell["var_hat"], cell["s2"]).mean)]
    return float(np.mean(known)) if known else math.nan


def _start_error(grid: Grid, encoder: str, degradation: str) -> "Series":
    cell = grid.frames[encoder, degradation]
    error: Series = cell["start_timestep"] - cell["oracle_timestep"]
    return error


def early_or_late(error: Estimate) -> str:
    """A start error in words: below the oracle is too late, above too early."""
    if error.high < 0:
        words = "too late (it trusts the encoder too much)"
    elif error.low > 0:
        words = "too early (it trusts the encoder too little)"
    elif math.isnan(error.low):
        words = "too late" if error.mean < 0 else "too early"
    else:
        return f"neither early nor late, {spoken(error, 0)} timesteps from the oracle's"
    return f"{spoken(error if error.mean > 0 else error.scaled(-1), 0)} timesteps {words}"


def _rank_summary(grid: Grid) -> str:
    """The mean rank correlations; empty without mismatched encoders."""
    pairs = grid.mismatched_pairs()
    if not pairs:
        return ""
    mismatched, matched = _mean_rank(grid, pairs), _mean_rank(grid, grid.matched_pairs())
    return (
        f"The rank correlation with the true error is {number(mismatched, 2)} on average over the mismatched encoders, "
        f"{number(matched, 2)} over the matched ones. "
    )


def _start_summary(grid: Grid, errors: Sequence[Sequence[Estimate]]) -> str:
    cells = [
        (f"{readable(encoder)} on {readable(degradation)}", errors[i][j])
        for i, encoder in enumerate(grid.encoders)
        for j, degradation in enumerate(grid.degradations)
    ]
    late = [name for name, error in cells if error.high < 0]
    early = [name for name, error in cells if error.low > 0]
    known = sum(not math.isnan(error.low) for _, error in cells)
    text = f"Of {known} cells with an interval, {len(late)} start too late and {len(early)} too early"
    worst = [(name, error) for name, error in cells if not math.isnan(error.mean)]
    if not worst:
        return text + "."
    name, error = max(worst, key=lambda item: abs(item[1].mean))
    return f"{text}; the farthest from the oracle is {name}, {early_or_late(error)}."


def _fallback_note(grid: Grid) -> Markup:
    if not grid.has("fell_back"):
        return Markup()
    share = 100 * float(np.concatenate([cell["fell_back"] for cell in grid.frames.values()]).mean())
    if share == 0:
        return Markup()
    return paragraph(
        f"In {share:.1f} % of all restorations the predicted error was so large that no timestep fits it; these "
        "started from pure noise."
    )
