"""Figures and tables of the calibration study.

e = ẑ - z0 is the error of the encoder's latent, σ̂² (`var_hat`) the variance that the encoder predicts, s² the true one,
and z = e / σ̂.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from studies._rows import ABSENT
from studies._tables import table
from studies._trivial import trivial_table, trivial_text
from studies.calibration.results import (
    CAUTIOUS,
    CHANNEL,
    MMSE,
    OWN,
    REAL,
    RECALIBRATED,
    SIGNIFICANT,
    TOLERANCE,
    WHITE,
    CalibrationResults,
    Level,
)
from workbench.core.config import UserError
from workbench.metrics import Estimate, mean_interval
from workbench.metrics.calibration import ALL, Calibration, holding_channel
from workbench.reporting import MainFigure, Section, Words, heat_map, number, position_maps, readable, side_by_side, svg
from workbench.reporting.calibration import laws_figure, pit_figure, qq_figure, reliability_figure, spectrum_figure

WORDS = Words(Path(__file__).with_name("templates"))
GAUSSIAN_KURTOSIS = 3.0
HOLDS = {"mmse": "mmse", "forward": "forward", "neither": "neither", "undecided": "not decided"}
MAPS: tuple[tuple[str, str, Literal["ratio", "diverging"], float], ...] = (
    ("Variance", "variance", "ratio", 2.0),
    ("Mean", "bias", "diverging", 0.5),
)
"""Of z by place: name, curve, and the scale of colours with where it ends, so that small differences look small."""
OTHER_STARTS = {
    REAL: "true variance",
    CHANNEL: "noise by channel",
    MMSE: "mmse",
    RECALIBRATED: "recalibrated",
    CAUTIOUS: "risk of 10 %",
}
"""Starts that are set beside the predicted variance."""

Columns = Mapping[str, "str | Callable[[Calibration], object]"]
"""A table's columns: a figure of a `Calibration` by its name, "floors.NAME" or "p_values.NAME", or a function of it."""


def answer(found: CalibrationResults) -> list[str]:
    """Shape, level, promises, other degradations, cost."""
    if not found.own:
        return ["These results hold no encoder on the degradation that it was trained on: they cannot say."]
    gains = found.gaussian_gains
    most = max(gains, key=lambda name: gains[name].mean) if gains else None
    return WORDS.sentences(found=found, most=most, significant=SIGNIFICANT, tolerance=100 * TOLERANCE)


def main_figure(found: CalibrationResults) -> MainFigure | None:
    """The reliability diagrams."""
    if not found.own:
        return None
    panels = {name: {"as predicted": pair.whole} for name, pair in found.own.items()}
    caption = "Images in bins by predicted error: calibrated on the diagonal, over-confident above it."
    return MainFigure(reliability_figure(panels), "Reliability diagram of each encoder", caption)


def verdict(found: CalibrationResults) -> Section | None:
    """One row for each encoder on its own degradation."""
    if not found.own:
        return None
    return WORDS.section("verdict", verdicts=_verdicts({name: pair.whole for name, pair in found.own.items()}))


def level(found: CalibrationResults) -> Section | None:
    """Is the predicted variance the size of the error?"""
    if not found.own:
        return None
    level = _table(
        found,
        {
            "s² / σ̂²": "ratio",
            "wrong by, dB": "ratio_db",
            "mean z²": "z2",
            "ENCE": "ence",
            "ENCE by chance": "floors.ence",
            "coverage of 90 %": _coverage,
        },
        3,
        "Level of the prediction, all severities",
    )
    scores = _table(
        found,
        {
            "NLL, nats an element": "nll",
            "CRPS": "crps",
            "sharpness": "sharpness",
            "UCE": "uce",
            "miscalibration area": "miscalibration_area",
        },
        4,
        "Scores of N(0, σ̂²) as a prediction of the error; latent units, of standard deviation 1",
    )
    rows = {name: pair.rows for name, pair in found.own.items()}
    trivial = trivial_text(rows) + trivial_table(rows, "matched encoder on")
    return WORDS.section("level", folded=True, level=level, scores=scores, trivial=trivial)


