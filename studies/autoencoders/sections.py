"""Figures and tables of the autoencoders study."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from studies._rows import ABSENT, has_column, over_images
from studies._tables import table
from studies._trivial import trivial_table, trivial_text
from studies.autoencoders.results import (
    BESIDE,
    FULL,
    LOSSLESS,
    MATCHED,
    ORACLE,
    TOLERANCE,
    AutoencoderResults,
    Case,
    ceiling_of,
)
from workbench.metrics import mean_interval
from workbench.reporting import (
    QUANTITIES,
    Line,
    MainFigure,
    Section,
    Words,
    column_estimate,
    curves,
    number,
    readable,
    side_by_side,
    svg,
)
from workbench.reporting.calibration import reliability_figure
from workbench.stages.measure.measure_cost import DECODING, ENCODING, STEP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))
DRAWN = {"restored": (MATCHED, "psnr"), "from pure noise": (FULL, "psnr"), "decoded": (MATCHED, "psnr_decoded")}
"""The lines over the ceiling: start and column."""
LPIPS = "LPIPS (less is better)"


def answer(found: AutoencoderResults) -> list[str]:
    """Which makes severity readable, is the prediction right, does a higher ceiling help, what does reading cost."""
    contests, losses = found.contests, found.losses_to_truth
    return WORDS.sentences(
        found=found,
        best=next(iter(found.ranks), None),
        undecided=[readable(name) for name, apart in found.below_best.items() if not apart.low > 0]
        if found.ranks
        else [],
        num_contests=len(contests),
        better=sum(contest.gain.low > 0 for contest in contests),
        worse=sum(contest.gain.high < 0 for contest in contests),
        loser=max(losses, key=lambda name: losses[name].mean, default=None),
        tolerance=100 * TOLERANCE,
    )


def main_figure(found: AutoencoderResults) -> MainFigure:
    """PSNR over the ceiling of the autoencoder."""
    caption = "The ceiling is the PSNR of clean images through an autoencoder; one that loses nothing is not drawn."
    return MainFigure(_ceiling_figure(found), "PSNR over the ceiling of each autoencoder, by degradation", caption)


def example(found: AutoencoderResults) -> str | None:
    """The first autoencoder, from where its severity encoder says."""
    return next((str(case.runs[MATCHED]["cell"].iloc[0]) for case in found.cases), None)


def reading(found: AutoencoderResults) -> Section | None:
    """Does the predicted variance follow the error and the level, and is it right?"""
    readings = {_name(case): case.reading for case in found.cases if case.reading is not None}
    if not readings:
        return None
    by_autoencoder = {
        readable(name): {
            "rank, error": rank,
            "below the best": found.below_best.get(name, ""),
            "rank, level": found.readability(name, "severity"),
        }
        for name, rank in found.ranks.items()
    }
    rows = {}
    for name, one in readings.items():
        figures, floors = one.calibration.figures, one.calibration.floors
        rows[name] = {
            "rank, error": one.rank("s2"),
            "rank, level": one.rank("severity"),
            "s² of ẑ": mean_interval(one.columns["s2"]),
            "s² / σ̂² (1)": figures["ratio"],
            "after one factor": mean_interval(one.columns["s2"] / one.columns["var_factor"]),
            "ENCE (0)": figures["ence"],
            "by chance": floors["ence"],
            "kurtosis (3)": figures["kurtosis"],
            "neighbours' correlation (0)": figures["neighbour_correlation"],
            "effective elements": figures["effective_elements"],
            "share (1)": figures["effective_share"],
        }
    panels = {
        degradation: {
            case.autoencoder: case.reading.calibration
            for case in found.cases
            if case.degradation == degradation and case.reading is not None
        }
        for degradation in found.degradations
    }
    figure = svg(reliability_figure(panels), "Predicted over true error of each bin, by autoencoder and degradation")
    columns = {name: one.columns for name, one in readings.items()}
    index = "autoencoder, degradation"
    return WORDS.section(
        "reading",
        figure=side_by_side([figure]),
        ranks=table(
            by_autoencoder, 3, "Spearman's correlation of the prediction, mean over degradations", "autoencoder"
        ),
        readings=table(rows, {"effective elements": 0, "ENCE (0)": 3}, index=index),
        trivial=trivial_text(columns) + trivial_table(columns, index),
    )


def itself(found: AutoencoderResults) -> Section | None:
    """What each autoencoder loses, and what its latents look like."""
    if not found.itself:
        return None
    ssim = "ssim_valid" if all(one.ssim_valid is not None for one in found.itself.values()) else "ssim"
    ceiling_ssim = f"ceiling, {QUANTITIES[ssim].label}"
    rows = {}
    for name, one in found.itself.items():
        figures, variance = one.latents.figures, one.latents.curves["channel_variance"].mean
        rows[readable(name)] = {
            "ceiling, PSNR in dB": one.ceiling,
            ceiling_ssim: mean_interval(getattr(one, ssim)),
            "variance of channels (1)": f"{number(variance.min(), 2)} to {number(variance.max(), 2)}",
            "spread over channels (0)": figures["channel_spread"],
            "over positions (0)": figures["position_spread"],
            "kurtosis (3)": figures["kurtosis"],
            "neighbours' correlation (0)": figures["neighbour_correlation"],
            "correlation of channels (0)": figures["channel_correlation"],
            "effective share (1)": figures["effective_share"],
        }
    autoencoders = table(rows, {ceiling_ssim: 3}, index="autoencoder")
    return WORDS.section("itself", folded=True, autoencoders=autoencoders, lossless=LOSSLESS)


def restoration(found: AutoencoderResults) -> Section | None:
    """Restorations from each start, beside the ceiling and what is decoded without diffusion; LPIPS where measured."""
    if not found.cases:
        return None
    runs = [case.runs[MATCHED] for case in found.cases]
    ssim = "ssim_valid" if all(has_column(run, "ssim_valid") for run in runs) else "ssim"
    perceptual = any(has_column(run, "lpips") for run in runs)
    rows = {}
    for case, run in zip(found.cases, runs, strict=True):
        lpips = {LPIPS: column_estimate(run, "lpips") if has_column(run, "lpips") else ABSENT} if perceptual else {}
        rows[_name(case)] = {
            "degraded, dB": column_estimate(run, "psnr_degraded"),
            "decoded, no diffusion, dB": column_estimate(run, "psnr_decoded"),
            "restored, dB": column_estimate(run, "psnr"),
            QUANTITIES[ssim].label: column_estimate(run, ssim),
            **lpips,
            "gain over the true error's start, dB": case.gain(ORACLE),
            "gain over pure noise, dB": case.gain(FULL),
            "ceiling, dB": ceiling_of(run["psnr_ceiling"]),
            "NFE": column_estimate(run, "nfe"),
            "start timestep": mean_interval(run["start_timestep"]),
            "by the true error": mean_interval(run["oracle_timestep"]),
            "guidance": f"{float(run['tuned_value'].iloc[0]):g}{' (edge)' if bool(run['at_edge'].any()) else ''}",
        }
    contests = {
        f"{readable(one.higher)} over {readable(one.lower)}, {readable(one.degradation)}": {
            "gain, dB": one.gain,
            "from pure noise, dB": one.from_noise,
            "differ in": ", ".join(found.differences(one.higher, one.lower)) or "nothing else",
        }
        for one in found.contests
    }
    decimals = {QUANTITIES[ssim].label: 3, LPIPS: 3, "NFE": 1, "start timestep": 0, "by the true error": 0}
    caption = "The one with the higher ceiling over the other, same images, one training of each"
    return WORDS.section(
        "restoration",
        dearer=[_name(case) for case in found.cases if case.is_dearer],
        restored=table(rows, decimals, index="autoencoder, degradation"),
        contests=table(contests, 2, caption, "two autoencoders") if contests else "",
    )


def cost(found: AutoencoderResults) -> Section | None:
    """Parameters, time and compute of the parts, and of a whole restoration."""
    if not found.itself:
        return None
    rows = {}
    for name, one in found.itself.items():
        parts = {
            f"{part}, {unit}": one.costs[part][quantity] * scale if one.costs else math.nan
            for part in (ENCODING, STEP, DECODING)
            for quantity, unit, scale in (("seconds", "ms", 1e3), ("flops", "GFLOP", 1e-9))
        }
        runs = [case.runs[MATCHED] for case in found.cases if case.autoencoder == name]
        whole = {
            f"restoration, {unit}": mean_interval(over_images([run[column] * scale for run in runs]))
            if runs
            else ABSENT
            for column, unit, scale in (("nfe", "NFE", 1.0), ("flops", "GFLOP", 1e-9), ("seconds", "ms", 1e3))
        }
        counts = {"parameters": one.parameters, "of its encoder": one.encoder_parameters}
        rows[readable(name)] = {**counts, **parts, **whole}
    decimals = dict.fromkeys(parts, 3) | {"parameters": 0, "of its encoder": 0, "restoration, ms": 0}
    where = list(dict.fromkeys(one.where for one in found.itself.values() if one.where)) or ["no machine"]
    return WORDS.section("cost", folded=True, where=where, costs=table(rows, decimals, index="autoencoder"))


def confounds(found: AutoencoderResults) -> Section | None:
    """What else differs between autoencoders."""
    if not found.itself:
        return None
    rows = {
        readable(name): {
            "latents": " x ".join(map(str, one.latent_shape)),
            "channels of the prior": ", ".join(map(str, one.prior_channels)),
            "training": one.trained,
            "severity encoder": "small network beside" if name in BESIDE else "from its own encoder",
        }
        for name, one in found.itself.items()
    }
    return WORDS.section("confounds", folded=True, facts=table(rows, index="autoencoder"))


def _ceiling_figure(found: AutoencoderResults) -> "Figure":
    """PSNR over the ceiling, one panel per degradation; what loses nothing has no place on the axis."""
    lossy = sorted((x, name) for name, one in found.itself.items() if (x := one.ceiling.mean) < LOSSLESS)
    cases = {(case.degradation, case.autoencoder): case for case in found.cases}
    # a place without a figure, so that the last autoencoder's name has room
    room = [lossy[-1][0] + max(0.2 * (lossy[-1][0] - lossy[0][0]), 0.5)] if lossy else []
    panels: dict[str, dict[str, Line]] = {}
    for degradation in found.degradations:
        drawn = [(x, cases[degradation, name].runs) for x, name in lossy if (degradation, name) in cases]
        panels[degradation] = {}
        for line, (start, column) in DRAWN.items():
            there = [(x, column_estimate(runs[start], column)) for x, runs in drawn if start in runs]
            places, figures = [x for x, _ in there], [figure for _, figure in there]
            panels[degradation][line] = Line([*places, *room], [*figures, *(ABSENT for _ in room)])
    return curves(
        panels,
        title="PSNR over the ceiling of the autoencoder",
        x_label="ceiling, dB",
        y_label="PSNR, dB",
        x_marks={readable(name): x for x, name in lossy},
        order=tuple(DRAWN),
    )


def _name(case: Case) -> str:
    return f"{readable(case.autoencoder)}, {readable(case.degradation)}"
