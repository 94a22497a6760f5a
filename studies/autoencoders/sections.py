"""Figures and tables of the autoencoders study."""

import math
from pathlib import Path

from studies._rows import ABSENT, means_table, table
from studies._trivial import trivial_table
from studies.autoencoders.results import COST, FULL, ITSELF, LOSSLESS, MATCHED, ORACLE, AutoencoderResults, ceiling_of
from workbench.metrics import mean_interval
from workbench.metrics.calibration import from_plain
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
from workbench.reporting.verdicts import TOLERANCE, columns
from workbench.stages.measure.measure_cost import DECODING, ENCODING, STEP

WORDS = Words(Path(__file__).with_name("templates"))
DRAWN = {"restored": (MATCHED, "psnr"), "from pure noise": (FULL, "psnr"), "decoded": (MATCHED, "psnr_decoded")}
"""The lines over the ceiling: start and column."""
RESTORED = (
    "psnr_degraded",
    "psnr_decoded",
    "psnr",
    "ssim",
    "ssim_valid",
    "lpips",
    "dists",
    "niqe",
    "nfe",
    "flops",
    "seconds",
)
"""The columns of a restoration that are shown, where the rows have them."""
BESIDE = ("pca", "flow")
"""Autoencoders whose severity encoders get a network beside (see `autoencoders.side_features`)."""
INDEX = "autoencoder, degradation"


def answer(found: AutoencoderResults) -> list[str]:
    """Which makes severity readable, is the prediction right, does a higher ceiling help, what does reading cost."""
    losses, gains = found.losses_to_truth, found.contests.values()
    best, *others = found.ranks or [""]
    return WORDS.sentences(
        found=found,
        best=best,
        undecided=[readable(name) for name in others if not found.ranks[best][name].low > 0],
        better=sum(gain.low > 0 for gain in gains),
        worse=sum(gain.high < 0 for gain in gains),
        loser=max(losses, key=lambda name: losses[name].mean, default=None),
        tolerance=100 * TOLERANCE,
    )


def main_figure(found: AutoencoderResults) -> MainFigure:
    """PSNR over the ceiling, one panel per degradation; an autoencoder that loses nothing has no place on the axis."""
    lossy = sorted((x, name) for name, one in found.ceilings.items() if (x := one.mean) < LOSSLESS)
    # a place without a figure, so that the last autoencoder's name has room
    room = [lossy[-1][0] + max(0.2 * (lossy[-1][0] - lossy[0][0]), 0.5)] if lossy else []

    def line(degradation: str, start: str, column: str) -> Line:
        runs = [found.runs.get((name, degradation, start)) for _, name in lossy]
        figures = [ABSENT if rows is None else column_estimate(rows, column) for rows in runs]
        return Line([*(x for x, _ in lossy), *room], [*figures, *(ABSENT for _ in room)])

    panels = {d: {name: line(d, *what) for name, what in DRAWN.items()} for _, d in found.matched}
    figure = curves(
        panels, title="PSNR over the ceiling of the autoencoder", x_label="ceiling, dB", y_label="PSNR, dB",
        x_marks={readable(name): x for x, name in lossy}, order=tuple(DRAWN),
    )  # fmt: skip
    caption = "The ceiling is the PSNR of clean images through an autoencoder; one that loses nothing is not drawn."
    return MainFigure(figure, "PSNR over the ceiling of each autoencoder, by degradation", caption)


def example(found: AutoencoderResults) -> str | None:
    """The first autoencoder, from where its severity encoder says."""
    return next((str(rows["cell"].iloc[0]) for rows in found.matched.values()), None)


