"""What the solvers study says: whether the claim holds for each pair, curves of equal cost, tables and examples."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from studies import _equal_cost
from studies._equal_cost import Comparison
from studies._rows import has_column
from studies._solvers_runs import (
    DECODED,
    FEW,
    FEWER_NFE,
    LESS_TIME,
    MARGINS,
    STARTS,
    TOLERANCE,
    Baselines,
    Claim,
    FewSteps,
    Pair,
    Run,
    baselines,
    claim_of,
    comparison_of,
    few_steps,
    read_pairs,
    read_runs,
    savings,
    speed_up,
)
from workbench.metrics import Estimate
from workbench.reporting import (
    QUANTITIES,
    Card,
    Line,
    MainFigure,
    Picture,
    Section,
    Strip,
    column_estimate,
    curves,
    gallery,
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.results import StudyResults

_NAMES = {"ldps": "LDPS", "gml_dps": "GML-DPS", "psld": "PSLD", "resample": "ReSample", FEW: "LDPS in few steps"}
"""Solvers as their papers call them."""
_TABLE = ("psnr", "ssim", "ssim_valid", "lpips", "residual_ratio", "nfe", "flops", "seconds")
NUM_EXAMPLES = 4


def answer(results: "StudyResults") -> list[str]:
    """Over all pairs, then a sentence or two a pair."""
    pairs = read_pairs(results)
    claims = {f"{pair.solver} {pair.degradation}": claim for pair in pairs if (claim := claim_of(pair)) is not None}
    if not claims:
        return ["These results hold no solver both from pure noise and from an SNR-matched start, so they cannot say."]
    holds = sum(claim.verdict == "holds" for claim in claims.values())
    undecided = sum(claim.verdict == "cannot be told" for claim in claims.values())
    verdict = "Yes" if holds == len(claims) else "In part" if holds else "Not shown" if undecided else "No"
    compared = [name for name in MARGINS if all(name in claim.gains for claim in claims.values())]
    first = (
        f"{verdict}: for {holds} of {len(claims)} pairs of solver and degradation, SNR matching is shown to be no "
        f"worse, within margins ({_margins(compared)}), than the best run of the same solver from pure noise, "
        f"with at least {FEWER_NFE} times fewer network evaluations and {LESS_TIME} times less time"
        + (f"; for {undecided} it cannot be told." if undecided else ".")
    )
    sentences = [_pair_sentences(pair) for pair in pairs if claim_of(pair) is not None]
    adapting = _equal_cost.sentence(_comparisons(pairs))
    sentences += [adapting[0].upper() + adapting[1:]] if adapting else []
    blind = _baseline_sentences(baselines(results))
    return [first, *blind, *sentences, *(_few_sentence(name, few) for name, few in few_steps(pairs).items())]


def claim_section(results: "StudyResults") -> Section:
    """Each pair's gain and speed-up."""
    import pandas as pd

    rows = {}
    for pair in read_pairs(results):
        if (claim := claim_of(pair)) is None:
            continue
        equal = speed_up(pair)
        rows[_title(pair)] = {
            "claim": claim.verdict,
            "pure noise, PSNR": column_estimate(claim.baseline.rows, "psnr"),
            "SNR match, PSNR": column_estimate(claim.flash.rows, "psnr"),
            **{f"{QUANTITIES[name].label} gained": gain for name, gain in claim.gains.items()},
            "times fewer NFE": claim.fewer_nfe,
            "times less time": claim.less_time,
            "NFE at equal PSNR, times": "n/a" if equal is None else _times(equal),
        }
    title = "Does the claim hold?"
    if not rows:
        return Section(title, paragraph("These results hold no pair of runs to compare."))
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("solver on degradation")
    decimals = {
        "SSIM gained": 3,
        "SSIM (reflected borders) gained": 3,
        "LPIPS gained": 3,
        "times fewer NFE": 1,
        "times less time": 1,
    }
    text = paragraph(
        "The same solver from pure noise, on the grid, published or shorter, with the best PSNR on validation images, "
        f"is the baseline. Of the SNR-matched runs with at most 1/{FEWER_NFE} of its network evaluations the best on "
        f"validation images stands against it, image by image (of runs within {number(TOLERANCE, 2)} dB the cheapest); "
        "a gain in LPIPS is a lower LPIPS. The claim holds where no interval holds a loss that counts "
        f"({number(MARGINS['psnr'], 1)} dB of PSNR, {number(MARGINS['ssim'], 3)} of SSIM, "
        f"{number(MARGINS['lpips'], 2)} of LPIPS), NFE are at least {FEWER_NFE} times fewer and time is at least "
        f"{LESS_TIME} times less; it does not where a whole interval is a loss; it cannot be told where the step size "
        "of either run lies at an end of what was tried."
    )
    text += paragraph(
        "That is non-inferiority within these margins, not equality. Intervals are over images, of one training of "
        "each network and one draw of the noise." + _lpips_note(results)
    )
    text += paragraph(
        "NFE at equal PSNR: how many times its NFE the solver needs from pure noise, on the line through its "
        'grids, to reach the PSNR of the SNR-matched run; "never" where no grid does. The longest grid is that of '
        "DDPM, as published (ReSample: DDIM), and shorter ones are DDIM's, without noise, as are all other runs: that "
        "line has the sampler in it, too."
    )
    device = results.provenance.get("device")
    caption = "Means over the same test images" + (
        f"; times were taken on {device}, run by run, and are rougher than counts of evaluations" if device else ""
    )
    return Section(title, text + html_table(table, decimals, caption))


