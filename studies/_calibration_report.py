"""The sections of the calibration study's page.

e = ẑ - z0 is the error of the encoder's latent, σ̂² (`var_hat`) the variance that the encoder predicts, s² the true
one, and z = e / σ̂.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from studies._calibration_rows import (
    COSTED,
    GAUSSIAN,
    OTHERS,
    OWN,
    REAL,
    VARIANCES,
    WHITE,
    Pair,
    matched_pairs,
    middle_risk,
    read_pairs,
    recalibrated,
)
from studies._calibration_words import verdict
from studies._rows import ABSENT
from studies._trivial import trivial_table, trivial_text
from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval
from workbench.metrics.calibration import ALL, Calibration, Curve, holding_channel
from workbench.reporting import (
    MainFigure,
    Section,
    heat_map,
    html_table,
    number,
    paragraph,
    position_maps,
    readable,
    side_by_side,
    svg,
)
from workbench.reporting.calibration import laws_figure, pit_figure, qq_figure, reliability_figure, spectrum_figure
from workbench.stages.measure_calibration import bin_name

if TYPE_CHECKING:
    from workbench.results import StudyResults

MAPS: tuple[tuple[str, str, Literal["ratio", "diverging"], float], ...] = (
    ("Variance", "variance", "ratio", 2.0),
    ("Mean", "bias", "diverging", 0.5),
)
"""Of z by place: name, curve, and the scale of colours with where it ends, so that small differences look small."""
TITLES = {"reliability": "Reliability diagram", "pit": "PIT histogram", "qq": "QQ plot", "spectrum": "Spectrum"}


def verdict_section(results: "StudyResults") -> Section:
    """One sentence and one row for each encoder on its own degradation."""
    own = _own(results)
    table = _table(
        own,
        {
            "s² / σ̂² (1)": lambda found: found.figures["ratio"],
            "kurtosis (3)": lambda found: found.figures["kurtosis"],
            "neighbours' correlation (0)": lambda found: found.figures["neighbour_correlation"],
            "effective share of elements (1)": lambda found: found.figures["effective_share"],
            "cov(e, ẑ) / var(e) (0 or 1)": lambda found: found.figures["forward_share"],
        },
        2,
        "What it would be for the error that SNR matching assumes stands in brackets",
    )
    sentences = [
        Markup("<li><b>{}</b>: {}</li>").format(_name(pair, own), verdict(pair.whole, pair.ratios(OWN))) for pair in own
    ]
    text = Markup("<ul>{}</ul>").format(Markup().join(sentences))
    return Section("The verdict", text + table)


def level_section(results: "StudyResults") -> Section:
    """Is the predicted variance the size of the error?"""
    own = _own(results)
    text = paragraph(
        "s² / σ̂² is 1 on average where the level is right; the SNR that is matched is wrong by the decibels beside it. "
        "Of ten bins of images by σ̂², ENCE averages by what part their error differs from the predicted one; chance "
        "alone would give what stands beside it. Coverage is the share of elements inside the central 90 % interval."
    )
    level = _table(
        own,
        {
            "s² / σ̂²": lambda found: found.figures["ratio"],
            "wrong by, dB": lambda found: found.figures["ratio_db"],
            "mean z²": lambda found: found.figures["z2"],
            "ENCE": lambda found: found.figures["ence"],
            "ENCE by chance": lambda found: found.floors["ence"],
            "coverage of 90 %": lambda found: _at(found.curves["coverage"], 0.9),
        },
        3,
        "Level of the prediction, all severities",
    )
    scores = _table(
        own,
        {
            "NLL, nats an element": lambda found: found.figures["nll"],
            "CRPS": lambda found: found.figures["crps"],
            "sharpness": lambda found: found.figures["sharpness"],
            "UCE": lambda found: found.figures["uce"],
            "miscalibration area": lambda found: found.figures["miscalibration_area"],
        },
        4,
        "Scores of N(0, σ̂²) as a prediction of the error; latent units, of standard deviation 1",
    )
    tables = {_name(pair, own): pair.rows for pair in own}
    trivial = trivial_text(tables) + trivial_table(tables, "matched encoder on")
    return Section("Is the predicted variance right?", text + _reliability(own) + level + scores + trivial)


def shape_section(results: "StudyResults") -> Section:
    """Are standardised errors Gaussian?"""
    own = _own(results)
    text = paragraph(
        "Distances are from the Gaussian of the errors' own mean and variance, so that a wrong level does not count: "
        "Kolmogorov and Smirnov's sup |F - Φ|, and that of Anderson and Darling, which weighs tails. Elements of one "
        "image depend on each other, so the p-values of textbooks, over all elements, would mean nothing: here whole "
        "images are resampled, which gives what chance alone would show, and p, how often it shows as much. Kurtosis "
        "within images is not raised by predictions that are wrong from image to image."
    )
    moments = _table(
        own,
        {
            "skewness (0)": lambda found: found.figures["skewness"],
            "kurtosis (3)": lambda found: found.figures["kurtosis"],
            "kurtosis within images": lambda found: found.figures["within_kurtosis"],
            "likeliest law": lambda found: readable(next(iter(found.fits.values())).family),
            "KS from that law": lambda found: f"{next(iter(found.fits.values())).distance:.4f}",
            "KS from a Gaussian": lambda found: f"{found.fits['gaussian'].distance:.4f}",
        },
        2,
        "Moments of z and laws fitted to it, all severities",
    )
    distances = _table(
        own,
        {
            "KS": lambda found: found.figures["shape_ks"],
            "KS by chance": lambda found: found.floors["shape_ks"],
            "KS, p": lambda found: found.p_values["shape_ks"],
            "AD": lambda found: found.figures["shape_ad"],
            "AD by chance": lambda found: found.floors["shape_ad"],
            "AD, p": lambda found: found.p_values["shape_ad"],
        },
        4,
        "Distances of z from the Gaussian of its mean and variance, all severities",
    )
    bins = {_name(pair, own): {f"severity {name}": one for name, one in pair.bins.items()} for pair in own}
    figures = [
        svg(draw(bins), f"{TITLES[name]} by severity") for name, draw in (("pit", pit_figure), ("qq", qq_figure))
    ]
    laws = laws_figure({_name(pair, own): pair.whole for pair in own})
    figures.append(svg(laws, "QQ plot with a Gaussian, a Student t and a Laplace fitted, all severities"))
    return Section("Is the error Gaussian?", text + side_by_side(figures) + moments + distances)


def channel_section(results: "StudyResults") -> Section:
    """With what is the error uncorrelated, and has it a mean?"""
    own = _own(results)
    text = paragraph(
        "Two readings of ẑ are in use. Under forward, ẑ = z0 + e, the error has nothing to do with the clean latent, "
        "and cov(e, ẑ) / var(e) is 1. Under mmse, ẑ is the mean of all latents that the measurement allows, the error "
        "is uncorrelated with ẑ, and that share is 0. Training by squared error gives the second. Only correlations "
        "are measured: they can refute independence, and not prove it."
    )
    table = _table(
        own,
        {
            "cov(e, ẑ) / var(e)": lambda found: found.figures["forward_share"],
            "what holds": lambda found: holding_channel(found.figures["forward_share"]),
            "corr(e, z0)": lambda found: found.figures["corr_clean"],
            "slope of z0 on ẑ": lambda found: found.figures["slope_on_estimate"],
            "slope of ẑ on z0": lambda found: found.figures["slope_on_clean"],
            "mean z": lambda found: found.figures["bias"],
            "power of image means (1)": lambda found: found.figures["image_mean_power"],
        },
        3,
        "Mean and orthogonality, all severities. The mean of an image's error has so many times the power that it "
        "would have if elements were independent",
    )
    return Section("With what is the error uncorrelated?", text + table)


def structure_section(results: "StudyResults") -> Section:
    """Is the error equally strong everywhere, and how much do its elements depend on each other?"""
    own = _own(results)
    text = paragraph(
        "Spreads are coefficients of variation of the variance over channels and positions. Effective elements are "
        "what correlations and unequal variances leave of their number, (tr C)² / tr C² of the errors' covariance C; "
        "heavy tails make s² more uncertain still. A white error has power 1 at all frequencies. In maps of z, errors "
        "in units of the predicted deviation, a variance is 1 and a mean 0 where SNR matching is right."
    )
    table = _table(
        own,
        {
            "spread over channels": lambda found: found.figures["channel_spread"],
            "channels, by chance": lambda found: found.floors["channel_spread"],
            "spread over positions": lambda found: found.figures["position_spread"],
            "positions, by chance": lambda found: found.floors["position_spread"],
            "neighbours' correlation": lambda found: found.figures["neighbour_correlation"],
            "correlation of channels": lambda found: found.figures["channel_correlation"],
            "effective elements": lambda found: found.figures["effective_elements"],
        },
        {"effective elements": 0}
        | dict.fromkeys(["spread over channels", "channels, by chance", "spread over positions"], 3),
        "Isotropy and independence, all severities",
    )
    bins = {_name(pair, own): {f"severity {name}": one for name, one in pair.bins.items()} for pair in own}
    figures = [svg(spectrum_figure(bins), f"{TITLES['spectrum']} by severity"), *_maps_by_place(own)]
    return Section("Is it equally strong everywhere, and independent?", text + side_by_side(figures) + table)


def _maps_by_place(own: Sequence[Pair]) -> list[Markup]:
    """Variance and mean of z in each channel and at each position."""
    names = [_name(pair, own) for pair in own]
    num_channels = max(len(pair.whole.curves["channel_variance"].estimates) for pair in own)
    maps = []
    for name, curve, scale, span in MAPS:
        rows = [[*pair.whole.curves[f"channel_{curve}"].estimates] for pair in own]
        padded = [row + [ABSENT] * (num_channels - len(row)) for row in rows]
        title = f"{name} of z in each latent channel"
        channels = [str(i) for i in range(num_channels)]
        maps.append(svg(heat_map(padded, names, channels, title=title, scale=scale, span=span), f"Heat map, {title}"))
        title = f"{name} of z at each position of the latent"
        squares = {
            name: _square(pair.whole.curves[f"position_{curve}"].mean) for name, pair in zip(names, own, strict=True)
        }
        maps.append(svg(position_maps(squares, title=title, scale=scale, span=span), f"Maps, {title}"))
    return maps


def _square(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row by row to (height, width); latents are as high as wide, since images are."""
    side = math.isqrt(cells.size)
    return cells.reshape(side, side)


