"""What the autoencoders study says: its answer, and the sections of its page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies._autoencoders_rows import (
    BESIDE,
    FULL,
    LOSSLESS,
    MATCHED,
    ORACLE,
    Contest,
    Found,
    Itself,
    Pair,
    ceiling_of,
    read,
)
from studies._rows import ABSENT, has_column, over_images
from studies._trivial import trivial_table, trivial_text
from workbench.metrics import Estimate, mean_interval
from workbench.reporting import (
    QUANTITIES,
    Line,
    MainFigure,
    Section,
    column_estimate,
    curves,
    html_table,
    listed,
    number,
    paragraph,
    ranged,
    readable,
    side_by_side,
    spoken,
    svg,
)
from workbench.reporting.calibration import reliability_figure
from workbench.stages.measure_cost import DECODING, ENCODING, STEP

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from workbench.results import StudyResults

TOLERANCE = 0.1
"""By how much s2 / var_hat may part from 1 where a prediction is called right."""


def answer(results: "StudyResults") -> list[str]:
    """A few paragraphs, each with the figures that it rests on."""
    found = read(results)
    said = [_readable_sentence(found), _level_sentence(found), _ceiling_sentence(found), _blame_sentence(found)]
    return [*(sentence for sentence in said if sentence), _confounds(found)]


def readable_section(results: "StudyResults") -> Section | None:
    """Does the predicted variance follow the error and the level, and is it right?"""
    found = read(results)
    rows = {}
    for pair in found.pairs:
        if pair.reading is None:
            continue
        figures, floors = pair.reading.calibration.figures, pair.reading.calibration.floors
        rows[_name(pair)] = [
            pair.reading.rank("s2"),
            pair.reading.rank("severity"),
            mean_interval(pair.reading.columns["s2"]),
            figures["ratio"],
            mean_interval(pair.reading.columns["s2"] / pair.reading.columns["var_factor"]),
            figures["ence"],
            floors["ence"],
            figures["kurtosis"],
            figures["neighbour_correlation"],
            figures["effective_elements"],
            figures["effective_share"],
        ]
    if not rows:
        return None
    heads = [
        "rank, error",
        "rank, level",
        "s² of ẑ",
        "s² / σ̂² (1)",
        "after one factor",
        "ENCE (0)",
        "by chance",
        "kurtosis (3)",
        "neighbours' correlation (0)",
        "effective elements",
        "share (1)",
    ]
    text = paragraph(
        "σ̂² is what the severity encoder predicts, s² the true variance of its latent's error, in latents of unit "
        "variance. Rank is Spearman's correlation of σ̂² with the true error, which is what a start has to know, and "
        "with the level of the degradation, from which content takes away. One factor is fitted on validation images. "
        "In brackets stands what it would be for the error that SNR matching assumes."
    )
    lines = {
        degradation: {
            pair.autoencoder: pair.reading.calibration
            for pair in found.pairs
            if pair.degradation == degradation and pair.reading is not None
        }
        for degradation in found.degradations
    }
    figure = svg(reliability_figure(lines), "Predicted over true error of each bin, by autoencoder and degradation")
    table = html_table(_frame(rows, heads, "autoencoder, degradation"), {"effective elements": 0, "ENCE (0)": 3})
    readings = {_name(pair): pair.reading.columns for pair in found.pairs if pair.reading is not None}
    table += trivial_text(readings) + trivial_table(readings, "autoencoder, degradation")
    return Section("Which autoencoder makes severity readable?", text + side_by_side([figure]) + table)


def itself_section(results: "StudyResults") -> Section | None:
    """What each autoencoder loses, and what its latents look like."""
    rows = {}
    itself = read(results).itself
    ssim = "ssim_valid" if all(one.ssim_valid is not None for one in itself.values()) else "ssim"
    ceiling_ssim = f"ceiling, {QUANTITIES[ssim].label}"
    for name, one in itself.items():
        figures = one.latents.figures
        variance = one.latents.curves["channel_variance"].mean
        rows[readable(name)] = [
            ceiling_of(one.psnr),
            mean_interval(getattr(one, ssim)),
            " x ".join(map(str, one.latent_shape)),
            f"{number(variance.min(), 2)} to {number(variance.max(), 2)}",
            figures["channel_spread"],
            figures["position_spread"],
            figures["kurtosis"],
            figures["neighbour_correlation"],
            figures["channel_correlation"],
            figures["effective_share"],
        ]
    if not rows:
        return None
    heads = [
        "ceiling, PSNR in dB",
        ceiling_ssim,
        "latent",
        "variance of channels (1)",
        "spread over channels (0)",
        "over positions (0)",
        "kurtosis (3)",
        "neighbours' correlation (0)",
        "correlation of channels (0)",
        "effective share (1)",
    ]
    text = paragraph(
        "The ceiling is what a clean image loses through encoder and decoder: no restoration can be expected above it. "
        f"From {LOSSLESS:.0f} dB an image counts as lossless, and for no more: rounding to 8 bits leaves 58.9 dB. "
        "Latents are those of clean images; in brackets stands what they would be for pure noise, from which the prior "
        "begins. Effective share: what correlations and unequal variances leave of the number of elements."
    )
    table = html_table(_frame(rows, heads, "autoencoder"), {ceiling_ssim: 3})
    return Section("What are the autoencoders by themselves?", text + table)


LPIPS = "LPIPS (less is better)"


def _dearer(restored: "Sequence[tuple[Pair, DataFrame]]") -> Markup:
    """Of which autoencoders the run from pure noise is the cheaper one: a gain over it is then no free one."""
    names = [
        _name(pair) for pair, run in restored if FULL in pair.runs and run["nfe"].mean() > pair.runs[FULL]["nfe"].mean()
    ]
    if not names:
        return Markup()
    return paragraph(f"Runs from pure noise take fewer evaluations than those they stand beside for {listed(names)}.")


def restoration_section(results: "StudyResults") -> Section:
    """Restorations from each start, beside the ceiling and what is decoded without diffusion; LPIPS where measured."""
    found = read(results)
    restored = [(pair, pair.runs[MATCHED]) for pair in found.pairs if MATCHED in pair.runs]
    perceptual = any(has_column(run, "lpips") for _, run in restored)
    ssim = "ssim_valid" if all(has_column(run, "ssim_valid") for _, run in restored) else "ssim"
    rows = {}
    for pair, run in restored:
        rows[_name(pair)] = [
            column_estimate(run, "psnr_degraded"),
            column_estimate(run, "psnr_decoded"),
            column_estimate(run, "psnr"),
            column_estimate(run, ssim),
            *([column_estimate(run, "lpips") if has_column(run, "lpips") else ABSENT] if perceptual else []),
            _gain(pair, ORACLE),
            _gain(pair, FULL),
            ceiling_of(run["psnr_ceiling"]),
            column_estimate(run, "nfe"),
            mean_interval(run["start_timestep"]),
            mean_interval(run["oracle_timestep"]),
            f"{float(run['tuned_value'].iloc[0]):g}{' (edge)' if bool(run['at_edge'].any()) else ''}",
        ]
    heads = [
        "degraded, dB",
        "decoded, no diffusion, dB",
        "restored, dB",
        QUANTITIES[ssim].label,
        *([LPIPS] if perceptual else []),
        "gain over the true error's start, dB",
        "gain over pure noise, dB",
        "ceiling, dB",
        "NFE",
        "start timestep",
        "by the true error",
        "guidance",
    ]
    text = paragraph(
        "Flash(LDPS), guidance chosen on validation images for each run; (edge) where the best was the last one tried. "
        "Gains are paired, image by image: of the start that the severity encoder says over one that knows the true "
        "error (what reading costs; negative: it costs) and over pure noise, which no encoder steers. What is decoded "
        "has no prior in it. Starts tell of severity in each autoencoder's own latents. The figure leaves out "
        "autoencoders that lose nothing."
    )
    text += _dearer(restored)
    figure = svg(_ceiling_figure(found), "PSNR over the ceiling of each autoencoder, by degradation")
    table = html_table(
        _frame(rows, heads, "autoencoder, degradation"),
        {QUANTITIES[ssim].label: 3, LPIPS: 3, "NFE": 1, "start timestep": 0, "by the true error": 0},
    )
    contests = {
        f"{readable(one.higher)} over {readable(one.lower)}, {readable(one.degradation)}": [one.gain, one.from_noise]
        for one in found.contests()
    }
    if contests:
        caption = "The one with the higher ceiling over the other, same images"
        table += html_table(_frame(contests, ["gain, dB", "from pure noise, dB"], "two autoencoders"), 2, caption)
    return Section("Does a higher ceiling help restoration?", text + side_by_side([figure]) + table)


def cost_section(results: "StudyResults") -> Section | None:
    """Parameters, time and compute of the parts, and of a whole restoration."""
    found = read(results)
    if not found.itself:
        return None
    rows = {name: _costs(found, name, one) for name, one in found.itself.items()}
    parts = [f"{part}, {unit}" for part in (ENCODING, STEP, DECODING) for unit in ("ms", "GFLOP")]
    heads = ["parameters", "of its encoder", *parts, "restoration, NFE", "restoration, GFLOP", "restoration, ms"]
    where = listed(list(dict.fromkeys(one.where for one in found.itself.values() if one.where)) or ["no machine"])
    text = paragraph(
        f"Parts an image, medians, on {where}; parts of random weights, which does not change a cost. A restoration's "
        "figures are means over the images above, all degradations, from where the severity encoder says."
    )
    decimals = dict.fromkeys(["parameters", "of its encoder"], 0) | dict.fromkeys(parts, 3) | {"restoration, ms": 0}
    table = html_table(_frame({readable(name): row for name, row in rows.items()}, heads, "autoencoder"), decimals)
    return Section("What do they cost?", text + table)


def confound_section(results: "StudyResults") -> Section:
    """What else differs between autoencoders."""
    found = read(results)
    return Section("What else differs?", paragraph(_confounds(found)) + paragraph(REMOVED))


REMOVED = (
    "Three columns help to keep the prior apart. What is decoded without diffusion has no prior in it; a start "
    "from the true error has no predicted variance in it, so that the gain over it is the prediction's alone; and "
    "from pure noise only prior and guidance are at work. What a network beside reads cannot be told from the "
    "autoencoder. Errors count in latents of unit variance: the same s² is another error in the image for each "
    "autoencoder, so it ranks images of one autoencoder, and not autoencoders."
)


def main_figure(results: "StudyResults") -> MainFigure:
    """PSNR over the ceiling of the autoencoder."""
    return MainFigure(_ceiling_figure(read(results)), "PSNR over the ceiling of the autoencoder")


DRAWN = {"restored": (MATCHED, "psnr"), "from pure noise": (FULL, "psnr"), "decoded": (MATCHED, "psnr_decoded")}
"""The lines over the ceiling: start and column."""


def _ceiling_figure(found: Found) -> "Figure":
    """PSNR over the ceiling, one panel per degradation; what loses nothing has no place on the axis."""
    ceilings = {name: ceiling_of(one.psnr).mean for name, one in found.itself.items()}
    lossy = sorted((ceiling, name) for name, ceiling in ceilings.items() if ceiling < LOSSLESS)
    pairs = {(pair.degradation, pair.autoencoder): pair for pair in found.pairs}
    # a place without a figure, so that the last autoencoder's name has room
    room = [lossy[-1][0] + max(0.2 * (lossy[-1][0] - lossy[0][0]), 0.5)] if lossy else []
    panels: dict[str, dict[str, Line]] = {}
    for degradation in found.degradations:
        panels[degradation] = {}
        for line, (start, column) in DRAWN.items():
            there = [
                (ceiling, pairs[degradation, name].runs[start])
                for ceiling, name in lossy
                if (degradation, name) in pairs and start in pairs[degradation, name].runs
            ]
            places, figures = [x for x, _ in there], [column_estimate(run, column) for _, run in there]
            panels[degradation][line] = Line([*places, *room], [*figures, *(ABSENT for _ in room)])
    return curves(
        panels,
        title="PSNR over the ceiling of the autoencoder",
        x_label="ceiling, dB",
        y_label="PSNR, dB",
        x_marks={name: ceiling for ceiling, name in lossy},
        order=tuple(DRAWN),
    )


def _costs(found: Found, name: str, one: Itself) -> list[object]:
    parts = [
        one.costs[part][quantity] * scale if one.costs else float("nan")
        for part in (ENCODING, STEP, DECODING)
        for quantity, scale in (("seconds", 1e3), ("flops", 1e-9))
    ]
    runs = [pair.runs[MATCHED] for pair in found.pairs if pair.autoencoder == name and MATCHED in pair.runs]
    whole = [
        mean_interval(over_images([run[column] * scale for run in runs])) if runs else ABSENT
        for column, scale in (("nfe", 1.0), ("flops", 1e-9), ("seconds", 1e3))
    ]
    return [one.parameters, one.encoder_parameters, *parts, *whole]


def _gain(pair: Pair, over: str) -> Estimate:
    return pair.gain(MATCHED, over) if over in pair.runs else ABSENT


def _name(pair: Pair) -> str:
    return f"{readable(pair.autoencoder)}, {readable(pair.degradation)}"


def _frame(rows: dict[str, list[object]] | dict[str, list[Estimate]], heads: Sequence[str], index: str) -> "DataFrame":
    import pandas as pd

    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(heads))
    frame.index.name = index
    return frame


def _readable_sentence(found: Found) -> str:
    names = [name for name in found.names if found.readings(name)]
    if not names:
        return ""
    ranks = {name: found.readability(name) for name in names}
    order = sorted(names, key=lambda name: -ranks[name].mean)
    figures = listed([f"{readable(name)} {spoken(ranks[name], 2)}" for name in order])
    levels = listed([f"{readable(name)} {spoken(found.readability(name, 'severity'), 2)}" for name in order])
    text = (
        f"How well the predicted variance ranks images by the true error of their latents (Spearman, mean over "
        f"degradations): {figures}; by the level of the degradation: {levels}."
    )
    if len(order) < 2:
        return text
    if not any(rank.low > 0 for rank in ranks.values()):
        return f"From none is severity measurably readable. {text}"
    best, *others = order
    apart = {name: found.more_readable(best, name) for name in others}
    said = {name: f"{readable(name)} (by {spoken(apart[name], 3)})" for name in others}
    below = [said[name] for name in others if apart[name].low > 0]
    rest = [said[name] for name in others if not apart[name].low > 0]
    if not rest:
        verdict = f"Severity is most readable from {readable(best)}: more than from {listed(below)}"
    elif below:
        verdict = (
            f"Severity is more readable from {readable(best)} than from {listed(below)}; whether more than from "
            f"{listed(rest)} cannot be told"
        )
    else:
        verdict = f"Whether severity is more readable from {readable(best)} than from {listed(rest)} cannot be told"
    return f"{verdict}. {text}"


def _level_sentence(found: Found) -> str:
    parts = []
    for name in found.names:
        readings = found.readings(name).values()
        if not readings:
            continue
        ratios = [reading.calibration.figures["ratio"] for reading in readings]
        kurtosis = [reading.calibration.figures["kurtosis"].mean for reading in readings]
        parts.append(
            f"{readable(name)} {ranged([ratio.mean for ratio in ratios], 2)} "
            f"({_level_verdict(ratios)}; kurtosis {ranged(kurtosis, 1)})"
        )
    return f"True over predicted variance, by degradation: {listed(parts)}." if parts else ""


def _level_verdict(ratios: Sequence[Estimate]) -> str:
    """Whether s2 / var_hat is about 1 on every degradation, as far as the intervals tell."""
    inside, tolerance = [ratio.within(1 - TOLERANCE, 1 + TOLERANCE) for ratio in ratios], f"{100 * TOLERANCE:.0f} %"
    if all(inside):
        return f"right within {tolerance}"
    return f"wrong by more than {tolerance}" if False in inside else f"whether right within {tolerance} is not decided"


def _ceiling_sentence(found: Found) -> str:
    contests = found.contests()
    if not contests:
        return ""
    better, worse = (sum(c.gain.low > 0 for c in contests), sum(c.gain.high < 0 for c in contests))
    ceilings = sorted(
        ((ceiling_of(one.psnr), name) for name, one in found.itself.items()), key=lambda both: -both[0].mean
    )
    said = listed([f"{readable(name)} {_spoken_ceiling(ceiling)}" for ceiling, name in ceilings])
    verdict = _ceiling_verdict(better, worse, len(contests))
    return (
        f"{verdict}: of {len(contests)} comparisons of two autoencoders on one degradation, the one with the higher "
        f"ceiling restores measurably better in {better} and measurably worse in {worse}{_among_learnt(contests)}. The "
        f"comparisons share images and autoencoders, so they are not independent. Ceilings: {said}."
    )


def _among_learnt(contests: Sequence[Contest]) -> str:
    """The same without those whose own encoder cannot learn, where there are such."""
    left = [c for c in contests if c.higher not in BESIDE and c.lower not in BESIDE]
    if not left or len(left) == len(contests):
        return ""
    better, worse = sum(c.gain.low > 0 for c in left), sum(c.gain.high < 0 for c in left)
    without = listed([readable(name) for name in BESIDE if any(name in (c.higher, c.lower) for c in contests)])
    return f" (without {without}: of {len(left)}, {better} and {worse})"


def _ceiling_verdict(better: int, worse: int, contests: int) -> str:
    """What so many comparisons say in which the higher ceiling is measurably better, or worse."""
    if not better and not worse:
        return "Whether a higher ceiling helps restoration cannot be told"
    if not better:
        return "A higher ceiling does not help restoration"
    if worse:
        return "A higher ceiling does not help restoration by itself"
    return "A higher ceiling helps restoration" + ("" if better == contests else " where it can be told")


def _spoken_ceiling(ceiling: Estimate) -> str:
    return "loses nothing" if ceiling.mean >= LOSSLESS else f"{number(ceiling.mean, 1)} dB"


def _blame_sentence(found: Found) -> str:
    """What is lost to a start that knows the true error: the severity encoder's part."""
    losses = {}
    for name in found.names:
        mine = [pair for pair in found.pairs if pair.autoencoder == name and {MATCHED, ORACLE} <= pair.runs.keys()]
        if mine:
            losses[name] = mean_interval(
                over_images([pair.runs[ORACLE]["psnr"] - pair.runs[MATCHED]["psnr"] for pair in mine])
            )
    if not losses:
        return ""
    parts = listed([f"{readable(name)} {spoken(loss, 2)} dB" for name, loss in losses.items()])
    text = f"To a start that knows each image's true error, the predicted one loses (PSNR): {parts}."
    if gaining := [readable(name) for name, loss in losses.items() if loss.high < 0]:
        text += f" For {listed(gaining)} it measurably gains: there the true variance is not the best start."
    return text