def controls_section(results: "StudyResults") -> Section | None:
    """The SNR-matched run beside starts that do not adapt, at equal mean FLOPs; None without such."""
    found = _comparisons(read_pairs(results))
    if not found:
        return None
    said = _equal_cost.sentence(found)
    return _equal_cost.section(found, [said[0].upper() + said[1:]] if said else [])


def saving_section(results: "StudyResults") -> Section:
    """Every cost of both runs, side by side."""
    import pandas as pd

    rows, times = {}, {}
    for pair in read_pairs(results):
        if (claim := claim_of(pair)) is None:
            continue
        saved = savings(claim)
        times[_title(pair)] = {f"{QUANTITIES[column].label}, times": ratio for column, ratio in saved.items()}
        rows[_title(pair)] = {
            QUANTITIES[column].title: "\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}".join(
                _short(run, column) for run in (claim.baseline, claim.flash)
            )
            for column in saved
        }
    title = "How much cheaper, by which count?"
    if not rows:
        return Section(title, paragraph("These results hold no pair of runs to compare."))
    text = paragraph(
        "Network evaluations (NFE) are not all that a restoration costs: every guided step decodes, GML-DPS and PSLD "
        "also encode, and ReSample decodes many times where it resamples. So the factor depends on what is counted. "
        f"The claim asks for {FEWER_NFE} in NFE and for {LESS_TIME} in time. Compute counts prior, decoder and "
        "encoders with their gradients; time is that of a machine, run by run."
    )
    first = pd.DataFrame.from_dict(times, orient="index").rename_axis("solver on degradation")
    second = pd.DataFrame.from_dict(rows, orient="index").rename_axis("solver on degradation")
    tables = html_table(first, 1, "Pure noise over SNR match: the ratio of mean costs") + html_table(
        second, 1, "Mean of an image, pure noise / SNR match, the same runs"
    )
    return Section(title, text + tables)


def baselines_section(results: "StudyResults") -> Section | None:
    """What one fixed timestep and the decoded estimate already do."""
    import pandas as pd

    found = baselines(results)
    if not found:
        return None
    over_noise = {
        _title(pair): {
            "best fixed start: t, NFE": _begins(one.fixed),
            "times fewer NFE": one.fewer_nfe,
            "best fixed start, dB": one.fixed_gain,
            "decoded, dB": one.decoded_gain,
        }
        for pair, one in found
    }
    over_fixed = {
        _title(pair): {f"over the best, {QUANTITIES[q].title}": gain for q, gain in one.gains.items()}
        | {"nearest: t, NFE": _begins(one.near), "over the nearest, PSNR, dB": one.near_gain}
        for pair, one in found
    }
    decimals = {"times fewer NFE": 1}
    decimals |= {f"over the best, {QUANTITIES[q].title}": QUANTITIES[q].decimals for q in MARGINS}
    text = Markup().join(paragraph(sentence) for sentence in _baseline_sentences(found))
    text += paragraph(
        "Most of what is saved against pure noise needs no severity: a start from the encoder's estimate at one "
        "timestep for all images saves it, too. The best of those tried is the one with the best PSNR on validation "
        f"images (of those within {number(TOLERANCE, 2)} dB the cheapest); beside it stands the one whose NFE are "
        "nearest to the SNR-matched run's. Positive gains are the SNR-matched run's, paired by image; in LPIPS a gain "
        "is a lower LPIPS. Fixed starts were tried on one grid, SNR matching on several, and a fixed start adds all "
        "the noise of its timestep where SNR matching adds what the estimate lacks: what adapting to each image is "
        "worth by itself is less than these gains."
    )
    tables = Markup().join(
        html_table(pd.DataFrame.from_dict(rows, orient="index").rename_axis("solver on degradation"), decimals, caption)
        for rows, caption in (
            (over_noise, "PSNR over the best run from pure noise"),
            (over_fixed, "SNR match over fixed starts, the best and the one of nearest NFE"),
        )
    )
    return Section("What does one timestep for all images already do?", text + tables)