def recalibration_section(results: "StudyResults") -> Section:
    """The level in each bin of severity, before and after."""
    import pandas as pd

    own = _own(results)
    variances = {column: title for column, title in VARIANCES.items() if all(column in pair.rows for pair in own)}
    names = [_name(pair, own) for pair in own]
    columns = _bin_names(own)
    figures = [
        svg(
            heat_map(
                [pair.ratios(column) for pair in own],
                names,
                columns,
                title=f"s² over variance: {title}",
                column_title="severity",
                scale="ratio",
                span=1.5,
            ),
            f"Heat map of true over assumed variance, {title}",
        )
        for column, title in variances.items()
    ]
    measured: dict[str, Callable[[Pair, str], Estimate]] = {"s² / variance (1)": Pair.ratio, "ENCE (0)": Pair.ence}
    tables = Markup()
    for figure, of in measured.items():
        rows = {name: [of(pair, column) for column in variances] for name, pair in zip(names, own, strict=True)}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=list(variances.values()))
        tables += html_table(table, 3, f"{figure}, all severities")
    text = paragraph(
        "Fitted on validation images at all severities: one factor on σ̂², a power of it with a factor (temperature), "
        "or any increasing function of it (isotonic). All make the level right on average; where severities part from "
        "each other at the same σ̂², none can help, for they see σ̂² alone."
    )
    return Section("What does recalibration mend?", text + side_by_side(figures) + tables)


