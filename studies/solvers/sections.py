"""The page of the solvers study: whether the claim holds for each pair, what is saved by which means, and examples."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from studies import _equal_cost
from studies._rows import ABSENT, has_column, means, means_table, over_images, table
from studies.solvers.results import FEWER_NFE, LESS_TIME, MARGINS, STARTS, TOLERANCE, Claim, Pair, Run, Solvers
from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval
from workbench.reporting import (
    QUANTITIES,
    Card,
    Line,
    MainFigure,
    Picture,
    Section,
    Strip,
    Words,
    capital,
    curves,
    gallery,
    number,
    readable,
    side_by_side,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))
COLUMNS = ("psnr", "ssim", "ssim_valid", "lpips", "residual_ratio", "nfe", "flops", "seconds")
INDEX = "solver on degradation"
NUM_EXAMPLES = 4
DASH, OVER = "\N{EN DASH}", "\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}"


def answer(found: Solvers) -> list[str]:
    """Whether the claim holds, what is gained, and how much of that needs no severity."""
    verdicts = [claim.verdict for claim in found.claims.values()]
    fixed = list(found.fixed.values())

    def gain(run: Callable[[Pair], Run | None], over: Callable[[Pair], Run | None]) -> Estimate:
        """PSNR gained over the pairs that have both runs, one value per image."""
        gains = [a.gain(b) for pair in found.pairs if (a := run(pair)) and (b := over(pair))]
        return mean_interval(over_images(gains))

    return WORDS.sentences(
        verdicts=verdicts,
        gain=gain(lambda pair: pair.flash, lambda pair: pair.baseline),
        fixed_fewer=statistics.median(one.fewer_nfe.mean for one in fixed) if fixed else None,
        over_fixed=gain(lambda pair: pair.flash, lambda pair: pair.fixed.best if pair.fixed else None),
        adapting=_equal_cost.worth_of(found.comparisons),
        decoded=[pair.decoded_gain.low > 0 for pair in found.pairs if pair.decoded_gain is not None],
    )


def main_figure(found: Solvers) -> MainFigure:
    """The first solver's PSNR against NFE.

    Raises:
        UserError: for results of the decoded estimate alone.
    """
    if not found.pairs:
        raise UserError("these results hold no solver that diffuses, so there is no curve to draw")
    mine = [pair for pair in found.pairs if pair.solver == found.pairs[0].solver]
    caption = "PSNR against network evaluations (NFE), mean of an image; runs of one start differ in their grid."
    return MainFigure(_pareto_figure(mine, "nfe"), f"{readable(mine[0].solver)}: PSNR against NFE by start", caption)


def example(found: Solvers) -> str | None:
    """The first SNR-matched run that is judged."""
    return next((str(claim.flash.rows["cell"].iloc[0]) for claim in found.claims.values()), None)


def claim_section(found: Solvers) -> Section:
    """Each pair's gains and speed-ups."""
    rows, judged = {}, {}
    for pair in found.pairs:
        if (claim := pair.claim) is None:
            continue
        baseline, flash = means([claim.baseline.rows, claim.flash.rows], "psnr")
        rows[pair.name] = {
            "claim": claim.verdict,
            "pure noise, PSNR": baseline,
            "SNR match, PSNR": flash,
            **{f"{QUANTITIES[q].label} gained": gain for q, gain in claim.gains.items()},
            "times fewer NFE": claim.savings["nfe"],
            "times less time": claim.savings["seconds"],
            "NFE at equal PSNR, times": pair.speed_up() or "never",
        }
        judged[pair.name] = {
            "SNR-matched run": claim.flash.name,
            "baseline": claim.baseline.name,
            "why the claim is not shown": "; ".join(claim.failures or claim.undecided) or DASH,
        }
    decimals = {f"{QUANTITIES[q].label} gained": QUANTITIES[q].decimals for q in MARGINS}
    decimals |= {"times fewer NFE": 1, "times less time": 1, "NFE at equal PSNR, times": 1}
    caption = "Means over the same test images"
    if device := found.results.provenance.get("device"):
        caption += f"; times were taken on {device}, run by run, and are rougher than counts of evaluations"
    return WORDS.section(
        "claim",
        table=table(rows, INDEX, decimals, caption) if rows else None,
        judged=table(judged, INDEX, caption="The runs that are compared") if rows else None,
        margins=MARGINS,
        tolerance=TOLERANCE,
        fewer_nfe=FEWER_NFE,
        less_time=LESS_TIME,
        lpips=has_column(found.results.frame, "lpips"),
    )


