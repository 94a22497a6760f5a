"""What the calibration study says in words: the verdict on each encoder, and the answer.

ẑ is the encoder's latent, e = ẑ - z0 its error, σ̂² (`var_hat`) the variance that the encoder predicts, s² the true one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from studies._calibration_rows import (
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
from workbench.metrics import Estimate
from workbench.metrics.calibration import Calibration, holding_channel
from workbench.reporting import listed, number, percent, ranged, readable, spoken

if TYPE_CHECKING:
    from workbench.results import StudyResults

TOLERANCE = 0.1
"""By how much s² / σ̂² may part from 1 where a prediction is called right."""
SIGNIFICANT = 0.05
"""Below which p the errors are said not to be Gaussian."""
GAUSSIAN_KURTOSIS = 3.0
HOLDS = {
    "mmse": "uncorrelated with ẑ (mmse)",
    "forward": "uncorrelated with z0 (forward)",
    "neither": "correlated with both ẑ and z0",
    "undecided": "not decided between ẑ and z0 to be correlated with",
}


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
    return [sentence for sentence in said if sentence]


def verdict(found: Calibration, by_severity: Sequence[Estimate] = ()) -> str:
    """A calibration in words, as clauses of a sentence.

    Args:
        by_severity: s² / σ̂² in each bin of severity, if known.
    """
    figures = found.figures
    size = round(figures["effective_elements"].mean / figures["effective_share"].mean)
    return (
        f"{_level_words(figures['ratio'], by_severity)}, ENCE {number(figures['ence'].mean, 2)}; "
        f"{_tail_words(figures['kurtosis'])}: kurtosis {spoken(figures['kurtosis'], 1)} "
        f"(within images {number(figures['within_kurtosis'].mean, 1)}), likeliest law {_law_words(found)}; "
        f"neighbours correlated {spoken(figures['neighbour_correlation'], 2)}, "
        f"effective d = {spoken(figures['effective_elements'], 0)} of {size}; "
        f"the error is {HOLDS[holding_channel(figures['forward_share'])]}."
    )


def _level_words(ratio: Estimate, by_severity: Sequence[Estimate]) -> str:
    """Right, wrong or not decided, and from where to where it goes over bins of severity."""
    right = ratio.within(1 - TOLERANCE, 1 + TOLERANCE)
    known = [value.mean for value in by_severity if value.num_images]
    bins = f" ({ranged(known, 2)} by bin of severity)" if known else ""
    if right:
        return f"level right within {100 * max(abs(ratio.low - 1), abs(ratio.high - 1)):.0f} %{bins}"
    told = "wrong" if right is False else f"not decided by {ratio.num_images} images"
    return f"level {told}: true over predicted variance {spoken(ratio, 2)}{bins}"


def _tail_words(kurtosis: Estimate) -> str:
    if kurtosis.low > GAUSSIAN_KURTOSIS:
        return "tails heavier than Gaussian"
    return "tails lighter than Gaussian" if kurtosis.high < GAUSSIAN_KURTOSIS else "tails as Gaussian"


def _law_words(found: Calibration) -> str:
    best = next(iter(found.fits.values()))
    if best.df is not None:
        return f"a Student t with {best.df:.0f} degrees of freedom"
    return {"gaussian": "a Gaussian", "laplace": "a Laplace"}[best.family]


def _gaussian_sentence(own: Sequence[Pair]) -> str:
    kurtosis = [pair.whole.figures["kurtosis"] for pair in own]
    heavy = sum(value.low > GAUSSIAN_KURTOSIS for value in kurtosis)
    light = sum(value.high < GAUSSIAN_KURTOSIS for value in kurtosis)
    apart = sum(pair.whole.p_values["shape_ks"] < SIGNIFICANT for pair in own)
    distance = [pair.whole.figures["shape_ks"].mean for pair in own]
    share = [pair.whole.figures["effective_share"].mean for pair in own]
    return (
        f"{'No' if apart == len(own) else 'Not always' if apart else 'As far as this can tell, yes'}: standardised "
        f"errors part from the Gaussian of their own mean and variance for {apart} of {len(own)} encoders "
        f"(p < {SIGNIFICANT:g}, images resampled), by {ranged(distance, 3)} in Kolmogorov and Smirnov's distance; "
        f"tails are heavier than a Gaussian's for {heavy} and lighter for {light}, with a kurtosis of "
        f"{ranged([value.mean for value in kurtosis], 1)} where a Gaussian has 3. Elements are not independent either: "
        f"correlations leave {ranged([100 * value for value in share], 0)} % of their number."
    )


def _level_sentence(own: Sequence[Pair]) -> str:
    ratios = [pair.whole.figures["ratio"] for pair in own]
    right = sum(ratio.within(1 - TOLERANCE, 1 + TOLERANCE) is True for ratio in ratios)
    holds = [holding_channel(pair.whole.figures["forward_share"]) for pair in own]
    counts = listed([f"{name} for {holds.count(name)}" for name in dict.fromkeys(holds)])
    return (
        f"As predicted, the true variance is {ranged([ratio.mean for ratio in ratios], 2)} of the predicted one, by "
        f"encoder, over all severities: right within {100 * TOLERANCE:.0f} % for {right} of {len(own)}. Which channel "
        f"holds: {counts} of {len(own)} encoders."
    )


def _recalibration_sentence(own: Sequence[Pair]) -> str:
    column = recalibrated(own)
    if column == OWN:
        return ""
    before, after = (
        [ratio.mean for pair in own for ratio in pair.ratios(c) if ratio.num_images] for c in (OWN, column)
    )
    right = sum(abs(value - 1) <= TOLERANCE for value in after)
    ences = [pair.ence(column).mean for pair in own]
    return (
        f"Within bins of severity it is {ranged(before, 2)} before and {ranged(after, 2)} after recalibration "
        f"({VARIANCES[column]}), which puts {right} of {len(after)} bins within {100 * TOLERANCE:.0f} % of 1; ENCE is "
        f"then {ranged(ences, 3)}."
    )


def _promise_sentence(own: Sequence[Pair]) -> str:
    found = {risk: [pair for pair in own if risk in pair.risks] for pair in own for risk in pair.risks}
    words = [pair.promise(risk) for risk, pairs in found.items() for pair in pairs]
    rates = listed(
        [
            f"{ranged([100 * pair.violations(risk).mean for pair in pairs], 1)} % at {100 * risk:g} %"
            for risk, pairs in found.items()
        ]
    )
    broken, looser = words.count("broken"), words.count("kept, more than promised")
    if broken:
        return f"The promised risk is broken in {broken} of {len(words)} cases: s² lies above its bound in {rates}."
    less = f", and less often in {looser}" if looser else ""
    return (
        f"The promised risk is kept: s² lies above its bound in {rates}, within what chance allows in "
        f"{words.count('kept')} of {len(words)} cases{less}."
    )


def _stranger_sentence(strangers: Sequence[Pair]) -> str:
    risk = middle_risk(strangers)
    rates = [pair.violations(risk) for pair in strangers]
    broken = [pair.promise(risk) == "broken" for pair in strangers]
    worst = max(zip(rates, strangers, strict=True), key=lambda both: both[0].mean)
    return (
        f"On another degradation than it was trained on, an encoder breaks the promised {100 * risk:g} % in "
        f"{sum(broken)} of {len(rates)} cases; at worst the {readable(worst[1].encoder)} encoder on "
        f"{readable(worst[1].degradation)}, in {percent(worst[0])} of images."
    )


def _cost_sentence(own: Sequence[Pair]) -> str:
    gains = [pair.restorations[GAUSSIAN].gain_over(pair.restorations[REAL]) for pair in own]
    most = max(zip(gains, own, strict=True), key=lambda both: both[0].mean)
    others = []
    for start, title in OTHERS.items():
        found = [pair.restorations[start].gain_over(pair.restorations[WHITE]) for pair in own]
        helped, hurt = (sum(gain.low > 0 for gain in found), sum(gain.high < 0 for gain in found))
        others.append(
            f"{title} {ranged([gain.mean for gain in found], 2)} dB (helps {helped}, hurts {hurt} of {len(own)})"
        )
    return (
        f"Restored from z0 plus Gaussian noise of the same variance, at the same start, PSNR changes by "
        f"{ranged([gain.mean for gain in gains], 2)} dB, most on {readable(most[1].degradation)} "
        f"({spoken(most[0], 2, ' dB')}): likely more than what shape, correlations and mean of the error cost, since "
        f"such noise, which owes nothing to the measurement, leaves more to know of z0, but no bound (the real error "
        f"restores measurably better for {sum(gain.high < 0 for gain in gains)} of {len(own)}). Over the predicted "
        f"variance other starts change it by: {'; '.join(others)}."
    )