def promise_section(results: "StudyResults") -> Section:
    """How often s² lies above the bound that it should exceed with a given probability."""
    import pandas as pd

    pairs = read_pairs(results)
    own = matched_pairs(pairs)
    rates, by_bin = {}, {}
    for pair in own:
        for risk in pair.risks:
            name = f"{_name(pair, own)}, {100 * risk:g} %"
            measured, (low, high) = pair.violations(risk), pair.promised(risk)
            promised = f"{number(100 * low, 1)} to {number(100 * high, 1)}"
            rates[name] = [measured.scaled(100), promised, pair.promise(risk)]
            by_bin[name] = [rate.scaled(100) for rate in pair.violations_by_severity(risk)]
    heads = ["violated, %", "by chance in 95 of 100 trials, %", "promise"]
    whole = pd.DataFrame.from_dict(rates, orient="index", columns=heads)
    bins = pd.DataFrame.from_dict(by_bin, orient="index", columns=_bin_names(own))
    text = paragraph(
        "Split conformal prediction promises that s² lies above its bound no more often than the risk, over all "
        "severities together and on the degradation of training. At one severity, or on another degradation, nothing "
        "is promised: the second table and the maps show where it does not hold."
    )
    tables = html_table(whole, 1, "Measured violations, and where they lie if the promise is kept") + html_table(
        bins, 1, "Violations in each bin of severity, %"
    )
    return Section("Is the promised risk kept?", text + side_by_side(_stranger_maps(pairs)) + tables)