def _confounds(found: Found) -> str:
    """What differs between autoencoders beside themselves."""
    itself = {name: found.itself[name] for name in found.names if name in found.itself}
    priors = {name: one.prior_channels for name, one in itself.items() if one.prior_channels}
    facts = {
        "latents": _by_fact({name: " x ".join(map(str, one.latent_shape)) for name, one in itself.items()}),
        "channels of the prior": _by_fact({name: ", ".join(map(str, each)) for name, each in priors.items()}),
        "training": _by_fact({name: one.trained for name, one in itself.items()}),
    }
    text = (
        "Not all of a difference is the autoencoder's: each has a prior of its own, trained on as many latents, which "
        "may be easier or harder to learn."
    )
    if differences := [f"{what}: {said}" for what, said in facts.items() if said]:
        text += f" The autoencoders differ too in {'; in '.join(differences)}."
        if alike := [
            f"{readable(c.higher)} over {readable(c.lower)} on {readable(c.degradation)} {spoken(c.gain, 2)} dB "
            f"({spoken(c.from_noise, 2)} dB from pure noise)"
            for c in found.contests()
            if found.alike(c.higher, c.lower)
        ]:
            text += f" Of those that differ in none of these gain, by one training of each: {listed(alike)}."
    if beside := [readable(name) for name in found.names if name in BESIDE]:
        text += (
            f" The severity encoder on {listed(beside)}, whose own encoder cannot learn, is a small network beside it, "
            "of another size than the others'."
        )
    return text


def _by_fact(facts: Mapping[str, str]) -> str:
    """Each fact once, with the autoencoders it is of: "8 x 4 x 4 (tiny, kl) and ..."; empty where all are alike."""
    names: dict[str, list[str]] = {}
    for name, fact in facts.items():
        names.setdefault(fact, []).append(readable(name))
    return listed([f"{fact} ({', '.join(of)})" for fact, of in names.items()]) if len(names) > 1 else ""


SECTIONS = (readable_section, itself_section, restoration_section, cost_section, confound_section)