def _begins(run: Run) -> str:
    """Where a fixed start begins, and its network evaluations."""
    return f"{run.timestep}, {number(run.nfe, 0)}"


def _short(run: Run, column: str) -> str:
    """The mean cost of an image in the unit that is shown; without decimals from 100 on."""
    mean = float(run.rows[column].mean()) * QUANTITIES[column].scale
    return number(mean, 0 if mean >= 100 else 1)


def pareto_section(results: "StudyResults") -> Section:
    """PSNR against cost."""
    pairs = read_pairs(results)
    figures = []
    for solver in dict.fromkeys(pair.solver for pair in pairs):
        mine = [pair for pair in pairs if pair.solver == solver]
        for column in ("nfe", "flops"):
            description = f"{_named(solver)}: PSNR against {QUANTITIES[column].title}, one line per start"
            figures.append(svg(_pareto_figure(mine, column), description))
    text = paragraph(
        "Each point is a run; runs of one start differ in their number of steps (fixed starts: in the timestep). Of "
        "two runs above each other the upper is the better one at that cost. Costs are means of an image; compute "
        "counts prior, decoder and encoders, with their gradients."
    )
    return Section("What does quality cost?", text + side_by_side(figures))


def tables_section(results: "StudyResults") -> Section:
    """All runs."""
    import pandas as pd

    runs = read_runs(results)
    parts = []
    for degradation in dict.fromkeys(run.degradation for run in runs):
        here = [run for run in runs if run.degradation == degradation]
        shown = [column for column in _TABLE if all(has_column(run.rows, column) for run in here)]
        decimals = {QUANTITIES[column].title: QUANTITIES[column].decimals for column in shown}
        parts.append(Markup("<h3>{}</h3>").format(readable(degradation).capitalize()))
        for solver in dict.fromkeys(run.solver for run in here if run.solver != DECODED):
            rows = {
                run.name: {QUANTITIES[column].title: column_estimate(run.rows, column) for column in shown}
                | {"step size": _tuned(run), "diverged": _diverged(run)}
                for run in here
                if run.solver in (solver, DECODED)
            }
            table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")
            parts.append(html_table(table, decimals, _named(solver)))
    text = paragraph(
        'A run is named by its start and the steps of the whole grid. "Step size" is the value of the '
        "solver's guidance scale (ReSample: its resampling's gamma) that was chosen on validation images, and the "
        "number of trials."
    )
    return Section("All runs", text + _edges(runs) + Markup().join(parts))


def examples_section(results: "StudyResults") -> Section | None:
    """The same images by every pair's two runs."""
    pairs = read_pairs(results)
    parts = []
    for degradation in dict.fromkeys(pair.degradation for pair in pairs):
        claims = [claim for pair in pairs if pair.degradation == degradation and (claim := claim_of(pair)) is not None]
        strips = _strips(results, claims)
        if strips:
            parts.append(Markup("<h3>{}</h3>").format(readable(degradation).capitalize()) + gallery(strips))
    if not parts:
        return None
    text = paragraph(
        "Images are chosen by severity alone, lowest to highest of those whose pictures are kept. Figures under images "
        "are PSNR in dB and network evaluations."
    )
    return Section("Restored examples", text + Markup().join(parts))


SECTIONS = (
    claim_section,
    saving_section,
    baselines_section,
    controls_section,
    pareto_section,
    tables_section,
    examples_section,
)
"""The page's sections, in order."""


def main_figure(results: "StudyResults") -> MainFigure | None:
    """The first solver's PSNR against NFE."""
    pairs = read_pairs(results)
    if not pairs:
        return None  # the decoded estimate alone has no curve
    return MainFigure(
        _pareto_figure([pair for pair in pairs if pair.solver == pairs[0].solver], "nfe"),
        "The first solver's PSNR against NFE",
    )


def _comparisons(pairs: Sequence[Pair]) -> list[Comparison]:
    found = [(pair, comparison) for pair in pairs if (comparison := comparison_of(pair)) is not None]
    return [replace(comparison, name=_title(pair)) for pair, comparison in found]


def _margins(names: Sequence[str]) -> str:
    """The losses that would not count, in words."""
    shown = {name: QUANTITIES[name] for name in names}
    units = {name: f" {quantity.unit}" if quantity.unit else "" for name, quantity in shown.items()}
    return listed([f"{number(MARGINS[n], q.decimals)}{units[n]} of {q.label}" for n, q in shown.items()])