def _bin_names(pairs: Sequence[Pair]) -> list[str]:
    num_bins = pairs[0].num_bins
    return [bin_name(i, num_bins) for i in range(num_bins)]


def cost_section(results: "StudyResults") -> Section | None:
    """What the real error costs against a Gaussian one, and what other starts gain."""
    import pandas as pd

    own = [pair for pair in _own(results) if pair.restorations]
    if not own:
        return None
    real, others = {}, {}
    for pair in own:
        starts, name = pair.restorations, _name(pair, own)
        real[name] = [
            mean_interval(starts[REAL].psnr),
            mean_interval(starts[REAL].start_timestep),
            starts[GAUSSIAN].gain_over(starts[REAL]),
        ]
        white = starts[WHITE]
        gains = [starts[start].gain_over(white) for start in OTHERS]
        others[name] = [mean_interval(white.psnr), *gains, *(mean_interval(starts[start].nfe) for start in COSTED)]
    about_real = paragraph(
        "The same images restored from the real ẑ at the start that its true variance asks for, and, at the very same "
        "start, from z0 plus white Gaussian noise of that variance. What the second gains is likely more than what the "
        "real error costs by its shape, its correlations and its mean, but no bound of it: a latent whose noise has "
        "nothing to do with the measurement also tells of z0 what no estimate from the measurement can, and neither "
        "prior nor solver is ideal."
    )
    about_others = paragraph(
        "Over starts from the predicted variance with the same noise in all channels, as the forward reading has it: "
        "what the true variance gains; what it gains to add in each latent channel the noise that this channel lacks; "
        "to read ẑ as mmse does; to start from the recalibrated variance (isotonic), and from its bound at a risk of "
        "10 %, which begins earlier and needs more evaluations (NFE)."
    )
    heads = ["PSNR, true variance", "start timestep", "gained by a Gaussian error"]
    first = html_table(
        pd.DataFrame.from_dict(real, orient="index", columns=heads), 2, "PSNR, dB; gains are paired image by image"
    )
    heads = ["PSNR, predicted variance", *(f"gained, {start}" for start in OTHERS.values())]
    heads += [f"NFE, {start}" for start in COSTED.values()]
    second = html_table(
        pd.DataFrame.from_dict(others, orient="index", columns=heads), 2, "PSNR, dB; gains are paired image by image"
    )
    return Section("What does it cost?", about_real + first + about_others + second)