def shape(found: CalibrationResults) -> Section | None:
    """Are standardised errors Gaussian?"""
    if not found.own:
        return None
    moments = _table(
        found,
        {
            "skewness (0)": "skewness",
            "kurtosis (3)": "kurtosis",
            "kurtosis within images": "within_kurtosis",
            "likeliest law": _law,
            "KS from that law": lambda one: f"{next(iter(one.fits.values())).distance:.4f}",
            "KS from a Gaussian": lambda one: f"{one.fits['gaussian'].distance:.4f}",
        },
        2,
        "Moments of z and laws fitted to it, all severities",
    )
    distances = _table(
        found,
        {
            "KS": "shape_ks",
            "KS by chance": "floors.shape_ks",
            "KS, p": "p_values.shape_ks",
            "AD": "shape_ad",
            "AD by chance": "floors.shape_ad",
            "AD, p": "p_values.shape_ad",
        },
        4,
        "Distances of z from the Gaussian of its mean and variance (KS: Kolmogorov-Smirnov, AD: Anderson-Darling)",
    )
    bins = {name: pair.bins for name, pair in found.own.items()}
    laws = laws_figure({name: pair.whole for name, pair in found.own.items()})
    figures = [
        svg(pit_figure(bins), "PIT histogram by severity"),
        svg(qq_figure(bins), "QQ plot by severity"),
        svg(laws, "QQ plot with a Gaussian, a Student t and a Laplace fitted, all severities"),
    ]
    return WORDS.section("shape", folded=True, figures=side_by_side(figures), moments=moments, distances=distances)


def channel(found: CalibrationResults) -> Section | None:
    """With what is the error uncorrelated, and has it a mean?"""
    if not found.own:
        return None
    columns: Columns = {
        "cov(e, ẑ) / var(e)": "forward_share",
        "what holds": _channel,
        "corr(e, z0)": "corr_clean",
        "slope of z0 on ẑ": "slope_on_estimate",
        "slope of ẑ on z0": "slope_on_clean",
        "mean z": "bias",
        "power of image means (1)": "image_mean_power",
    }
    caption = "Mean and orthogonality, all severities; the power of images' mean errors is 1 for independent elements"
    return WORDS.section("channel", folded=True, shares=_table(found, columns, 3, caption))


def structure(found: CalibrationResults) -> Section | None:
    """Is the error equally strong everywhere, and how much do its elements depend on each other?"""
    if not found.own:
        return None
    columns: Columns = {
        "spread over channels": "channel_spread",
        "channels, by chance": "floors.channel_spread",
        "spread over positions": "position_spread",
        "positions, by chance": "floors.position_spread",
        "neighbours' correlation": "neighbour_correlation",
        "correlation of channels": "channel_correlation",
        "effective elements": "effective_elements",
    }
    decimals = dict.fromkeys(["spread over channels", "channels, by chance", "spread over positions"], 3)
    spreads = _table(found, columns, decimals | {"effective elements": 0}, "Isotropy and independence, all severities")
    spectrum = spectrum_figure({name: pair.bins for name, pair in found.own.items()})
    figures = [svg(spectrum, "Spectrum by severity"), *_maps_by_place(found)]
    return WORDS.section("structure", folded=True, figures=side_by_side(figures), spreads=spreads)


def recalibration(found: CalibrationResults) -> Section | None:
    """The level in each bin of severity, before and after."""
    if not found.own:
        return None
    own, variances = found.own, found.variances
    maps = [
        svg(
            heat_map(
                [pair.levels[column].bins for pair in own.values()], list(own), _bin_names(found),
                title=f"s² over variance: {title}", column_title="severity", scale="ratio", span=1.5,
            ),
            f"Heat map of true over assumed variance, {title}",
        )
        for column, title in variances.items()
    ]  # fmt: skip
    of: dict[str, Callable[[Level], Estimate]] = {
        "s² / variance (1)": lambda one: one.ratio,
        "ENCE (0)": lambda one: one.ence,
    }
    tables = [
        table(
            {name: {t: value(pair.levels[c]) for c, t in variances.items()} for name, pair in own.items()},
            3,
            f"{title}, all severities",
        )
        for title, value in of.items()
    ]
    after = [r for pair in own.values() for r in pair.levels[found.recalibrated].bins if r.num_images]
    return WORDS.section(
        "recalibration",
        maps=side_by_side(maps),
        tables=Markup().join(tables),
        method=variances[found.recalibrated] if found.recalibrated != OWN else "",
        right=sum(abs(ratio.mean - 1) <= TOLERANCE for ratio in after),
        num_bins=len(after),
        tolerance=100 * TOLERANCE,
    )