def saving_section(found: Solvers) -> Section | None:
    """Every cost of both runs, side by side; None without claims."""
    if not found.claims:
        return None

    def short(run: Run, column: str) -> str:
        mean = run.mean(column)
        return number(mean, 0 if mean >= 100 else 1)

    ratios = {
        name: {f"{QUANTITIES[cost].label}, times": ratio for cost, ratio in claim.savings.items()}
        for name, claim in found.claims.items()
    }
    costs = {
        name: {QUANTITIES[c].title: short(claim.baseline, c) + OVER + short(claim.flash, c) for c in claim.savings}
        for name, claim in found.claims.items()
    }
    return WORDS.section(
        "saving",
        folded=True,
        fewer_nfe=FEWER_NFE,
        less_time=LESS_TIME,
        ratios=table(ratios, INDEX, 1, "Pure noise over SNR match: the ratio of mean costs"),
        costs=table(costs, INDEX, 1, "Mean of an image, pure noise / SNR match, the same runs"),
    )


def fixed_section(found: Solvers) -> Section | None:
    """What one fixed timestep and the decoded estimate already do; None without fixed starts."""
    if not found.fixed:
        return None
    over_noise, over_fixed = {}, {}
    for pair in found.pairs:
        if (one := pair.fixed) is None:
            continue
        over_noise[pair.name] = {
            "best fixed start: t, NFE": f"{one.best.timestep}, {number(one.best.nfe, 0)}",
            "times fewer NFE": one.fewer_nfe,
            "best fixed start, dB": one.over_noise,
            "decoded, dB": pair.decoded_gain or ABSENT,
        }
        over_fixed[pair.name] = {
            **{f"over the best, {QUANTITIES[q].title}": gain for q, gain in one.gains.items()},
            "nearest: t, NFE": f"{one.near.timestep}, {number(one.near.nfe, 0)}",
            "over the nearest, PSNR, dB": one.over_near,
        }
    decimals = {f"over the best, {QUANTITIES[q].title}": QUANTITIES[q].decimals for q in MARGINS}
    return WORDS.section(
        "fixed",
        tolerance=TOLERANCE,
        over_noise=table(over_noise, INDEX, {"times fewer NFE": 1}, "PSNR over the best run from pure noise"),
        over_fixed=table(over_fixed, INDEX, decimals, "SNR match over fixed starts: the best, that of nearest NFE"),
    )


def controls_section(found: Solvers) -> Section | None:
    """The SNR-matched run beside starts that do not adapt, at equal mean FLOPs; None without such."""
    return _equal_cost.section({"solver and degradation": found.comparisons}) if found.comparisons else None


def cost_section(found: Solvers) -> Section:
    """PSNR against cost, for each solver, and the cheapest run of equal quality."""
    figures = []
    for solver in dict.fromkeys(pair.solver for pair in found.pairs):
        mine = [pair for pair in found.pairs if pair.solver == solver]
        for column in ("nfe", "flops"):
            description = f"{readable(solver)}: PSNR against {QUANTITIES[column].title}, one line per start"
            figures.append(svg(_pareto_figure(mine, column), description))
    few = {
        readable(degradation): {
            "best LDPS: steps, NFE": f"{one.best.num_steps}, {number(one.best.nfe, 1)}",
            "fewest NFE as good": f"{readable(one.cheap.solver)}: {one.cheap.num_steps}, {number(one.cheap.nfe, 1)}",
            "FLOPs, %": 100 * one.cheap.mean("flops") / one.best.mean("flops"),
            "PSNR on test images, dB": one.gain,
        }
        for degradation, one in found.few_steps.items()
    }
    caption = f"The cheapest SNR-matched run within {MARGINS['psnr']} dB of the best LDPS on validation images"
    few_table = table(few, "degradation", {"FLOPs, %": 0}, caption) if few else Markup()
    return WORDS.section("cost", figures=side_by_side(figures), few=few_table)


