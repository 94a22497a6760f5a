"""Figures and tables of the autoencoders study."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from studies._rows import ABSENT, means_table, table
from studies._trivial import trivial_table
from studies.autoencoders.results import (
    FULL,
    LOSSLESS,
    MATCHED,
    ORACLE,
    TOLERANCE,
    AutoencoderResults,
    Case,
    ceiling_of,
)
from workbench.metrics import mean_interval, spearman
from workbench.reporting import (
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
RESTORED = ("psnr_degraded", "psnr_decoded", "psnr", "ssim", "ssim_valid", "lpips", "nfe", "flops", "seconds")
"""The columns of a restoration that are shown, where the rows have them."""
ERRORS = {
    "s² / σ̂² (1)": "ratio",
    "ENCE (0)": "ence",
    "kurtosis (3)": "kurtosis",
    "neighbours' correlation (0)": "neighbour_correlation",
    "effective share of elements (1)": "effective_share",
}
"""Figures of a severity encoder's errors by column; in brackets those that SNR matching assumes."""
LATENTS = {
    "spread over channels (0)": "channel_spread",
    "over positions (0)": "position_spread",
    "kurtosis (3)": "kurtosis",
    "neighbours' correlation (0)": "neighbour_correlation",
    "correlation of channels (0)": "channel_correlation",
    "effective share (1)": "effective_share",
}
"""Figures of clean latents by column; in brackets those of pure noise."""
BESIDE = ("pca", "flow")
"""Autoencoders whose severity encoders get a network beside (see `autoencoders.side_features`)."""


def answer(found: AutoencoderResults) -> list[str]:
    """Which makes severity readable, is the prediction right, does a higher ceiling help, what does reading cost."""
    contests, losses = found.contests, found.losses_to_truth
    return WORDS.sentences(
        found=found,
        best=next(iter(found.ranks), None),
        undecided=[readable(name) for name, apart in found.below_best.items() if not apart.low > 0],
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
    ranks = {
        readable(name): {
            "rank, error": rank,
            "below the best": found.below_best.get(name, ""),
            "rank, level": found.readability(name, "severity"),
        }
        for name, rank in found.ranks.items()
    }
    rows = {
        name: {
            "rank, level": spearman(one.columns["var_hat"], one.columns["severity"]),
            **{title: one.calibration.figures[figure] for title, figure in ERRORS.items()},
            "s² / σ̂² after one factor (1)": mean_interval(one.columns["s2"] / one.columns["var_factor"]),
        }
        for name, one in readings.items()
    }
    panels = {
        degradation: {
            name: mine[degradation].calibration for name, mine in found.readings.items() if degradation in mine
        }
        for degradation in found.degradations
    }
    figure = svg(reliability_figure(panels), "Predicted over true error of each bin, by autoencoder and degradation")
    index = "autoencoder, degradation"
    return WORDS.section(
        "reading",
        figure=side_by_side([figure]),
        ranks=table(ranks, "autoencoder", 3, "Spearman's correlation of the prediction, mean over degradations"),
        readings=table(rows, index),
        trivial=trivial_table({name: one.columns for name, one in readings.items()}, index),
    )


def restoration(found: AutoencoderResults) -> Section | None:
    """Restorations from where the severity encoder says, against other starts and other autoencoders."""
    if not found.cases:
        return None
    runs = {_name(case): case.runs[MATCHED] for case in found.cases}
    more: dict[str, list[object]] = {
        "ceiling, dB": [ceiling_of(run["psnr_ceiling"]) for run in runs.values()],
        "gain over the true error's start, dB": [case.gain(ORACLE) for case in found.cases],
        "gain over pure noise, dB": [case.gain(FULL) for case in found.cases],
        "start timestep": [mean_interval(run["start_timestep"]) for run in runs.values()],
        "guidance": [
            f"{float(run['tuned_value'].iloc[0]):g}{' (edge)' if bool(run['at_edge'].any()) else ''}"
            for run in runs.values()
        ],
    }
    contests = {
        f"{readable(one.higher)} over {readable(one.lower)}, {readable(one.degradation)}": {
            "gain, dB": one.gain,
            "from pure noise, dB": one.from_noise,
        }
        for one in found.contests
    }
    caption = "The one with the higher ceiling over the other, same images, one training of each"
    return WORDS.section(
        "restoration",
        restored=means_table(runs, RESTORED, "autoencoder, degradation", more=more),
        contests=table(contests, "two autoencoders", caption=caption) if contests else "",
    )


def itself(found: AutoencoderResults) -> Section | None:
    """What each autoencoder loses, what its latents look like, and what else differs."""
    if not found.itself:
        return None
    rows = {}
    for name, one in found.itself.items():
        variance = one.latents.curves["channel_variance"].mean
        rows[readable(name)] = {
            "ceiling, PSNR in dB": one.ceiling,
            "latents": " x ".join(map(str, one.latent_shape)),
            "variance of channels (1)": f"{number(variance.min(), 2)} to {number(variance.max(), 2)}",
            **{title: one.latents.figures[figure] for title, figure in LATENTS.items()},
            "channels of the prior": ", ".join(map(str, one.prior_channels)),
            "training": one.trained,
            "severity encoder": "small network beside" if name in BESIDE else "from its own encoder",
        }
    return WORDS.section("itself", folded=True, autoencoders=table(rows, "autoencoder"), lossless=LOSSLESS)


def cost(found: AutoencoderResults) -> Section | None:
    """Parameters, time and compute of the parts."""
    if not found.itself:
        return None
    rows = {
        readable(name): {
            "parameters": one.parameters,
            "of its encoder": one.encoder_parameters,
            **{
                f"{part}, {unit}": one.costs[part][quantity] * scale if one.costs else math.nan
                for part in (ENCODING, STEP, DECODING)
                for quantity, unit, scale in (("seconds", "ms", 1e3), ("flops", "GFLOP", 1e-9))
            },
        }
        for name, one in found.itself.items()
    }
    where = list(dict.fromkeys(one.where for one in found.itself.values() if one.where)) or ["no machine"]
    return WORDS.section("cost", folded=True, where=where, costs=table(rows, "autoencoder", 3))


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
        panels, title="PSNR over the ceiling of the autoencoder", x_label="ceiling, dB", y_label="PSNR, dB",
        x_marks={readable(name): x for x, name in lossy}, order=tuple(DRAWN),
    )  # fmt: skip


def _name(case: Case) -> str:
    return f"{readable(case.autoencoder)}, {readable(case.degradation)}"
