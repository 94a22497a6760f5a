"""Figures and tables of the calibration study.

e = ẑ - z0 is the error of the encoder's latent, σ̂² (`var_hat`) the variance that the encoder predicts, s² the true one,
and z = e / σ̂.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup

from studies._rows import ABSENT, table
from studies._trivial import trivial_table
from studies.calibration.results import OWN, CalibrationResults, Start
from workbench.core.config import UserError
from workbench.metrics import Estimate, mean_interval
from workbench.metrics.calibration import ALL, Calibration, holding_channel
from workbench.reporting import MainFigure, Section, Words, heat_map, number, position_maps, readable, side_by_side, svg
from workbench.reporting.calibration import laws_figure, pit_figure, qq_figure, reliability_figure, spectrum_figure
from workbench.reporting.figures import Scale

WORDS = Words(Path(__file__).with_name("templates"))
TOLERANCE = 0.1
"""By how much s² / σ̂² may part from 1 where a prediction is called right."""
SIGNIFICANT = 0.05
"""Below which p the errors are said not to be Gaussian."""
MAPS: tuple[tuple[str, str, Scale, float], ...] = (
    ("Variance", "variance", "ratio", 2.0),
    ("Mean", "bias", "diverging", 0.5),
)
"""Of z by place: name, curve, and the scale of colours with where it ends, so that small differences look small."""


def level_words(one: Calibration) -> str:
    """Whether the predicted variance is right within the tolerance."""
    right = one.figures["ratio"].within(1 - TOLERANCE, 1 + TOLERANCE)
    return "not decided" if right is None else "right" if right else "wrong"


def tail_words(one: Calibration) -> str:
    """How heavy tails are, by the kurtosis, which is 3 for a Gaussian."""
    kurtosis = one.figures["kurtosis"]
    if kurtosis.low > 3:
        return "heavier than Gaussian"
    return "lighter than Gaussian" if kurtosis.high < 3 else "as Gaussian"


def law_words(one: Calibration) -> str:
    """The likeliest of the laws fitted to z."""
    best = next(iter(one.fits.values()))
    return f"Student t, {best.df:.0f} degrees of freedom" if best.df is not None else best.family.capitalize()


def channel_words(one: Calibration) -> str:
    """Of what the error is uncorrelated: of the clean latent (forward) or of the estimate (mmse)."""
    return holding_channel(one.figures["forward_share"]).replace("undecided", "not decided")


def coverage(one: Calibration) -> Estimate:
    """The share of elements within the central 90 % of N(0, σ̂²)."""
    curve = one.curves["coverage"]
    return curve.estimates[int(np.abs(curve.x - 0.9).argmin())]


Columns = Mapping[str, "str | Callable[[Calibration], object]"]
"""A table's columns: a figure of a `Calibration` by its name, "floors.NAME" or "p_values.NAME", or a function of it."""
VERDICT: Columns = {
    "s² / σ̂² (1)": "ratio",
    "level": level_words,
    "mean z (0)": "bias",
    "kurtosis (3)": "kurtosis",
    "tails": tail_words,
    "KS from a Gaussian": "shape_ks",
    "p": "p_values.shape_ks",
    "likeliest law": law_words,
    "neighbours' correlation (0)": "neighbour_correlation",
    "channels' correlation (0)": "channel_correlation",
    "effective share of elements (1)": "effective_share",
    "cov(e, ẑ) / var(e) (0 or 1)": "forward_share",
    "channel": channel_words,
}
LEVEL: Columns = {
    "wrong by, dB": "ratio_db",
    "mean z²": "z2",
    "ENCE": "ence",
    "ENCE by chance": "floors.ence",
    "coverage of 90 %": coverage,
    "NLL, nats per element": "nll",
    "CRPS": "crps",
}


def answer(found: CalibrationResults) -> list[str]:
    """Shape, level, promises, other degradations, cost."""
    if not found.own:
        return ["These results hold no encoder on the degradation that it was trained on: they cannot say."]
    gains, tolerated = found.gaussian_gains, (1 - TOLERANCE, 1 + TOLERANCE)
    return WORDS.sentences(
        found=found,
        most=max(gains, key=lambda name: gains[name].mean, default=None),
        not_gaussian=sum(one.p_values["shape_ks"] < SIGNIFICANT for one in found.whole.values()),
        significant=SIGNIFICANT,
        num_right=sum(one.figures["ratio"].within(*tolerated) is True for one in found.whole.values()),
        tolerance=100 * TOLERANCE,
        kept=[promise.kept for pair in found.own.values() for promise in pair.promises.values()],
        kept_elsewhere=[pair.promises[found.risk].kept for pair in found.strangers],
    )