def closer_section(
    results: "StudyResults", degradation: str | None = None, severity: str = ALL, autoencoder: str | None = None
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
    pairs = [pair for pair in _own(results) if autoencoder in (None, pair.autoencoder)]
    groups = next((pair.groups for pair in pairs if pair.degradation == degradation), None)
    if groups is None:
        known = dict.fromkeys(pair.degradation for pair in pairs)
        raise UserError(f"no encoder of {degradation}; there are: {', '.join(known)}")
    if severity not in groups:
        raise UserError(f"no severity {severity!r}; there are: {', '.join(groups)}")
    panel = {"": {f"severity {severity}": groups[severity]}}
    draws = {"reliability": reliability_figure, "pit": pit_figure, "qq": qq_figure, "spectrum": spectrum_figure}
    figures = [svg(draw(panel), f"{TITLES[name]} at severity {severity}") for name, draw in draws.items()]
    title = f"{readable(degradation)}, severity {severity}"
    return Section(title, paragraph(verdict(groups[severity])) + side_by_side(figures))


SECTIONS = (
    verdict_section,
    level_section,
    shape_section,
    channel_section,
    structure_section,
    recalibration_section,
    promise_section,
    cost_section,
    closer_section,
)


def main_figure(results: "StudyResults") -> MainFigure:
    """The reliability diagrams."""
    own = _own(results)
    return MainFigure(
        reliability_figure({_name(pair, own): {"as predicted": pair.whole} for pair in own}), "The reliability diagrams"
    )


def _own(results: "StudyResults") -> list[Pair]:
    return matched_pairs(read_pairs(results))


def _name(pair: Pair, among: Sequence[Pair]) -> str:
    """What a pair is called: its degradation, with its autoencoder where there are several."""
    several = len({other.autoencoder for other in among}) > 1
    return f"{readable(pair.autoencoder)}, {readable(pair.degradation)}" if several else readable(pair.degradation)


def _table(
    pairs: Sequence[Pair],
    columns: Mapping[str, Callable[[Calibration], object]],
    decimals: Mapping[str, int] | int,
    caption: str,
) -> Markup:
    import pandas as pd

    rows = {_name(pair, pairs): [column(pair.whole) for column in columns.values()] for pair in pairs}
    return html_table(pd.DataFrame.from_dict(rows, orient="index", columns=list(columns)), decimals, caption)


def _at(curve: Curve, x: float) -> Estimate:
    """The estimate that stands at x."""
    return curve.estimates[int(np.abs(curve.x - x).argmin())]


def _reliability(pairs: Sequence[Pair]) -> Markup:
    panels = {_name(pair, pairs): {"as predicted": pair.whole} for pair in pairs}
    return side_by_side([svg(reliability_figure(panels), f"{TITLES['reliability']} of each encoder")])


def _stranger_maps(pairs: Sequence[Pair]) -> list[Markup]:
    """Violations and level of every encoder on every degradation, two maps for each autoencoder."""
    maps = []
    risk = middle_risk(pairs)
    for autoencoder in dict.fromkeys(pair.autoencoder for pair in pairs):
        mine = [pair for pair in pairs if pair.autoencoder == autoencoder]
        among = "" if len(mine) == len(pairs) else f", {readable(autoencoder)}"
        maps += [
            _stranger_map(
                mine,
                lambda pair: pair.violations(risk).scaled(100),
                f"Violations at a promised {100 * risk:g} %{among}, %",
                decimals=1,
            ),
            _stranger_map(
                mine,
                lambda pair: pair.ratio(recalibrated(pairs)),
                f"s² over recalibrated variance{among}",
                scale="ratio",
            ),
        ]
    return maps


def _stranger_map(
    pairs: Sequence[Pair],
    estimate: Callable[[Pair], Estimate],
    title: str,
    *,
    decimals: int = 2,
    scale: Literal["sequential", "ratio"] = "sequential",
) -> Markup:
    """Encoders x degradations, with frames around the matched."""
    found = {(pair.encoder, pair.degradation): pair for pair in pairs}
    encoders, degradations = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
    figure = heat_map(
        [[estimate(found[e, d]) if (e, d) in found else ABSENT for d in degradations] for e in encoders],
        encoders,
        degradations,
        title=title,
        row_title="encoder",
        column_title="tested on",
        decimals=decimals,
        scale=scale,
        outlined=[(i, j) for i, e in enumerate(encoders) for j, d in enumerate(degradations) if e == d],
    )
    return svg(figure, f"Heat map, encoders by degradations: {title}")
