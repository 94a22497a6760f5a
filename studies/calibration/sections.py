"""Figures and tables of the calibration study.

e = ẑ - z0 is the error of the encoder's latent, σ̂² (`var_hat`) the variance that the encoder predicts, s² the true one,
and z = e / σ̂.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from studies._rows import ABSENT, table
from studies._trivial import trivial_table
from studies.calibration.results import CalibrationResults, Pair, Start
from workbench.core.config import UserError
from workbench.metrics import Estimate, mean_interval
from workbench.metrics.calibration import ALL
from workbench.reporting import (
    MainFigure,
    Section,
    Words,
    heat_map,
    number,
    position_maps,
    readable,
    side_by_side,
    svg,
    verdicts,
)
from workbench.reporting.calibration import laws_figure, pit_figure, qq_figure, reliability_figure, spectrum_figure

WORDS = Words(Path(__file__).with_name("templates"))
SIGNIFICANT = 0.05
"""Below which p the errors are said not to be Gaussian."""


def answer(found: CalibrationResults) -> list[str]:
    """Shape, level, promises, other degradations, cost."""
    if not found.own:
        return ["These results hold no encoder on the degradation that it was trained on: they cannot say."]
    gains, levels = found.gaussian_gains, [verdicts.confidence(one) for one in found.whole.values()]
    return WORDS.sentences(
        found=found,
        most=max(gains, key=lambda name: gains[name].mean, default=None),
        not_gaussian=sum(one.p_values["shape_ks"] < SIGNIFICANT for one in found.whole.values()),
        significant=SIGNIFICANT,
        num_right=levels.count(verdicts.CALIBRATED),
        num_over=levels.count(verdicts.OVER_CONFIDENT),
        tolerance=100 * verdicts.TOLERANCE,
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
    """Each encoder on its own degradation: the size, the shape and the structure of its errors."""
    if not found.own:
        return None
    whole = found.whole.items()
    return WORDS.section(
        "verdict",
        verdicts=table({name: verdicts.verdict(one) for name, one in whole}, "encoder", 3),
        scores=table({name: verdicts.scores(one) for name, one in whole}, "encoder", 3),
        trivial=trivial_table({name: pair.rows for name, pair in found.own.items()}, "matched encoder on"),
    )


def shape(found: CalibrationResults) -> Section | None:
    """Are standardised errors Gaussian, equally strong everywhere, and independent?"""
    if not found.own:
        return None
    bins = {
        name: {f"severity {group}": one for group, one in pair.groups.items() if group != ALL}
        for name, pair in found.own.items()
    }
    variances = [one.curves["channel_variance"].estimates for one in found.whole.values()]
    channels = [*zip(*itertools.zip_longest(*variances, fillvalue=ABSENT), strict=True)]
    by_place = {name: one.curves["position_variance"].mean for name, one in found.whole.items()}
    squares = {name: mean.reshape(math.isqrt(mean.size), -1) for name, mean in by_place.items()}  # as images are
    in_channels, at_places = "Variance of z in each latent channel", "Variance of z at each position of the latent"
    figures = [
        svg(qq_figure(bins), "QQ plot by severity"),
        svg(laws_figure(found.whole), "QQ plot with a Gaussian, a Student t and a Laplace fitted, all severities"),
        svg(pit_figure(bins), "PIT histogram by severity"),
        svg(spectrum_figure(bins), "Spectrum by severity"),
        _map(channels, [*found.whole], [*map(str, range(len(channels[0])))], in_channels, scale="ratio", span=2.0),
        svg(position_maps(squares, title=at_places, scale="ratio", span=2.0), at_places),
    ]
    return WORDS.section("shape", folded=True, figures=side_by_side(figures))


def recalibration(found: CalibrationResults) -> Section | None:
    """The level in each bin of severity, before and after."""
    if not found.own:
        return None
    names, pairs = found.variances, found.own.values()
    ratios = {variance: [pair.ratio_by_severity(variance) for pair in pairs] for variance in names}
    how: dict[str, Any] = {"column_title": "severity", "scale": "ratio", "span": 1.5}
    maps = [
        _map(ratios[v], [*found.own], found.bin_names, f"s² over variance: {title}", **how)
        for v, title in names.items()
    ]
    ence = {name: {title: pair.ence(v) for v, title in names.items()} for name, pair in found.own.items()}
    after = [ratio.mean for line in ratios[found.recalibrated] for ratio in line if ratio.num_images]
    return WORDS.section(
        "recalibration",
        maps=side_by_side(maps),
        ence=table(ence, "encoder", 3, "ENCE (0), all severities"),
        method=names[found.recalibrated] if len(names) > 1 else "",
        right=sum(abs(ratio - 1) <= verdicts.TOLERANCE for ratio in after),
        num_bins=len(after),
        tolerance=100 * verdicts.TOLERANCE,
    )


def promise(found: CalibrationResults) -> Section | None:
    """How often s² exceeds its bound: each encoder at each severity, and on degradations that it does not know."""
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
    caption = "Violations, %: over all severities, where 95 of 100 trials lie if the promise is kept, and by severity"
    # of the first autoencoder, whose encoders alone meet other degradations
    first, risk = found.pairs[0].autoencoder, found.risk
    pairs = {(pair.encoder, pair.degradation): pair for pair in found.pairs if pair.autoencoder == first}
    encoders, degradations = ([*dict.fromkeys(key[place] for key in pairs)] for place in (0, 1))
    how: dict[str, Any] = {
        "row_title": "encoder",
        "column_title": "tested on",
        "outlined": [(i, j) for i, e in enumerate(encoders) for j, d in enumerate(degradations) if e == d],
    }

    def by_pair(value: Callable[[Pair], Estimate]) -> list[list[Estimate]]:
        return [[value(pairs[e, d]) if (e, d) in pairs else ABSENT for d in degradations] for e in encoders]

    rates = by_pair(lambda pair: pair.promises[risk].rate.scaled(100))
    ratios = by_pair(lambda pair: mean_interval(pair.ratio(found.recalibrated)))
    maps = [
        _map(rates, encoders, degradations, f"Violations at a promised {100 * risk:g} %, %", decimals=1, **how),
        _map(ratios, encoders, degradations, "s² over recalibrated variance", scale="ratio", **how),
    ]
    return WORDS.section("promise", maps=side_by_side(maps), rates=table(rows, "encoder", 1, caption))


def cost(found: CalibrationResults) -> Section | None:
    """What the real error costs against a Gaussian one, and what other starts gain."""
    rows = {}
    others = (Start.CHANNEL, Start.MMSE, Start.RECALIBRATED, Start.CAUTIOUS)
    for name, gained in found.gaussian_gains.items():
        psnr, runs = found.own[name].psnr, found.own[name].restorations
        gains = psnr.sub(psnr[Start.WHITE], axis=0)
        rows[name] = {
            "PSNR, true variance": mean_interval(psnr[Start.REAL]),
            "gained by a Gaussian error": gained,
            "PSNR, predicted variance": mean_interval(psnr[Start.WHITE]),
            "gained by the true variance": mean_interval(gains[Start.REAL]),
            **{f"gained: {start}": mean_interval(gains[start]) for start in others},
            "NFE, predicted variance": mean_interval(runs[Start.WHITE]["nfe"]),
            "NFE, risk of 10 %": mean_interval(runs[Start.CAUTIOUS]["nfe"]),
        }
    caption = "PSNR, dB; gains are paired image by image"
    return WORDS.section("cost", gains=table(rows, "encoder", caption=caption)) if rows else None


def closer(
    found: CalibrationResults, degradation: str | None = None, severity: str = ALL, autoencoder: str | None = None
) -> Section | None:
    """One encoder on its own degradation, at one bin of severity, for notebooks: the page has all in other sections.

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
    one, title = groups[severity], f"{readable(degradation)}, severity {severity}"
    draws = (reliability_figure, pit_figure, qq_figure, spectrum_figure)
    figures = [svg(draw({"": {f"severity {severity}": one}}), title) for draw in draws]
    row = table({readable(degradation): verdicts.verdict(one)}, "encoder", 3)
    return Section(title, row + side_by_side(figures))


def _map(matrix: Sequence[Sequence[Estimate]], rows: list[str], columns: list[str], title: str, **how: Any) -> Markup:
    return svg(heat_map(matrix, rows, columns, title=title, **how), title)