def main_figure(found: CalibrationResults) -> MainFigure | None:
    """The reliability diagrams."""
    if not found.own:
        return None
    panels = {name: {"as predicted": one} for name, one in found.whole.items()}
    caption = "Images in bins by predicted error: calibrated on the diagonal, over-confident above it."
    return MainFigure(reliability_figure(panels), "Reliability diagram of each encoder", caption)


def verdict(found: CalibrationResults) -> Section | None:
    """One row for each encoder on its own degradation."""
    return WORDS.section("verdict", verdicts=_table(found.whole, VERDICT)) if found.own else None


def level(found: CalibrationResults) -> Section | None:
    """Is the predicted variance the size of the error?"""
    if not found.own:
        return None
    trivial = trivial_table({name: pair.rows for name, pair in found.own.items()}, "matched encoder on")
    return WORDS.section("level", folded=True, level=_table(found.whole, LEVEL), trivial=trivial)


def shape(found: CalibrationResults) -> Section | None:
    """Are standardised errors Gaussian?"""
    if not found.own:
        return None
    bins = {name: pair.bins for name, pair in found.own.items()}
    figures = [
        svg(pit_figure(bins), "PIT histogram by severity"),
        svg(qq_figure(bins), "QQ plot by severity"),
        svg(laws_figure(found.whole), "QQ plot with a Gaussian, a Student t and a Laplace fitted, all severities"),
    ]
    return WORDS.section("shape", folded=True, figures=side_by_side(figures))


def structure(found: CalibrationResults) -> Section | None:
    """Is the error equally strong everywhere, and how much do its elements depend on each other?"""
    if not found.own:
        return None
    spectrum = spectrum_figure({name: pair.bins for name, pair in found.own.items()})
    figures = [svg(spectrum, "Spectrum by severity"), *_maps_by_place(found.whole)]
    return WORDS.section("structure", folded=True, figures=side_by_side(figures))


def recalibration(found: CalibrationResults) -> Section | None:
    """The level in each bin of severity, before and after."""
    if not found.own:
        return None
    ratios = {v: [pair.ratio_by_severity(v) for pair in found.own.values()] for v in found.variances}
    maps = [
        svg(
            heat_map(
                ratios[variance], list(found.own), found.bin_names,
                title=f"s² over variance: {title}", column_title="severity", scale="ratio", span=1.5,
            ),
            f"Heat map of true over assumed variance, {title}",
        )
        for variance, title in found.variances.items()
    ]  # fmt: skip
    ence = {name: {title: pair.ence(v) for v, title in found.variances.items()} for name, pair in found.own.items()}
    after = [ratio.mean for line in ratios[found.recalibrated] for ratio in line if ratio.num_images]
    return WORDS.section(
        "recalibration",
        maps=side_by_side(maps),
        ence=table(ence, "encoder", 3, "ENCE (0), all severities"),
        method=found.variances[found.recalibrated] if found.recalibrated != OWN else "",
        right=sum(abs(ratio - 1) <= TOLERANCE for ratio in after),
        num_bins=len(after),
        tolerance=100 * TOLERANCE,
    )


def promise(found: CalibrationResults) -> Section | None:
    """How often s² lies above the bound that it should exceed with a given probability."""
    if not found.own:
        return None
    rows = {
        f"{name}, {100 * risk:g} %": {
            "violated": one.rate.scaled(100),
            "by chance": f"{number(100 * one.low, 1)} to {number(100 * one.high, 1)}",
            "promise": one.kept,
            **{
                f"severity {bin_name}": rate.scaled(100)
                for bin_name, rate in zip(found.bin_names, pair.violations_by_severity(risk), strict=True)
            },
        }
        for name, pair in found.own.items()
        for risk, one in pair.promises.items()
    }
    caption = (
        "Violations, %, over all severities, where they lie in 95 of 100 trials if the promise is kept, and by bin"
    )
    return WORDS.section("promise", maps=side_by_side(_stranger_maps(found)), rates=table(rows, "encoder", 1, caption))


def cost(found: CalibrationResults) -> Section | None:
    """What the real error costs against a Gaussian one, and what other starts gain."""
    rows = {}
    for name, gained in found.gaussian_gains.items():
        pair = found.own[name]
        real, white, cautious = (pair.restorations[start] for start in (Start.REAL, Start.WHITE, Start.CAUTIOUS))
        others = (Start.CHANNEL, Start.MMSE, Start.RECALIBRATED, Start.CAUTIOUS)
        rows[name] = {
            "PSNR, true variance": mean_interval(real["psnr"]),
            "gained by a Gaussian error": gained,
            "PSNR, predicted variance": mean_interval(white["psnr"]),
            "gained by the true variance": pair.gain(Start.REAL, Start.WHITE),
            **{f"gained: {start}": pair.gain(start, Start.WHITE) for start in others},
            "NFE, predicted variance": mean_interval(white["nfe"]),
            "NFE, risk of 10 %": mean_interval(cautious["nfe"]),
        }
    caption = "PSNR, dB; gains are paired image by image"
    return WORDS.section("cost", gains=table(rows, "encoder", caption=caption)) if rows else None