def reading(found: AutoencoderResults) -> Section | None:
    """Does the predicted variance follow the error and the severity, and is it right?"""
    if not found.readings:
        return None
    best = next(iter(found.ranks))
    ranks = {
        readable(name): {
            "rank, error": mine["s2"],
            "below the best": found.ranks[best][name] if name != best else "",
            "rank, severity": mine["severity"],
        }
        for name, mine in found.ranks.items()
    }
    figures = ("ratio", "ence", "kurtosis", "neighbour_correlation", "effective_share")
    rows = {
        _name(*key): {
            **columns(one.calibration, *figures),
            "s² / σ̂² after one factor (1)": mean_interval(one.columns["s2"] / one.columns["var_factor"]),
        }
        for key, one in found.readings.items()
    }
    panels = {
        degradation: {name: one.calibration for (name, d), one in found.readings.items() if d == degradation}
        for _, degradation in found.readings
    }
    figure = svg(reliability_figure(panels), "Predicted over true error of each bin, by autoencoder and degradation")
    return WORDS.section(
        "reading",
        figure=side_by_side([figure]),
        ranks=table(ranks, "autoencoder", 3, "Spearman's correlation of the prediction, mean over degradations"),
        readings=table(rows, INDEX),
        trivial=trivial_table({_name(*key): one.columns for key, one in found.readings.items()}, INDEX),
    )


def restoration(found: AutoencoderResults) -> Section | None:
    """Restorations from where the severity encoder says, against other starts and other autoencoders."""
    if not found.matched:
        return None
    runs = found.matched.values()
    guidance = [(float(rows["tuned_value"].iloc[0]), bool(rows["at_edge"].any())) for rows in runs]
    more: dict[str, list[object]] = {
        "ceiling, dB": [ceiling_of(rows["psnr_ceiling"]) for rows in runs],
        "gain over the true error's start, dB": [found.gain(*key, ORACLE) for key in found.matched],
        "gain over pure noise, dB": [found.gain(*key, FULL) for key in found.matched],
        "start timestep": [mean_interval(rows["start_timestep"]) for rows in runs],
        "guidance": [f"{value:g}{' (edge)' * at_edge}" for value, at_edge in guidance],
    }
    names = sorted(found.ceilings, key=lambda name: found.ceilings[name].mean)
    contests = {
        _name(high, d): {f"over {readable(low)}": found.contests.get((high, low, d), "") for low in names[:-1]}
        for d in dict.fromkeys(degradation for _, _, degradation in found.contests)
        for high in reversed(names[1:])
    }
    caption = "PSNR gained over autoencoders of lower ceilings, dB"
    return WORDS.section(
        "restoration",
        restored=means_table({_name(*key): rows for key, rows in found.matched.items()}, RESTORED, INDEX, more=more),
        contests=table(contests, INDEX, caption=caption) if contests else "",
    )


def itself(found: AutoencoderResults) -> Section | None:
    """What each autoencoder loses, what its latents look like, what its parts cost, and what else differs."""
    if not found.itself:
        return None
    figures = ("channel_spread", "position_spread", "kurtosis", "neighbour_correlation", "channel_correlation")
    rows, costs = {}, {}
    for name, known in found.itself.items():
        one, parts = known[ITSELF], known[COST]
        latents = from_plain(one["latents"])
        variance = latents.curves["channel_variance"].mean
        rows[readable(name)] = {
            "ceiling, PSNR in dB": found.ceilings[name],
            "latents": " x ".join(map(str, one["latent_shape"])),
            "variance of channels (1)": f"{number(variance.min(), 2)} to {number(variance.max(), 2)}",
            **columns(latents, *figures, "effective_share"),
            "channels of the prior": ", ".join(map(str, known.get("prior", ()))),
            "training": one["trained"],
            "severity encoder": "small network beside" if name in BESIDE else "from its own encoder",
        }
        costs[readable(name)] = {
            "parameters": one["parameters"],
            "of its encoder": one["encoder_parameters"],
            **{
                f"{part}, {unit}": parts[part][quantity] * scale if parts else math.nan
                for part in (ENCODING, STEP, DECODING)
                for quantity, unit, scale in (("seconds", "ms", 1e3), ("flops", "GFLOP", 1e-9))
            },
        }
    return WORDS.section(
        "itself",
        folded=True,
        autoencoders=table(rows, "autoencoder"),
        lossless=LOSSLESS,
        costs=table(costs, "autoencoder", 3),
        where=list({known[COST]["where"]: None for known in found.itself.values() if known[COST]}) or ["no machine"],
    )


def _name(autoencoder: str, degradation: str) -> str:
    return f"{readable(autoencoder)}, {readable(degradation)}"
