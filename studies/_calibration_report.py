"""What the calibration study says: its answer, and the sections of its page.

e = ẑ - z0 is the error of the encoder's latent, σ̂² (`var_hat`) the variance that the encoder predicts, s² the true
one, and z = e / σ̂.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

from studies._calibration_rows import (
    CHANNEL,
    GAUSSIAN,
    NUM_BINS,
    REAL,
    WHITE,
    Pair,
    matched_pairs,
    read_pairs,
)
from studies._rows import ABSENT
from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval, violation_rate, violation_rates
from workbench.metrics.calibration import ALL, Calibration, bins_for, ence_of, holding_channel
from workbench.reporting import (
    Section,
    heat_map,
    html_table,
    listed,
    number,
    paragraph,
    percent,
    png,
    ranged,
    readable,
    side_by_side,
    spoken,
    svg,
)
from workbench.reporting.calibration import pit_figure, qq_figure, reliability_figure, spectrum_figure
from workbench.severity.conformal import promised_range
from workbench.stages.measure_calibration import bin_name

if TYPE_CHECKING:
    from workbench.results import StudyResults

OWN, FACTOR, ISOTONIC = "var_hat", "var_factor", "var_isotonic"
VARIANCES = {"as predicted": OWN, "one factor": FACTOR, "isotonic": ISOTONIC}
"""The columns of variances by what they are called here."""
TOLERANCE = 0.1
"""By how much s² / σ̂² may part from 1, and how large ENCE may be, where a prediction is called right."""
GAUSSIAN_KURTOSIS = 3.0
TITLES = {"reliability": "Reliability diagram", "pit": "PIT histogram", "qq": "QQ plot", "spectrum": "Spectrum"}


def answer(results: "StudyResults") -> list[str]:
    """A few paragraphs of a sentence or two, each with the figures that it rests on."""
    pairs = read_pairs(results)
    own = matched_pairs(pairs)
    if not own:
        return ["These results hold no encoder on the degradation that it was trained on: they cannot say."]
    said = [_gaussian_sentence(own), _level_sentence(own), _recalibration_sentence(own), _promise_sentence(own)]
    if strangers := [pair for pair in pairs if not pair.is_matched]:
        said.append(_stranger_sentence(strangers))
    if any(pair.restorations for pair in own):
        said.append(_cost_sentence([pair for pair in own if pair.restorations]))
    return said


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
    sentences = [Markup("<li><b>{}</b>: {}</li>").format(_name(pair, own), verdict(pair.whole)) for pair in own]
    text = Markup("<ul>{}</ul>").format(Markup().join(sentences))
    return Section("The verdict", text + table)


def verdict(found: Calibration) -> str:
    """A calibration in words, as clauses of a sentence."""
    figures = found.figures
    off = max(abs(figures["ratio"].low - 1), abs(figures["ratio"].high - 1))
    level = f"level right within {100 * off:.0f} %" if off <= TOLERANCE else (
        f"level wrong: true over predicted variance {spoken(figures['ratio'], 2)}"
    )  # fmt: skip
    kurtosis = figures["kurtosis"]
    tails = (
        "tails heavier than Gaussian"
        if kurtosis.low > GAUSSIAN_KURTOSIS
        else "tails lighter than Gaussian"
        if kurtosis.high < GAUSSIAN_KURTOSIS
        else "tails as Gaussian"
    )
    best = next(iter(found.fits.values()))
    law = {"gaussian": "a Gaussian", "laplace": "a Laplace", "student_t": "a Student t"}[best.family]
    degrees = f" with {best.df:.0f} degrees of freedom" if best.df is not None else ""
    size = round(figures["effective_elements"].mean / figures["effective_share"].mean)
    holds = {"mmse": "independent of ẑ (mmse)", "forward": "independent of z0 (forward)", "neither": "tied to ẑ and z0"}
    return (
        f"{level}; {tails}: kurtosis {spoken(kurtosis, 1)}, likeliest law {law}{degrees}; "
        f"neighbours correlated {spoken(figures['neighbour_correlation'], 2)}, "
        f"effective d = {figures['effective_elements'].mean:.0f} of {size}; "
        f"the error is {holds[holding_channel(figures['forward_share'])]}."
    )


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
            "coverage of 90 %": lambda found: found.curves["coverage"].estimates[2],
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
    return Section("Is the predicted variance right?", text + _reliability(own) + level + scores)


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
    return Section("Is the error Gaussian?", text + side_by_side(figures) + moments + distances)


def channel_section(results: "StudyResults") -> Section:
    """Of what is the error independent, and has it a mean?"""
    own = _own(results)
    text = paragraph(
        "Two readings of ẑ are in use. Under forward, ẑ = z0 + e, the error is independent of the clean latent, and "
        "cov(e, ẑ) / var(e) is 1. Under mmse, ẑ is the mean of all latents that the measurement allows, the error is "
        "independent of ẑ, and that share is 0. Training by squared error gives the second."
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
    return Section("Of what is the error independent?", text + table)


def structure_section(results: "StudyResults") -> Section:
    """Is the error equally strong everywhere, and how much do its elements depend on each other?"""
    own = _own(results)
    text = paragraph(
        "Spreads are coefficients of variation of the variance over channels and positions. Effective elements are as "
        "many as, if independent, would leave s² as uncertain as it is. A white error has power 1 at all frequencies."
    )
    table = _table(
        own,
        {
            "spread over channels": lambda found: found.figures["channel_spread"],
            "by chance": lambda found: found.floors["channel_spread"],
            "spread over positions": lambda found: found.figures["position_spread"],
            "positions, by chance": lambda found: found.floors["position_spread"],
            "neighbours' correlation": lambda found: found.figures["neighbour_correlation"],
            "correlation of channels": lambda found: found.figures["channel_correlation"],
            "effective elements": lambda found: found.figures["effective_elements"],
        },
        {"effective elements": 0} | dict.fromkeys(["spread over channels", "by chance", "spread over positions"], 3),
        "Isotropy and independence, all severities",
    )
    bins = {_name(pair, own): {f"severity {name}": one for name, one in pair.bins.items()} for pair in own}
    figure = svg(spectrum_figure(bins), f"{TITLES['spectrum']} by severity")
    return Section("Is it equally strong everywhere, and independent?", text + side_by_side([figure]) + table)


def recalibration_section(results: "StudyResults") -> Section:
    """The level in each bin of severity, before and after."""
    import pandas as pd

    own = _own(results)
    names = [_name(pair, own) for pair in own]
    columns = [bin_name(i, NUM_BINS) for i in range(NUM_BINS)]
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
        for title, column in VARIANCES.items()
    ]
    rows = {
        name: [*(pair.ratio(column) for column in VARIANCES.values()), *(_ence(pair, c) for c in VARIANCES.values())]
        for name, pair in zip(names, own, strict=True)
    }
    heads = [*(f"s² / variance, {title}" for title in VARIANCES), *(f"ENCE, {title}" for title in VARIANCES)]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=heads)
    text = paragraph(
        "Fitted on validation images at all severities: one factor on σ̂², or any increasing function of it (isotonic). "
        "Both make the level right on average; where severities part from each other at the same σ̂², neither can help, "
        "for they see σ̂² alone."
    )
    caption = "Before and after recalibration, all severities"
    return Section("What does recalibration mend?", text + side_by_side(figures) + html_table(table, 3, caption))


def promise_section(results: "StudyResults") -> Section:
    """How often s² lies above the bound that it should exceed with a given probability."""
    import pandas as pd

    pairs = read_pairs(results)
    own = matched_pairs(pairs)
    rates, by_bin = {}, {}
    for pair in own:
        for risk in _risks(pair):
            name = f"{_name(pair, own)}, {100 * risk:g} %"
            measured, (low, high) = _violations(pair, risk), _promised(pair, risk)
            kept = "yes" if low <= measured.mean <= high else "no"
            rates[name] = [measured.scaled(100), f"{number(100 * low, 1)} to {number(100 * high, 1)}", kept]
            bound = pair.values(f"bound_{risk:g}")
            in_bins = violation_rates(pair.values("s2"), bound, pair.values("severity"), NUM_BINS)
            by_bin[name] = [rate.scaled(100) for rate in in_bins]
    heads = ["violated, %", "by chance in 95 of 100 trials, %", "kept"]
    whole = pd.DataFrame.from_dict(rates, orient="index", columns=heads)
    bins = pd.DataFrame.from_dict(by_bin, orient="index", columns=[bin_name(i, NUM_BINS) for i in range(NUM_BINS)])
    text = paragraph(
        "Split conformal prediction promises that s² lies above its bound no more often than the risk, over all "
        "severities together and on the degradation of training. At one severity, or on another degradation, nothing "
        "is promised: the second table and the maps show where it does not hold."
    )
    tables = html_table(whole, 1, "Measured violations, and where they lie if the promise is kept") + html_table(
        bins, 1, "Violations in each bin of severity, %"
    )
    return Section("Is the promised risk kept?", text + side_by_side(_stranger_maps(pairs)) + tables)


def cost_section(results: "StudyResults") -> Section | None:
    """What the real error costs against a Gaussian one, and what noise by channel gains."""
    import pandas as pd

    own = [pair for pair in _own(results) if pair.restorations]
    if not own:
        return None
    rows = {}
    for pair in own:
        starts = pair.restorations
        rows[_name(pair, own)] = [
            mean_interval(starts[REAL].psnr),
            mean_interval(starts[REAL].start_timestep),
            starts[GAUSSIAN].gain_over(starts[REAL]),
            starts[REAL].gain_over(starts[WHITE]),
            starts[CHANNEL].gain_over(starts[WHITE]),
        ]
    heads = [
        "PSNR, true variance",
        "start timestep",
        "gained by a Gaussian error",
        "gained by the true variance",
        "gained by noise by channel",
    ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=heads)
    text = paragraph(
        "The same images restored from the real ẑ at the start that its true variance asks for, and, at the very same "
        "start, from z0 plus white Gaussian noise of that variance. What the second is better bounds from above what "
        "the real error costs by its shape and its correlations: a latent whose noise has nothing to do with the "
        "measurement also tells of z0 what the measurement does not, which no estimate from the measurement can."
    ) + paragraph(
        "Beside it: what the true variance gains over the predicted one, and what it gains to add, in each latent "
        "channel, the noise that this channel lacks, in place of the same noise in all."
    )
    caption = "PSNR, dB; gains are paired image by image"
    return Section("What does it cost?", text + html_table(table, 2, caption))


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
        raise UserError(f"no encoder of {degradation}; there are: {', '.join(pair.degradation for pair in pairs)}")
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


def picture(results: "StudyResults") -> bytes:
    """The reliability diagrams."""
    own = _own(results)
    return png(reliability_figure({_name(pair, own): {"as predicted": pair.whole} for pair in own}))


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


def _reliability(pairs: Sequence[Pair]) -> Markup:
    panels = {_name(pair, pairs): {"as predicted": pair.whole} for pair in pairs}
    return side_by_side([svg(reliability_figure(panels), f"{TITLES['reliability']} of each encoder")])


def _ence(pair: Pair, column: str) -> Estimate:
    return ence_of(pair.values(column), pair.values("square"), bins_for(len(pair.rows)))


def _risks(pair: Pair) -> list[float]:
    """The risks that the rows hold bounds for."""
    return [float(name.removeprefix("bound_")) for name in pair.rows.columns if name.startswith("bound_")]


def _violations(pair: Pair, risk: float) -> Estimate:
    return violation_rate(pair.values("s2"), pair.values(f"bound_{risk:g}"))


def _promised(pair: Pair, risk: float) -> tuple[float, float]:
    return promised_range(risk, int(pair.rows["num_scores"].iloc[0]), len(pair.rows))


def _stranger_maps(pairs: Sequence[Pair]) -> list[Markup]:
    """Violations and level of every encoder on every degradation, two maps for each autoencoder."""
    maps = []
    risk = _middle_risk(pairs)
    for autoencoder in dict.fromkeys(pair.autoencoder for pair in pairs):
        mine = [pair for pair in pairs if pair.autoencoder == autoencoder]
        among = "" if len(mine) == len(pairs) else f", {readable(autoencoder)}"
        maps += [
            _stranger_map(
                mine,
                lambda pair: _violations(pair, risk).scaled(100),
                f"Violations at a promised {100 * risk:g} %{among}, %",
                decimals=1,
            ),
            _stranger_map(
                mine, lambda pair: pair.ratio(ISOTONIC), f"s² over recalibrated variance{among}", scale="ratio"
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


def _middle_risk(pairs: Sequence[Pair]) -> float:
    """The risk that is spoken of where one has to do."""
    risks = sorted(_risks(pairs[0]))
    return risks[(len(risks) - 1) // 2]


def _gaussian_sentence(own: Sequence[Pair]) -> str:
    kurtosis = [pair.whole.figures["kurtosis"] for pair in own]
    heavy = sum(value.low > GAUSSIAN_KURTOSIS for value in kurtosis)
    distance = [pair.whole.figures["shape_ks"].mean for pair in own]
    share = [pair.whole.figures["effective_share"].mean for pair in own]
    return (
        f"{'No' if heavy == len(own) else 'Not always' if heavy else 'As far as this can tell, yes'}: tails are "
        f"heavier than Gaussian for {heavy} of {len(own)} encoders, with a kurtosis of "
        f"{ranged([value.mean for value in kurtosis], 1)} where a Gaussian has 3; their distribution parts from a "
        f"Gaussian's by at most {ranged(distance, 3)} (Kolmogorov-Smirnov). Elements are not independent either: they "
        f"are worth {ranged([100 * value for value in share], 0)} % of their number."
    )


def _level_sentence(own: Sequence[Pair]) -> str:
    ratios = [pair.whole.figures["ratio"].mean for pair in own]
    holds = [holding_channel(pair.whole.figures["forward_share"]) for pair in own]
    counts = listed([f"{name} for {holds.count(name)}" for name in dict.fromkeys(holds)])
    return (
        f"As predicted, the true variance is {ranged(ratios, 2)} of the predicted one, by encoder, over all "
        f"severities. Which channel holds: {counts} of {len(own)} encoders."
    )


def _recalibration_sentence(own: Sequence[Pair]) -> str:
    before, after = ([ratio for pair in own for ratio in pair.ratios(column)] for column in (OWN, ISOTONIC))
    known = [value.mean for value in after if value.num_images]
    right = sum(abs(value - 1) <= TOLERANCE for value in known)
    ences = [_ence(pair, ISOTONIC).mean for pair in own]
    return (
        f"Within bins of severity it is {ranged([value.mean for value in before if value.num_images], 2)} before and "
        f"{ranged(known, 2)} after isotonic recalibration, which puts {right} of {len(known)} bins within "
        f"{100 * TOLERANCE:.0f} % of 1; ENCE is then {ranged(ences, 3)}."
    )


def _promise_sentence(own: Sequence[Pair]) -> str:
    kept, asked = 0, 0
    rates: dict[float, list[float]] = {}
    for pair in own:
        for risk in _risks(pair):
            low, high = _promised(pair, risk)
            rates.setdefault(risk, []).append(_violations(pair, risk).mean)
            asked, kept = asked + 1, kept + (low <= rates[risk][-1] <= high)
    spoken_rates = listed(
        [f"{ranged([100 * r for r in found], 1)} % at {100 * risk:g} %" for risk, found in rates.items()]
    )
    return (
        f"The promised risk is kept: s² lies above its bound in {spoken_rates}, within what chance allows in {kept} of "
        f"{asked} cases."
        if kept == asked
        else f"The promised risk is kept in {kept} of {asked} cases: s² lies above its bound in {spoken_rates}."
    )


def _stranger_sentence(strangers: Sequence[Pair]) -> str:
    risk = _middle_risk(strangers)
    rates = [_violations(pair, risk) for pair in strangers]
    broken = [rate.low > risk for rate in rates]
    worst = max(zip(rates, strangers, strict=True), key=lambda both: both[0].mean)
    return (
        f"On another degradation than it was trained on, an encoder breaks the promised {100 * risk:g} % in "
        f"{sum(broken)} of {len(rates)} cases; at worst the {readable(worst[1].encoder)} encoder on "
        f"{readable(worst[1].degradation)}, in {percent(worst[0])} of images."
    )


def _cost_sentence(own: Sequence[Pair]) -> str:
    gains = [pair.restorations[GAUSSIAN].gain_over(pair.restorations[REAL]) for pair in own]
    channels = [pair.restorations[CHANNEL].gain_over(pair.restorations[WHITE]) for pair in own]
    helped = sum(gain.low > 0 for gain in channels)
    most = max(zip(gains, own, strict=True), key=lambda both: both[0].mean)
    return (
        f"From z0 plus Gaussian noise of the same variance, at the same start, images are restored "
        f"{ranged([gain.mean for gain in gains], 2)} dB better, most on {readable(most[1].degradation)} "
        f"({spoken(most[0], 2, ' dB')}): an upper bound of what shape and correlations cost, since such noise, which "
        f"owes nothing to the measurement, leaves more to know of z0. Adding each channel the noise that it lacks "
        f"changes PSNR by {ranged([gain.mean for gain in channels], 2)} dB: it helps {helped} of {len(own)} encoders."
    )