def promise(found: CalibrationResults) -> Section | None:
    """How often s² lies above the bound that it should exceed with a given probability."""
    if not found.own:
        return None
    rates, bins = {}, {}
    for name, pair in found.own.items():
        for risk, one in pair.promises.items():
            row = f"{name}, {100 * risk:g} %"
            rates[row] = {
                "violated, %": one.rate.scaled(100),
                "by chance in 95 of 100 trials, %": f"{number(100 * one.low, 1)} to {number(100 * one.high, 1)}",
                "promise": one.kept,
            }
            by_severity = [rate.scaled(100) for rate in pair.violations_by_severity(risk)]
            bins[row] = dict(zip(_bin_names(found), by_severity, strict=True))
    return WORDS.section(
        "promise",
        maps=side_by_side(_stranger_maps(found)),
        whole=table(rates, 1, "Measured violations, and where they lie if the promise is kept"),
        bins=table(bins, 1, "Violations in each bin of severity, %"),
    )


def cost(found: CalibrationResults) -> Section | None:
    """What the real error costs against a Gaussian one, and what other starts gain."""
    restored = found.restored
    if not restored:
        return None
    real = {
        name: {
            "PSNR, true variance": mean_interval(pair.restorations[REAL].psnr),
            "start timestep": mean_interval(pair.restorations[REAL].start_timestep),
            "gained by a Gaussian error": found.gaussian_gains[name],
        }
        for name, pair in restored.items()
    }
    others = {}
    for name, pair in restored.items():
        starts, white = pair.restorations, pair.restorations[WHITE]
        others[name] = {
            "PSNR, predicted variance": mean_interval(white.psnr),
            **{f"gained, {title}": starts[start].gain_over(white) for start, title in OTHER_STARTS.items()},
            "NFE, predicted variance": mean_interval(white.nfe),
            "NFE, risk of 10 %": mean_interval(starts[CAUTIOUS].nfe),
        }
    caption = "PSNR, dB; gains are paired image by image"
    return WORDS.section("cost", real=table(real, 2, caption), others=table(others, 2, caption))


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
        raise UserError(f"no encoder of {degradation}; there are: {', '.join(pairs)}")
    groups = pairs[degradation].groups
    if severity not in groups:
        raise UserError(f"no severity {severity!r}; there are: {', '.join(groups)}")
    panel = {"": {f"severity {severity}": groups[severity]}}
    draws = {"Reliability diagram": reliability_figure, "PIT histogram": pit_figure, "QQ plot": qq_figure,
             "Spectrum": spectrum_figure}  # fmt: skip
    figures = [svg(draw(panel), f"{title} at severity {severity}") for title, draw in draws.items()]
    title = f"{readable(degradation)}, severity {severity}"
    return Section(title, _verdicts({readable(degradation): groups[severity]}) + side_by_side(figures))


def _verdicts(calibrations: Mapping[str, Calibration]) -> Markup:
    columns: Columns = {
        "s² / σ̂² (1)": "ratio",
        "level": _level_words,
        "kurtosis (3)": "kurtosis",
        "tails": _tail_words,
        "likeliest law": _law,
        "neighbours' correlation (0)": "neighbour_correlation",
        "effective share of elements (1)": "effective_share",
        "cov(e, ẑ) / var(e) (0 or 1)": "forward_share",
        "channel": _channel,
    }
    caption = "What it would be for the error that SNR matching assumes stands in brackets"
    rows = {name: {title: _value(one, of) for title, of in columns.items()} for name, one in calibrations.items()}
    return table(rows, 2, caption)


def _level_words(one: Calibration) -> str:
    right = one.figures["ratio"].within(1 - TOLERANCE, 1 + TOLERANCE)
    return "not decided" if right is None else "right" if right else "wrong"