def _lpips_note(results: "StudyResults") -> str:
    """What LPIPS is worth here; empty where it was not measured."""
    if not has_column(results.frame, "lpips"):
        return ""
    sizes = {store["clean"].shape[1:] for store in results.examples.values() if len(store.get("image_id", ()))}
    images = f" of {max(sizes)[0]} px, {'grey' if max(sizes)[2] == 1 else 'colour'}" if sizes else ""
    return (
        f" LPIPS was made for photographs; here it compares images{images}, by SqueezeNet's features unless lpips.net "
        "says otherwise, so its margin is a convention."
    )


def _baseline_sentences(found: Sequence[tuple[Pair, Baselines]]) -> list[str]:
    """What starts that read no severity already do; empty without fixed starts."""
    if not found:
        return []
    by_solver: dict[str, list[float]] = {}
    for pair, one in found:
        by_solver.setdefault(_named(pair.solver), []).append(one.gains["psnr"].mean)
    changes = listed([f"{_signed_range(gains)} dB for {name}" for name, gains in by_solver.items()])
    won, even = (sum(test(one.gains["psnr"]) for _, one in found) for test in (_is_gain, _is_open))
    fell = len(found) - won - even
    fewer = ranged([one.fewer_nfe.mean for _, one in found], 0)
    near = [one.near_gain for _, one in found]
    steps = (
        f"One fixed timestep for all images, the best tried on validation images, already needs {fewer} times fewer "
        f"NFE than pure noise. To its PSNR SNR matching adds {changes} (a gain on {won} of {len(found)} pairs, a loss "
        f"on {fell}, neither shown on {even}); at the nearest NFE, {_signed_range([gain.mean for gain in near])} dB."
    )
    said = [steps]
    decoded = [(pair, one.decoded_gain) for pair, one in found if not math.isnan(one.decoded_gain.mean)]
    if decoded:
        above = [f"{_title(pair)} ({_signed(gain, 2)} dB)" for pair, gain in decoded if _is_gain(gain)]
        said.append(
            "The estimate decoded without any diffusion has a higher PSNR than the best run from pure noise for "
            f"{len(above)} of {len(decoded)} pairs" + (f": {listed(above)}." if above else ".")
        )
    return said


def _is_gain(gain: Estimate) -> bool:
    return gain.low > 0


def _is_open(gain: Estimate) -> bool:
    return gain.low <= 0 <= gain.high


def _signed_range(values: Sequence[float]) -> str:
    """The least and the largest of changes: "−0.14 to +0.08"."""
    ends = dict.fromkeys(("+" if value >= 0 else "") + number(value, 2) for value in (min(values), max(values)))
    return " to ".join(ends)


def _pair_sentences(pair: Pair) -> str:
    claim, equal = claim_of(pair), speed_up(pair)
    assert claim is not None
    changes = [
        f"{QUANTITIES[name].label} {_signed(gain.scaled(QUANTITIES[name].better), QUANTITIES[name].decimals)}"
        + (" dB" if name == "psnr" else "")
        for name, gain in claim.gains.items()
    ]
    why = claim.failures or claim.undecided
    verdict = f"the claim {claim.verdict}" + (f" ({listed(why)})" if why else "")
    text = (
        f"{_title(pair)}: {verdict}. {claim.flash.name}, against {claim.baseline.name}: {listed(changes)}, with "
        f"{number(claim.flash.nfe, 1)} instead of {number(claim.baseline.nfe, 0)} NFE ({spoken(claim.fewer_nfe, 1)} "
        f"times fewer) in {spoken(claim.less_time, 1)} times less time."
    )
    if equal is None:
        return text
    if math.isinf(equal.mean):
        return f"{text} From pure noise no grid reaches its PSNR."
    return f"{text} For the same PSNR, pure noise needs {_times(equal)} times its NFE."


def _few_sentence(degradation: str, few: FewSteps) -> str:
    compute = float(few.cheap.rows["flops"].mean() / few.best.rows["flops"].mean())
    return (
        f"Few steps on {readable(degradation)}: within {number(MARGINS['psnr'], 1)} dB of the best SNR-matched LDPS "
        f"({few.best.num_steps} steps, {number(few.best.nfe, 1)} NFE) on validation images, the fewest NFE are "
        f"{number(few.cheap.nfe, 1)}, of {_named(few.cheap.solver)} with {few.cheap.num_steps} steps and "
        f"{number(100 * compute, 0)} % of the FLOPs; on test images its PSNR is {_signed(few.gain, 2)} dB."
    )