def closer(
    found: CalibrationResults, degradation: str | None = None, severity: str = ALL, autoencoder: str | None = None
) -> Section | None:
    """One encoder on its own degradation: the verdict, reliability, PIT, QQ and spectrum at one bin of severity.

    For notebooks, which ask for a degradation; the page has it all in its other sections.

    Args:
        severity: a bin as in the tables, "0.2 to 0.4", or "all".
        autoencoder: by default the first.

    Raises:
        UserError: for an encoder or a bin that the results do not hold.
    """
    if degradation is None:
        return None
    pairs = {pair.degradation: pair for pair in found.own.values() if autoencoder in (None, pair.autoencoder)}
    if degradation not in pairs:
        raise UserError(f"no encoder of {degradation}; available: {', '.join(pairs)}")
    groups = pairs[degradation].groups
    if severity not in groups:
        raise UserError(f"no severity {severity!r}; available: {', '.join(groups)}")
    panel = {"": {f"severity {severity}": groups[severity]}}
    draws = (reliability_figure, pit_figure, qq_figure, spectrum_figure)
    title = f"{readable(degradation)}, severity {severity}"
    figures = side_by_side([svg(draw(panel), title) for draw in draws])
    return Section(title, _table({readable(degradation): groups[severity]}, VERDICT) + figures)


def _table(calibrations: Mapping[str, Calibration], columns: Columns) -> Markup:
    rows = {name: {title: _value(one, of) for title, of in columns.items()} for name, one in calibrations.items()}
    return table(rows, "encoder", 3)


def _value(one: Calibration, of: "str | Callable[[Calibration], object]") -> object:
    if not isinstance(of, str):
        return of(one)
    group, _, name = of.rpartition(".")
    return getattr(one, group or "figures")[name]


def _maps_by_place(whole: Mapping[str, Calibration]) -> list[Markup]:
    """Variance and mean of z in each channel and at each position."""
    num_channels = max(len(one.curves["channel_variance"].estimates) for one in whole.values())
    maps = []
    for name, curve, scale, span in MAPS:
        rows = [[*one.curves[f"channel_{curve}"].estimates] for one in whole.values()]
        padded = [row + [ABSENT] * (num_channels - len(row)) for row in rows]
        channels = [str(i) for i in range(num_channels)]
        title = f"{name} of z in each latent channel"
        maps.append(svg(heat_map(padded, list(whole), channels, title=title, scale=scale, span=span), title))
        title = f"{name} of z at each position of the latent"
        positions = {encoder: one.curves[f"position_{curve}"].mean for encoder, one in whole.items()}
        # latents are as high as wide, since images are
        squares = {encoder: mean.reshape(math.isqrt(mean.size), -1) for encoder, mean in positions.items()}
        maps.append(svg(position_maps(squares, title=title, scale=scale, span=span), title))
    return maps


def _stranger_maps(found: CalibrationResults) -> list[Markup]:
    """Violations and level of the first autoencoder's encoders, which alone meet other degradations."""
    first, risk = found.pairs[0].autoencoder, found.risk
    pairs = {(pair.encoder, pair.degradation): pair for pair in found.pairs if pair.autoencoder == first}
    rates = {key: pair.promises[risk].rate.scaled(100) for key, pair in pairs.items()}
    ratios = {key: mean_interval(pair.ratio(found.recalibrated)) for key, pair in pairs.items()}
    encoders, degradations = (list(dict.fromkeys(key[place] for key in pairs)) for place in (0, 1))
    outlined = [(i, j) for i, e in enumerate(encoders) for j, d in enumerate(degradations) if e == d]
    drawn: list[tuple[str, dict[tuple[str, str], Estimate], Scale, int]] = [
        (f"Violations at a promised {100 * risk:g} %, %", rates, "sequential", 1),
        ("s² over recalibrated variance", ratios, "ratio", 2),
    ]
    maps = []
    for title, values, scale, decimals in drawn:
        matrix = [[values.get((e, d), ABSENT) for d in degradations] for e in encoders]
        figure = heat_map(
            matrix, encoders, degradations, title=title, row_title="encoder", column_title="tested on",
            decimals=decimals, scale=scale, outlined=outlined,
        )  # fmt: skip
        maps.append(svg(figure, f"Heat map, encoders by degradations: {title}"))
    return maps