def _tail_words(one: Calibration) -> str:
    kurtosis = one.figures["kurtosis"]
    if kurtosis.low > GAUSSIAN_KURTOSIS:
        return "heavier than Gaussian"
    return "lighter than Gaussian" if kurtosis.high < GAUSSIAN_KURTOSIS else "as Gaussian"


def _law(one: Calibration) -> str:
    best = next(iter(one.fits.values()))
    return f"Student t, {best.df:.0f} degrees of freedom" if best.df is not None else best.family.capitalize()


def _channel(one: Calibration) -> str:
    return HOLDS[holding_channel(one.figures["forward_share"])]


def _coverage(one: Calibration) -> Estimate:
    curve = one.curves["coverage"]
    return curve.estimates[int(np.abs(curve.x - 0.9).argmin())]


def _table(found: CalibrationResults, columns: Columns, decimals: Mapping[str, int] | int, caption: str) -> Markup:
    """A row for each matched encoder, over all severities."""
    rows = {name: {t: _value(pair.whole, of) for t, of in columns.items()} for name, pair in found.own.items()}
    return table(rows, decimals, caption)


def _value(one: Calibration, of: "str | Callable[[Calibration], object]") -> Any:
    if not isinstance(of, str):
        return of(one)
    group, _, name = of.rpartition(".")
    return getattr(one, group or "figures")[name]


def _bin_names(found: CalibrationResults) -> list[str]:
    return next(iter(found.own.values())).bin_names


def _maps_by_place(found: CalibrationResults) -> list[Markup]:
    """Variance and mean of z in each channel and at each position."""
    own = {name: pair.whole for name, pair in found.own.items()}
    num_channels = max(len(one.curves["channel_variance"].estimates) for one in own.values())
    channels = [str(i) for i in range(num_channels)]
    maps = []
    for name, curve, scale, span in MAPS:
        rows = [[*one.curves[f"channel_{curve}"].estimates] for one in own.values()]
        padded = [row + [ABSENT] * (num_channels - len(row)) for row in rows]
        title = f"{name} of z in each latent channel"
        figure = heat_map(padded, list(own), channels, title=title, scale=scale, span=span)
        maps.append(svg(figure, f"Heat map, {title}"))
        title = f"{name} of z at each position of the latent"
        squares = {encoder: _square(one.curves[f"position_{curve}"].mean) for encoder, one in own.items()}
        maps.append(svg(position_maps(squares, title=title, scale=scale, span=span), f"Maps, {title}"))
    return maps


def _square(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row by row to (height, width); latents are as high as wide, since images are."""
    side = math.isqrt(cells.size)
    return cells.reshape(side, side)


def _stranger_maps(found: CalibrationResults) -> list[Markup]:
    """Violations and level of every encoder on every degradation, two maps for each autoencoder."""
    maps, risk = [], found.risk
    for autoencoder in dict.fromkeys(pair.autoencoder for pair in found.pairs):
        mine = [pair for pair in found.pairs if pair.autoencoder == autoencoder]
        among = "" if len(mine) == len(found.pairs) else f", {readable(autoencoder)}"
        rates = {(pair.encoder, pair.degradation): pair.promises[risk].rate.scaled(100) for pair in mine}
        ratios = {(pair.encoder, pair.degradation): pair.levels[found.recalibrated].ratio for pair in mine}
        maps += [
            _stranger_map(rates, f"Violations at a promised {100 * risk:g} %{among}, %", "sequential", 1),
            _stranger_map(ratios, f"s² over recalibrated variance{among}", "ratio", 2),
        ]
    return maps


def _stranger_map(
    values: Mapping[tuple[str, str], Estimate], title: str, scale: Literal["sequential", "ratio"], decimals: int
) -> Markup:
    """Encoders x degradations, with frames around the matched."""
    encoders, degradations = (list(dict.fromkeys(key[place] for key in values)) for place in (0, 1))
    matrix: Sequence[Sequence[Estimate]] = [[values.get((e, d), ABSENT) for d in degradations] for e in encoders]
    figure = heat_map(
        matrix, encoders, degradations, title=title, row_title="encoder", column_title="tested on", decimals=decimals,
        scale=scale, outlined=[(i, j) for i, e in enumerate(encoders) for j, d in enumerate(degradations) if e == d],
    )  # fmt: skip
    return svg(figure, f"Heat map, encoders by degradations: {title}")