def _pareto_figure(pairs: Sequence[Pair], column: str) -> "Figure":
    """One panel per degradation, one line per start."""
    quantity = QUANTITIES[column]
    panels = {}
    for pair in pairs:
        runs = sorted(
            (run for run in pair.runs if run.nfe > 0 and not run.control),
            key=lambda run: float(run.rows[column].mean()),
        )
        panels[pair.degradation] = {
            kind: Line(
                [float(run.rows[column].mean()) * quantity.scale for run in runs if run.kind == kind],
                [column_estimate(run.rows, "psnr") for run in runs if run.kind == kind],
            )
            for kind in sorted({run.kind for run in runs})
        }
    return curves(
        panels,
        title=f"{_named(pairs[0].solver)}: PSNR against {quantity.label}",
        x_label=quantity.title,
        y_label="PSNR, dB",
        log_x=True,
        order=[name + sampler for name in STARTS.values() for sampler in ("", ", DDPM")],
    )


def _edges(runs: Sequence[Run]) -> Markup:
    """Which runs' step size is still at an end of what was tried."""
    at_edge = [f"{_named(run.solver)} on {run.degradation}, {run.name}" for run in runs if run.at_edge]
    if not at_edge:
        return paragraph("No chosen value lies at an end of what was tried.")
    return paragraph(f"At an end of what was tried lie still: {readable('; '.join(at_edge))}.")


def _tuned(run: Run) -> str:
    if "tuned_value" not in run.rows or math.isnan(run.rows["tuned_value"].iloc[0]):
        return "\N{EN DASH}"
    return f"{run.rows['tuned_value'].iloc[0]:.4g} of {run.rows['num_trials'].iloc[0]}"


def _diverged(run: Run) -> str:
    return str(int(run.rows["diverged"].sum())) if has_column(run.rows, "diverged") else "\N{EN DASH}"


def _strips(results: "StudyResults", claims: Sequence[Claim]) -> list[Strip]:
    """The measurement and the truth, then each solver's two runs."""
    runs = [run for claim in claims for run in (claim.baseline, claim.flash)]
    stores = {id(run): results.examples.get(str(run.rows["cell"].iloc[0]), {}) for run in runs}
    kept = [set(store["image_id"].tolist()) for store in stores.values() if len(store.get("image_id", ()))]
    if len(kept) < len(runs) or not runs:
        return []
    severity = runs[0].rows["severity"]
    ordered = sorted(set.intersection(*kept), key=lambda image: (severity[image], image))
    chosen = dict.fromkeys(ordered[round(i)] for i in np.linspace(0, len(ordered) - 1, NUM_EXAMPLES)) if ordered else {}

    def shown(run: Run, name: str, image: int, line: str) -> Picture:
        store = stores[id(run)]
        return Picture(store[name][store["image_id"].tolist().index(image)], (line,))

    given = [
        Card(
            [
                shown(runs[0], "degraded", image, f"degraded {number(runs[0].rows['psnr_degraded'][image], 1)}"),
                shown(runs[0], "clean", image, "clean"),
            ],
            2,
            (f"severity {severity[image]:.2f}",),
        )
        for image in chosen
    ]
    strips = [Strip("Measurement and truth", given)]
    for claim in claims:
        cards = [
            Card(
                [
                    shown(run, "restored", image, f"{name} {number(run.rows['psnr'][image], 1)}")
                    for name, run in (("noise", claim.baseline), ("match", claim.flash))
                ],
                2,
                (f"{claim.baseline.rows['nfe'][image]:.0f} and {claim.flash.rows['nfe'][image]:.0f} NFE",),
            )
            for image in chosen
        ]
        note = f"Left: {claim.baseline.name}. Right: {claim.flash.name}."
        strips.append(Strip(_named(claim.flash.solver), cards, note))
    return strips


def _named(solver: str) -> str:
    return _NAMES.get(solver, readable(solver))


def _title(pair: Pair) -> str:
    return f"{_named(pair.solver)} on {readable(pair.degradation)}"


def _signed(estimate: Estimate, decimals: int) -> str:
    return ("+" if estimate.mean >= 0 else "") + spoken(estimate, decimals)


def _times(estimate: Estimate) -> str:
    """A speed-up, whose interval may reach to infinity."""

    def said(value: float) -> str:
        return "never" if math.isinf(value) else number(value, 1)

    interval = "" if math.isnan(estimate.low) else f" [{said(estimate.low)}, {said(estimate.high)}]"
    return said(estimate.mean) + (interval if estimate.low != estimate.high else "")