def runs_section(found: Solvers) -> Section:
    """All runs."""
    edges, tables = [], []
    for pair in found.pairs:
        runs = [*pair.runs, *([pair.decoded] if pair.decoded is not None else [])]
        edges += [f"{pair.name}, {run.name}" for run in runs if run.at_edge]
        more = {"step size": [_tuned(run) for run in runs], "diverged": [_diverged(run) for run in runs]}
        tables.append(means_table({run.name: run.rows for run in runs}, COLUMNS, "run", capital(pair.name), more))
    return WORDS.section("runs", folded=True, edges=edges, tables=Markup().join(tables))


def examples_section(found: Solvers) -> Section | None:
    """The same images by every pair's two runs; None where no pictures are kept."""
    parts = []
    for degradation in dict.fromkeys(pair.degradation for pair in found.pairs):
        claims = [pair.claim for pair in found.pairs if pair.degradation == degradation and pair.claim is not None]
        if strips := _strips(found, claims):
            parts.append(Markup("<h3>{}</h3>").format(capital(readable(degradation))) + gallery(strips))
    return WORDS.section("examples", folded=True, galleries=Markup().join(parts)) if parts else None


SECTIONS = (
    claim_section,
    fixed_section,
    controls_section,
    cost_section,
    saving_section,
    runs_section,
    examples_section,
)
"""The page's sections, in order."""


def _pareto_figure(pairs: Sequence[Pair], column: str) -> "Figure":
    """One panel per degradation, one line per start."""
    quantity = QUANTITIES[column]
    panels = {}
    for pair in pairs:
        runs = sorted((run for run in pair.runs if run.nfe > 0 and not run.control), key=lambda run: run.mean(column))
        psnr = means([run.rows for run in runs], "psnr")
        lines: dict[str, Line] = {}
        for kind in sorted({run.kind for run in runs}):
            mine = [place for place, run in enumerate(runs) if run.kind == kind]
            lines[kind] = Line([runs[i].mean(column) for i in mine], [psnr[i] for i in mine])
        panels[pair.degradation] = lines
    return curves(
        panels,
        title=f"{readable(pairs[0].solver)}: PSNR against {quantity.label}",
        x_label=quantity.title,
        y_label="PSNR, dB",
        log_x=True,
        order=[name + sampler for name in STARTS.values() for sampler in ("", ", DDPM")],
    )


def _tuned(run: Run) -> str:
    if "tuned_value" not in run.rows or math.isnan(run.rows["tuned_value"].iloc[0]):
        return DASH
    return f"{run.rows['tuned_value'].iloc[0]:.4g} of {run.rows['num_trials'].iloc[0]}"


def _diverged(run: Run) -> str:
    return str(int(run.rows["diverged"].sum())) if has_column(run.rows, "diverged") else DASH


def _strips(found: Solvers, claims: Sequence[Claim]) -> list[Strip]:
    """The measurement and the truth, then each solver's two runs; empty where a run keeps no pictures."""
    runs = [run for claim in claims for run in (claim.baseline, claim.flash)]
    stores = [found.results.examples.get(str(run.rows["cell"].iloc[0]), {}) for run in runs]
    kept = [store["image_id"].tolist() if "image_id" in store else [] for store in stores]
    common = set.intersection(*map(set, kept)) if kept else set()
    if not common:
        return []
    severity = runs[0].rows["severity"]
    ordered = sorted(common, key=lambda image: (severity[image], image))
    chosen = list(dict.fromkeys(ordered[round(i)] for i in np.linspace(0, len(ordered) - 1, NUM_EXAMPLES)))

    def shown(place: int, name: str, image: int, words: str, column: str = "") -> Picture:
        figure = f" {number(runs[place].rows[column][image], 1)}" if column else ""
        return Picture(stores[place][name][kept[place].index(image)], (words + figure,))

    first = [
        Card(
            [shown(0, "degraded", image, "degraded", "psnr_degraded"), shown(0, "clean", image, "clean")],
            2,
            (f"severity {severity[image]:.2f}",),
        )
        for image in chosen
    ]
    strips = [Strip("Measurement and truth", first)]
    for place in range(0, len(runs), 2):
        noise, match = runs[place : place + 2]
        cards = [
            Card(
                [shown(place + i, "restored", image, ("noise", "match")[i], "psnr") for i in (0, 1)],
                2,
                (f"{noise.rows['nfe'][image]:.0f} and {match.rows['nfe'][image]:.0f} NFE",),
            )
            for image in chosen
        ]
        strips.append(Strip(readable(match.solver), cards, f"Left: {noise.name}. Right: {match.name}."))
    return strips
