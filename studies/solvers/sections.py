"""The page of the solvers study: whether the claim holds for each pair, what is saved by which means, and examples."""

import statistics
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from studies import _equal_cost
from studies._figures import lines
from studies._rows import has_column, mean_over, means, means_table, table
from studies.solvers.results import FEW, FEWER_NFE, LESS_TIME, LONG, MARGINS, TOLERANCE, Run, Solvers
from workbench.core.config import UserError
from workbench.reporting import (
    QUANTITIES,
    MainFigure,
    Section,
    Words,
    picture_strip,
    readable,
    side_by_side,
)

WORDS = Words(Path(__file__).with_name("templates"))
COLUMNS = ("psnr", "ssim", "ssim_valid", "lpips", "dists", "niqe", "residual_ratio", "nfe", "flops", "seconds")
INDEX = "solver on degradation"


def answer(found: Solvers) -> list[str]:
    """Whether the claim holds, what is gained, and how much of that needs no severity."""
    fixed = [pair.fixed for pair in found.pairs if pair.fixed is not None]
    decoded = [pair.decoded_over_noise for pair in found.pairs if pair.decoded_over_noise is not None]
    return WORDS.sentences(
        verdicts=[claim.verdict for claim in found.claims.values()],
        gain=mean_over(claim.gain() for claim in found.claims.values()),
        fixed_fewer=statistics.median(one.over_noise.savings["nfe"].mean for one in fixed) if fixed else None,
        over_fixed=mean_over(one.matched.gain() for one in fixed),
        adapting=_equal_cost.worth_of(found.comparisons),
        decoded=[contest.gains["psnr"].low > 0 for contest in decoded],
    )


def main_figure(found: Solvers) -> MainFigure:
    """The first solver's PSNR against NFE.

    Raises:
        UserError: for results of the decoded estimate alone.
    """
    if not found.pairs:
        raise UserError("these results hold no solver that diffuses, so there is no curve to draw")
    caption = "PSNR against network evaluations (NFE), mean of an image; runs of one start differ in their grid."
    return _pareto(found, found.pairs[0].solver, "nfe", caption)


def example(found: Solvers) -> str | None:
    """The first SNR-matched run that is judged."""
    return next((claim.run.cell for claim in found.claims.values()), None)


def claim_section(found: Solvers) -> Section:
    """Whether each pair's claim holds, what it gains, and how much cheaper it is by which count."""
    gains, savings = {}, {}
    for name, claim in found.claims.items():
        noise, match = means([claim.over.rows, claim.run.rows], "psnr")
        gains[name] = {
            "claim": "; ".join([claim.verdict, *(claim.failures or claim.undecided)]),
            "PSNR, pure noise": noise,
            "PSNR, SNR match": match,
            **{f"{QUANTITIES[quality].label} gained": gain for quality, gain in claim.gains.items()},
        }
        savings[name] = {
            "steps: pure noise, SNR match": f"{claim.over.num_steps}, {claim.run.num_steps}",
            **{
                f"{QUANTITIES[cost].label}, times {'less' if cost in ('flops', 'seconds') else 'fewer'}": saving
                for cost, saving in claim.savings.items()
            },
        }
    where = found.results.provenance.get("device")
    caption = "Mean cost from pure noise over that of SNR match" + (f"; times on {where}" if where else "")
    return WORDS.section(
        "claim",
        gains=table(gains, INDEX, caption="Means over the same test images") if gains else "",
        savings=table(savings, INDEX, {"Compute, times less": 1}, caption),
        margins=MARGINS,
        tolerance=TOLERANCE,
        fewer_nfe=FEWER_NFE,
        less_time=LESS_TIME,
        lpips=has_column(found.results.frame, "lpips"),
    )


def fixed_section(found: Solvers) -> Section | None:
    """What one fixed timestep and the decoded estimate already do; None without fixed starts."""

    def start(run: Run) -> str:
        return f"{run.timestep}, {run.nfe:.0f}"

    rows = {
        pair.name: {
            "best: t, NFE": start(fixed.over_noise.run),
            "NFE, times fewer": fixed.over_noise.savings["nfe"],
            "PSNR over pure noise": fixed.over_noise.gains["psnr"],
            **{f"{q.upper()}, SNR match over it": gain for q, gain in fixed.matched.gains.items() if "ssim" not in q},
            "nearest: t, NFE": start(fixed.nearest.over),
            "PSNR, SNR match over that": fixed.nearest.gains["psnr"],
            "PSNR, decoded over pure noise": decoded.gains["psnr"]
            if (decoded := pair.decoded_over_noise)
            else "\N{EN DASH}",
        }
        for pair in found.pairs
        if (fixed := pair.fixed) is not None
    }
    caption = "Fixed starts: the best, and that of nearest NFE"
    return WORDS.section("fixed", tolerance=TOLERANCE, table=table(rows, INDEX, caption=caption)) if rows else None


def controls_section(found: Solvers) -> Section | None:
    """The SNR-matched run beside starts that do not adapt, at equal mean FLOPs; None without such."""
    return _equal_cost.section({"solver and degradation": found.comparisons}) if found.comparisons else None


def cost_section(found: Solvers) -> Section:
    """PSNR against compute, for each solver."""
    solvers = dict.fromkeys(pair.solver for pair in found.pairs if pair.solver != FEW)
    figures = side_by_side([_pareto(found, solver, "flops").html() for solver in solvers])
    return WORDS.section("cost", figures=figures)


def runs_section(found: Solvers) -> Section:
    """All runs."""
    tables = []
    for pair in found.pairs:
        runs = [*pair.runs, *([pair.decoded] if pair.decoded is not None else [])]
        tables.append(means_table({run.name: run.rows for run in runs}, COLUMNS, "run", pair.name))
    return WORDS.section("runs", folded=True, tables=Markup().join(tables))


def examples_section(found: Solvers) -> Section | None:
    """The same images by every pair's two runs; None where no pictures are kept."""
    strips = [
        Markup("<h3>{}</h3>").format(f"{name}: {run.name}") + strip
        for name, claim in found.claims.items()
        for run in (claim.over, claim.run)
        if (strip := picture_strip(found.results, run.cell))
    ]
    return WORDS.section("examples", folded=True, strips=Markup().join(strips)) if strips else None


def _pareto(found: Solvers, solver: str, column: str, caption: str = "") -> MainFigure:
    """A solver's PSNR against a cost: one panel per degradation, one line per start; LDPS's has that in few steps."""
    quantity = QUANTITIES[column]
    panels: dict[str, dict[str, pd.DataFrame]] = {}
    for pair in found.pairs:
        if pair.solver != solver and (solver, pair.solver) != (LONG, FEW):
            continue
        runs = [run for run in pair.runs if run.nfe > 0 and not run.control]
        for kind in sorted({run.kind for run in runs}):
            rows = [run.rows for run in runs if run.kind == kind]
            costs = [quantity.scale * one[column].mean() for one in rows]
            psnr = pd.concat([one["psnr"] for one in rows], axis=1, keys=costs).sort_index(axis=1)
            panels.setdefault(pair.degradation, {})[kind if pair.solver == solver else readable(pair.solver)] = psnr
    cost = quantity.label if quantity.label.isupper() else quantity.label.lower()
    kinds = dict.fromkeys(run.kind for pair in found.pairs for run in pair.runs if run.nfe > 0 and not run.control)
    return lines(
        panels, f"{readable(solver)}: PSNR against {cost}", quantity.title, "PSNR, dB", caption, log_x=True,
        order=[*kinds, readable(FEW)],
    )  # fmt: skip
