"""The page of the robustness study: its answer, figures and tables, from typed results.

Rows of matrices are severity encoders by the degradation that they were trained on, columns the degradations of the
test images. A positive loss means that the matched encoder does better.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from studies import _equal_cost
from studies._rows import ABSENT, means_table, over_images, table
from studies._trivial import GAIN, trivial_gain, trivial_of, trivial_table
from studies.robustness.examples import all_examples, anchor, worst_cases
from studies.robustness.likeness import (
    ALPHA,
    BREAK_DB,
    NUM_SEVERITY_BINS,
    Likeness,
    Matrix,
    Pair,
    first_break,
    groups,
    training_choices,
)
from studies.robustness.results import OWN, TRUE, UNSEEN, Grid, Remedy, Robustness, over_pairs, rank
from workbench.metrics import Estimate, classical_map, mean_interval
from workbench.reporting import (
    QUANTITIES,
    MainFigure,
    Section,
    Words,
    capital,
    dendrogram,
    distributions,
    heat_map,
    labelled_scatter,
    listed,
    number,
    point_map,
    readable,
    severity_lines,
    side_by_side,
    svg,
)
from workbench.reporting.figures import Red, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))
FAILURE_DB = 3.0
"""A restoration fails where it loses more than this against the matched encoder's: its error has twice the power."""
LOSS_COLUMNS = ("ssim", "ssim_valid", "lpips")
COST_COLUMNS = ("nfe", "decoder_evals", "encoder_evals", "flops", "seconds")
MATCHED_COLUMNS = ("psnr_degraded", "psnr_decoded", "psnr", "psnr_ceiling", "residual_ratio")
LOST = "PSNR lost against the matched encoder, dB"
RULES = {OWN: "own prediction", TRUE: "truth"}
Estimates = Sequence[Sequence[Estimate]]


def answer(found: Robustness) -> list[str]:
    """Whether encoders carry over, why not, and what helps."""
    grid, pairs, remedy = found.grid, found.grid.mismatched_pairs(), found.remedy
    mended = ABSENT
    if remedy is not None and (both := remedy.holding(pairs, remedy.lead, OWN)):
        mended = mean_interval(remedy.lost(remedy.lead, both))
    worth = _equal_cost.worth_of(found.comparisons.get("mismatched", ()))
    return WORDS.sentences(
        pairs=pairs,
        loss=mean_interval(grid.mismatch_losses(grid.degradations)),
        ratio=over_pairs(grid, "variance_ratio", pairs),
        universal=ABSENT if grid.universal is None else grid.avoided(grid.universal, grid.degradations)[1],
        mended=mended,
        worth=worth,
        unseen=grid.avoided(UNSEEN, grid.degradations)[1],
    )


def main_figure(found: Robustness) -> MainFigure:
    """PSNR of every encoder on every degradation."""
    grid = found.grid
    caption = (
        "Each column is one set of measurements, the same for every encoder; frames mark the encoders trained on it. "
        "Prior, solver and start rule are the same everywhere. Cells lead to examples."
    )
    figure = grid_figure(grid, grid.column("psnr"), "PSNR of the restored image, dB")
    return MainFigure(figure, "Heat map of PSNR: rows are encoders, columns the degradations tested on", caption)


def example(found: Robustness) -> str | None:
    """A matched encoder's cell."""
    cells = [str(found.first.frames[pair]["cell"].iloc[0]) for pair in found.first.matched_pairs()]
    return next((cell for cell in cells if len(found.pictures.get(cell, {}).get("image_id", ()))), None)


def loss_matrix(found: Robustness) -> Section:
    """What each encoder loses against the matched one, image by image, and how far trainings lie apart."""
    grid = found.grid
    figures = []
    for column in ("psnr", *(column for column in LOSS_COLUMNS if grid.has(column))):
        quantity = QUANTITIES[column]
        matrix = grid.matrix(partial(grid.lost, column))
        title = f"{quantity.label} lost against the matched encoder" + (f", {quantity.unit}" if quantity.unit else "")
        figures.append(grid_map(grid, matrix, title, quantity.decimals, "diverging"))
    return WORDS.section("loss", maps=side_by_side(figures), seeds=_seed_table(found))


def restored_section(found: Robustness) -> Section:
    """What PSNR should be read against."""
    matched = {readable(d): found.grid.frames[d, d] for _, d in found.grid.matched_pairs()}
    return WORDS.section("restored", folded=True, table=means_table(matched, MATCHED_COLUMNS, "matched encoder on"))


def universal_section(found: Robustness) -> Section | None:
    """How much of the mismatch loss an encoder trained on the mixture avoids."""
    grid = found.grid
    if grid.universal is None or not grid.mismatched_pairs():
        return None
    rows = {}
    tested = {readable(d): [d] for d in grid.degradations if grid.mismatched(d)}
    for name, degradations in {**tested, "all": list(grid.degradations)}.items():
        cost, mine, part = grid.avoided(grid.universal, degradations)
        rows[name] = {"mismatched loses, dB": cost, "universal loses, dB": mine, "part avoided": part}
        if UNSEEN in grid.encoders:
            _, unseen, part = grid.avoided(UNSEEN, degradations)
            rows[name] |= {"unseen loses, dB": unseen, "part avoided, unseen": part}
    return WORDS.section("universal", table=table(rows, "tested on"), unseen=UNSEEN in grid.encoders)


def severity_matrix(found: Robustness) -> Section:
    """Whether each encoder ranks and calibrates the error of its own latents, and where its starts land."""
    grid = found.grid
    beaten = {pair: trivial_gain(grid.frames[pair]) for pair in grid.pairs_of(*grid.encoders)
              if trivial_of(grid.frames[pair])}  # fmt: skip
    starts = grid.matrix(lambda e, d: grid.frames[e, d]["start_timestep"] - grid.frames[e, d]["oracle_timestep"])
    figures = [
        grid_map(grid, _ranks(grid, "severity"), "Rank correlation with severity", 2, "diverging", "low", 1),
        grid_map(grid, _ranks(grid, "s2"), "Rank correlation with the true error", 2, "diverging", "low", 1),
        grid_map(grid, grid.column("variance_ratio"), "True over predicted variance, mean", 2, "ratio"),
        grid_map(grid, starts, "Start timestep minus the oracle's", 0, "diverging", "low"),
    ]
    if grid.has("bias"):
        figures.append(grid_map(grid, grid.column("bias"), "Mean error of the latent (bias)", 3, "diverging"))
    if beaten:
        matrix = [[beaten.get((e, d), ABSENT) for d in grid.degradations] for e in grid.encoders]
        title = f"Rank correlation with the true error: {GAIN}"
        figures.append(grid_map(grid, matrix, title, 2, "diverging", "low", 1))
    told = {readable(d): grid.frames[d, d] for _, d in grid.matched_pairs() if (d, d) in beaten}
    every = [cell["fell_back"] for cell in grid.frames.values() if "fell_back" in cell]
    return WORDS.section(
        "severity",
        folded=True,
        maps=side_by_side(figures),
        trivial=trivial_table(told, "matched encoder on") if told else Markup(),
        fell_back=100 * float(np.concatenate(every).mean()) if every else 0.0,
    )


def remedy_section(found: Robustness) -> Section | None:
    """What each start rule loses, closes and costs, for encoders that know the degradation or do not."""
    remedy = found.remedy
    if remedy is None or not (held := remedy.groups()):
        return None
    judged = remedy.holding([pair for pairs in held.values() for pair in pairs], remedy.lead, OWN)
    gains = remedy.own.matrix(lambda e, d: remedy.gain(remedy.lead, OWN, [(e, d)]) if (e, d) in judged else None)
    return WORDS.section(
        "remedy",
        folded=False,
        rules=[(rule, rule_name(rule)) for rule in remedy.rules],
        lead=rule_name(remedy.lead),
        seed=next(iter(found.by_seed)) if len(found.by_seed) > 1 else "",
        pairs=len(judged),
        maps=_group_maps(remedy, held),
        pair_maps=_pair_maps(remedy, gains),
        rivals=_rivals(remedy, held),
        degradations=_by_degradation(remedy, held),
        everything=_everything(remedy, held),
    )


def controls_section(found: Robustness) -> Section | None:
    """Gains over each control of equal mean FLOPs."""
    return _equal_cost.section(found.comparisons) if found.comparisons else None


def cost_section(found: Robustness) -> Section:
    """Network evaluations, compute and time of an image."""
    grid = found.grid
    panels = {d: {e: grid.frames[e, d]["nfe"] for e in grid.encoders if (e, d) in grid.frames}
              for d in grid.degradations}  # fmt: skip
    panels = {name: lines for name, lines in panels.items() if lines}
    figures = [
        grid_map(grid, grid.column("nfe"), "Mean NFE of an image", 1),
        svg(
            distributions(panels, title="NFE, image by image", unit="NFE of one image"),
            "Histograms of the network evaluations of each image, for every encoder and degradation",
        ),
    ]
    shown = [column for column in COST_COLUMNS if grid.has(column)]
    rows = {
        readable(e): pd.DataFrame({c: over_images([grid.frames[pair][c] for pair in grid.pairs_of(e)]) for c in shown})
        for e in grid.encoders
        if grid.pairs_of(e)
    }
    costs = means_table(rows, shown, "encoder trained on", "Mean of an image, over all degradations tested on")
    return WORDS.section("cost", folded=True, maps=side_by_side(figures), table=costs, device=found.device)


def alike_section(found: Robustness) -> Section | None:
    """Distances between degradations as matrices, a tree and a map."""
    likeness = found.likeness
    if likeness is None:
        return None
    names, mapped = likeness.names, classical_map(likeness.latents)
    unit = "Fréchet distance of latents (average linkage)"
    maps = [(heat_map(_plain(d, likeness.num_images), names, names, title=capital(name), decimals=1),
             f"Heat map, {name} between each two degradations")
            for name, d in likeness.distances.items()]  # fmt: skip
    tree = dendrogram(likeness.latents, names, title="Who joins whom", unit=unit)
    plane = point_map(mapped.points, names, title="Degradations on a map", unit="distance as of latents")
    means = likeness.by_severity.sum(2) / (len(names) - 1)
    lines = {name: _plain(means[None, :, i], 0)[0] for i, name in enumerate(names)}
    lines["sampling alone (at most)"] = _plain(likeness.sampling_by_severity[None], 0)[0]
    title, label = "Distance to the others, by severity", "mean Fréchet distance of latents"
    by_level = severity_lines({"": lines}, _edges(), title=title, y_label=label, order=tuple(lines))
    maps += [(tree, "Dendrogram of the degradations"), (plane, "Map of the degradations"), (by_level, title)]
    pairs = list(itertools.combinations(range(len(names)), 2))
    nearest, farthest = (choose(pairs, key=lambda pair: likeness.latents[pair]) for choose in (min, max))
    joined = groups(likeness.latents)
    return WORDS.section(
        "alike",
        folded=True,
        nearest=listed([readable(names[i]) for i in nearest]),
        farthest=listed([readable(names[i]) for i in farthest]),
        distances=[float(likeness.latents[pair]) for pair in (nearest, farthest)],
        groups=[listed([readable(names[i]) for i in group]) for group in joined] if len(joined) < len(names) else [],
        num_images=likeness.num_images,
        sampling=float(likeness.sampling.max()),
        explained=mapped.explained,
        stress=mapped.stress,
        figures=side_by_side([svg(*drawn) for drawn in maps]),
    )


def link_section(found: Robustness) -> Section | None:
    """Loss against distance, and Mantel's test."""
    likeness = found.likeness
    if likeness is None or not likeness.lost:
        return None
    short, pairs = abbreviations(likeness.names), list(likeness.lost)
    estimates = [mean_interval(values) for values in likeness.lost.values()]
    labels = [f"{short[encoder]}→{short[degradation]}" for encoder, degradation in pairs]
    across = {name: [float(d[likeness.place(pair)]) for pair in pairs] for name, d in likeness.distances.items()}
    figures = [
        svg(
            labelled_scatter(x, estimates, labels, title=f"Loss against the {name.removesuffix(', dB')}",
                             x_label=capital(name), y_label=LOST),
            f"Scatter plot of the transfer loss of each pair against the {name}",
        )
        for name, x in across.items()
    ]  # fmt: skip
    rows = {
        name: {
            "Spearman r": test.r,
            "p, one-sided": test.p_greater,
            "p, two-sided": test.p_two_sided,
            "p, corrected for all tried": likeness.corrected(test),
            "permutations": f"{test.num_permutations:,} ({'all' if test.exact else 'random'})",
        }
        for name, test in likeness.tests.items()
    }
    decimals = {"p, one-sided": 4, "p, two-sided": 4, "p, corrected for all tried": 4}
    caption = f"Mantel's test over n = {len(likeness.names)} degradations; one-sided: farther apart, more lost"
    every = {
        f"{readable(e)} → {readable(d)}": {
            **{capital(name): x[place] for name, x in across.items()},
            "PSNR lost, dB": estimates[place],
        }
        for place, (e, d) in enumerate(pairs)
    }
    return WORDS.section(
        "link",
        folded=True,
        verdict=_link(likeness),
        tests=table(rows, "loss against", decimals, caption) if rows else Markup(),
        figures=side_by_side(figures),
        legend="; ".join(f"{short[name]} {readable(name)}" for name in likeness.names),
        every=table(every, "trained on → tested on"),
        n=len(likeness.names),
    )


def severity_section(found: Robustness) -> Section | None:
    """At which level a mismatched encoder breaks, and whether it starts too early or too late there."""
    likeness = found.likeness
    if likeness is None or not likeness.lost:
        return None
    losses, starts = likeness.by_bin(likeness.lost), likeness.by_bin(likeness.start_error)
    loss, start = LOST, "start timestep minus the oracle's"

    def panels(of: Mapping[Pair, Sequence[Estimate]]) -> dict[str, dict[str, Sequence[Estimate]]]:
        found = {d: {e: of[e, d] for e in likeness.names if (e, d) in of} for d in likeness.names}
        return {degradation: group for degradation, group in found.items() if group}

    mean_loss, mean_start = likeness.mean_by_bin(likeness.lost), likeness.mean_by_bin(likeness.start_error)

    def lines(title: str, label: str, drawn: Mapping[str, Mapping[str, Sequence[Estimate]]]) -> Markup:
        order = () if "" in drawn else likeness.names
        dashed = BREAK_DB if label == loss else None
        figure = severity_lines(drawn, _edges(), title=title, y_label=label, order=order, threshold=dashed)
        return svg(figure, f"{title}: {label}, by severity")

    figures = [
        lines("Mean over mismatched encoders: loss", loss, {"": {"mean": mean_loss}}),
        lines("Mean over mismatched encoders: start", start, {"": {"mean": mean_start}}),
        lines("Loss by degradation tested on", loss, panels(losses)),
        lines("Start by degradation tested on", start, panels(starts)),
    ]
    rows = {
        readable(e): {readable(d): _break_cell(losses, starts, (e, d)) for d in likeness.names} for e in likeness.names
    }
    broken = sum(first_break(line) is not None for line in losses.values())
    first = first_break(mean_loss)
    return WORDS.section(
        "breaks",
        folded=True,
        threshold=BREAK_DB,
        where=None if first is None else _bin_name(first),
        loss=None if first is None else mean_loss[first],
        broken=broken,
        pairs=len(losses),
        figures=side_by_side(figures),
        table=table(rows, "trained on \\ tested on", caption="Where each encoder breaks, and how it starts there"),
    )


def training_section(found: Robustness) -> Section | None:
    """Which few degradations to train on."""
    likeness = found.likeness
    if likeness is None or not (choices := training_choices(likeness.loss)):
        return None
    names = [readable(name) for name in likeness.names]
    rows: dict[str, dict[str, object]] = {
        str(len(choice.chosen)): {
            "trained on": ", ".join(names[i] for i in choice.chosen),
            "worst loss, dB": choice.worst,
            "where": names[choice.worst_at],
            "mean loss, dB": choice.mean,
        }
        for choice in choices
    }
    grid = found.grid
    if grid.universal is not None:
        losses = {d: values.mean() for e, d in grid.pairs_of(grid.universal)
                  if (values := grid.lost("psnr", e, d)) is not None}  # fmt: skip
        if losses:
            worst = max(losses, key=lambda d: losses[d])
            rows["1, universal"] = {
                "trained on": "the mixture of all",
                "worst loss, dB": float(losses[worst]),
                "where": readable(worst),
                "mean loss, dB": float(np.mean(list(losses.values()))),
            }
    return WORDS.section("training", folded=True, table=table(rows, "encoders"))


def failures_section(found: Robustness, num_images: int = 6) -> Section | None:
    """The part of the images on which each encoder fails, and the worst of those whose pictures are kept.

    Args:
        num_images: so many of them.
    """
    grid, remedy = found.first, found.remedy
    if not grid.mismatched_pairs():
        return None

    def failing(encoder: str, degradation: str) -> "pd.Series | None":
        values = grid.lost("psnr", encoder, degradation)
        return None if values is None else 100.0 * (values > FAILURE_DB)

    def part(of: Grid) -> Estimate:
        pairs = [pair for pair in grid.mismatched_pairs() if pair in of.frames]
        losses = [grid.frames[d, d]["psnr"] - of.frames[e, d]["psnr"] for e, d in pairs]
        return mean_interval(over_images([(loss > FAILURE_DB).astype(float) for loss in losses]))

    title = f"Images that lose more than {FAILURE_DB:g} dB, %"
    return WORDS.section(
        "failures",
        threshold=FAILURE_DB,
        own=part(grid),
        mended=ABSENT if remedy is None else part(remedy.rules[remedy.lead]),
        lead="" if remedy is None else rule_name(remedy.lead),
        map=grid_map(grid, grid.matrix(failing), title, 0),
        cases=worst_cases(found, num_images),
    )


def examples_section(found: Robustness, num_images: int = 3) -> Section:
    """Every encoder's restorations of the same images, then for each degradation the worst and the best case kept."""
    seed = next(iter(found.by_seed)) if len(found.by_seed) > 1 else ""
    lead = "" if found.remedy is None else rule_name(found.remedy.lead)
    return WORDS.section("examples", folded=True, parts=all_examples(found, num_images), seed=seed, lead=lead)


SECTIONS = (
    loss_matrix,
    remedy_section,
    controls_section,
    universal_section,
    failures_section,
    severity_matrix,
    restored_section,
    cost_section,
    alike_section,
    link_section,
    severity_section,
    training_section,
    examples_section,
)
"""The page's sections, in order; those for which the results hold nothing are None."""


def grid_map(
    grid: Grid,
    matrix: Estimates,
    title: str,
    decimals: int = 2,
    scale: Scale = "sequential",
    red: Red = "high",
    span: float | None = None,
) -> Markup:
    """A matrix over the grid as inline SVG; matched cells are outlined, and cells lead to their examples."""
    figure = grid_figure(grid, matrix, title, decimals, scale, red, span)
    return svg(figure, f"Heat map, {title}: rows are encoders, columns the degradations tested on")


def grid_figure(
    grid: Grid,
    matrix: Estimates,
    title: str,
    decimals: int = 2,
    scale: Scale = "sequential",
    red: Red = "high",
    span: float | None = None,
) -> "Figure":
    """The same as a figure."""

    def place(encoder: str, degradation: str) -> tuple[int, int]:
        return grid.encoders.index(encoder), grid.degradations.index(degradation)

    return heat_map(
        matrix,
        grid.encoders,
        grid.degradations,
        title=title,
        row_title="encoder trained on",
        column_title="tested on",
        decimals=decimals,
        scale=scale,
        red=red,
        span=span,
        outlined=[place(*pair) for pair in grid.matched_pairs()],
        links={place(*pair): f"#{anchor(grid.frames[pair])}" for pair in grid.pairs_of(*grid.encoders)},
    )


def rule_name(rule: str) -> str:
    """A start rule in words."""
    return RULES.get(rule, readable(rule))


def abbreviations(names: Sequence[str]) -> dict[str, str]:
    """A short name for each: initials of its words, more letters of the first word where two would be alike."""
    found: dict[str, str] = {}
    for name in names:
        first, *others = readable(name).replace("-", " ").replace("+ ", "").split()
        rest = "".join(word[0] for word in others).upper()
        candidates = [capital(first[:length]) + rest for length in range(1 if others else 2, len(first) + 1)]
        free = [c for c in candidates if c not in found.values()]
        found[name] = free[0] if free else f"{candidates[-1]}{len(found)}"
    return found


def _ranks(grid: Grid, truth: str) -> Estimates:
    """Each encoder's rank correlation of the predicted variance with another column; figures without intervals."""
    found = {
        p: Estimate(rank(cell, "var_hat", truth), math.nan, math.nan, len(cell)) for p, cell in grid.frames.items()
    }
    return [[found.get((e, d), ABSENT) for d in grid.degradations] for e in grid.encoders]


def _seed_table(found: Robustness) -> Markup:
    """The mean loss of each training seed, and how far the losses of one pair lie apart; empty for one seed."""
    grids = found.by_seed
    if len(grids) < 2:
        return Markup()
    pairs = [p for p in found.grid.mismatched_pairs() if all(p in grid.mismatched_pairs() for grid in grids.values())]
    rows = {
        seed: {"mismatched encoders lose, dB": mean_interval(grid.mismatch_losses(grid.degradations))}
        for seed, grid in grids.items()
    }
    caption = "Figures of encoders trained with several seeds are means over the trainings, image by image"
    if pairs:
        means = {
            (e, d): [(g.frames[d, d]["psnr"] - g.frames[e, d]["psnr"]).mean() for g in grids.values()] for e, d in pairs
        }
        spread = {pair: float(np.ptp(losses)) for pair, losses in means.items()}
        widest = max(spread, key=lambda pair: spread[pair])
        caption += (
            f". The seeds' losses of one pair lie {number(float(np.mean(list(spread.values()))), 2)} dB apart on "
            f"average, {number(spread[widest], 2)} dB at most ({readable(widest[0])} on {readable(widest[1])}); "
            "intervals are over images and do not hold this spread"
        )
    return table(rows, "training seed", caption=caption)


def _group_maps(remedy: Remedy, held: Mapping[str, list[Pair]]) -> Markup:
    """Groups of encoders x rules. A rule that was not tried on all cells of a group is in the tables only."""

    def drawn(
        title: str, decimals: int, estimate: Callable[[str, list[Pair]], Estimate], scale: Scale = "sequential"
    ) -> Markup:
        lines = {
            name: {
                rule_name(r): estimate(r, pairs) if remedy.holding(pairs, r) == pairs else ABSENT for r in remedy.rules
            }
            for name, pairs in held.items()
        }
        frame = pd.DataFrame.from_dict(lines, orient="index")
        known = frame.map(lambda value: not math.isnan(value.mean))
        frame = frame.loc[known.any(axis=1), known.any(axis=0)]
        if frame.empty:
            return Markup()
        figure = heat_map(
            frame.to_numpy().tolist(),
            list(frame.index),
            list(frame.columns),
            title=title,
            row_title="encoder",
            column_title="variance matched",
            decimals=decimals,
            scale=scale,
        )
        return svg(figure, f"Heat map, {title}: rows are groups of encoders, columns rules of the start")

    def closed(rule: str, pairs: list[Pair]) -> Estimate:
        return ABSENT if rule in (OWN, TRUE) else remedy.closed(rule, pairs).scaled(100)

    figures = [
        drawn(LOST, 2, lambda r, pairs: mean_interval(remedy.lost(r, pairs)), "diverging"),
        drawn("Part of the gap closed, %", 0, closed),
        drawn("Mean NFE of an image", 1, lambda r, pairs: mean_interval(remedy.mean(r, "nfe", pairs))),
        drawn("Mean compute of an image, GFLOP", 1, lambda r, pairs: remedy.cost(r, "flops", pairs)),
        drawn("Part of the time spent on the start, %", 1, lambda r, pairs: remedy.start_share(r, pairs).scaled(100)),
    ]  # fmt: skip
    return side_by_side([figure for figure in figures if figure])


def _pair_maps(remedy: Remedy, gains: Estimates) -> Markup:
    """Encoders x degradations with the leading rule."""
    own, lead, name = remedy.own, remedy.rules[remedy.lead], readable(remedy.lead)

    def of(column: str, scale: float = 1.0) -> Estimates:
        return own.matrix(
            lambda e, d: scale * lead.frames[e, d][column].astype(float) if (e, d) in lead.frames else None
        )

    figures = [
        grid_map(own, gains, f"PSNR that {name} gains over the own prediction, dB", 2, "diverging", "low"),
        grid_map(own, of("nfe"), f"Mean NFE of an image, {name}", 1),
    ]
    if remedy.lead == "fused" and lead.has("distrusted"):
        figures.append(grid_map(own, of("distrusted", 100), "Images on which the encoder is distrusted, %", 0))
    return side_by_side(figures)


def _rivals(remedy: Remedy, held: Mapping[str, list[Pair]]) -> Markup:
    """The leading rule against each other rule, on the cells that both were tried on."""
    lead, name = remedy.lead, rule_name(remedy.lead)
    gain, part = f"PSNR that {name} gains, dB", f"gap closed by {name}, %"
    rows = {}
    for rule, (group, pairs) in itertools.product(remedy.rules, held.items()):
        if rule not in (lead, TRUE) and (both := remedy.holding(pairs, lead, rule)):
            rows[f"{rule_name(rule)}: {group}"] = {
                "cells": str(len(both)),
                gain: mean_interval(remedy.gain(lead, rule, both)),
                part: remedy.closed(lead, both).scaled(100),
                "by the other rule, %": ABSENT if rule == OWN else remedy.closed(rule, both).scaled(100),
                f"NFE of {name}": mean_interval(remedy.mean(lead, "nfe", both)),
                "of the other rule": mean_interval(remedy.mean(rule, "nfe", both)),
            }
    decimals = {part: 0, "by the other rule, %": 0, f"NFE of {name}": 1, "of the other rule": 1}
    caption = f"{capital(name)} against each other rule, on the cells that have both"
    return table(rows, "against: encoders", decimals, caption)


def _by_degradation(remedy: Remedy, held: Mapping[str, list[Pair]]) -> Markup:
    """Mismatched encoders with the leading rule beside the truth, which is no upper bound."""
    lead = remedy.lead
    rows = {}
    for degradation in remedy.own.degradations:
        pairs = [p for p in remedy.holding(held.get("mismatched", []), lead, OWN, TRUE) if p[1] == degradation]
        if pairs:
            above = [mean_interval(remedy.gain(lead, TRUE, [pair])) for pair in pairs]
            rows[readable(degradation)] = {
                "pairs": str(len(pairs)),
                "gap closed, %": remedy.closed(lead, pairs).scaled(100),
                "better than the truth on": str(sum(e.mean > 0 for e in above)),
                "beyond their intervals": str(sum(e.low > 0 for e in above)),
                "NFE": mean_interval(remedy.mean(lead, "nfe", pairs)),
                "NFE of the truth": mean_interval(remedy.mean(TRUE, "nfe", pairs)),
            }  # fmt: skip
    decimals = {"gap closed, %": 0, "NFE": 1, "NFE of the truth": 1}
    caption = f"Mismatched encoders with {rule_name(lead)}, by the degradation tested on"
    return table(rows, "tested on", decimals, caption) if rows else Markup()


def _everything(remedy: Remedy, held: Mapping[str, list[Pair]]) -> Markup:
    """Every group with every rule."""
    rows = {}
    for (group, pairs), rule in itertools.product(held.items(), remedy.rules):
        if mine := remedy.holding(pairs, rule):
            flagged = rule == "fused" and remedy.rules[rule].has("distrusted")
            rows[f"{group}: {rule_name(rule)}"] = {
                "cells": str(len(mine)),
                "PSNR, dB": mean_interval(remedy.mean(rule, "psnr", mine)),
                "lost, dB": mean_interval(remedy.lost(rule, mine)),
                "short of the truth, dB": mean_interval(remedy.gain(TRUE, rule, mine)),
                "gap closed, %": ABSENT if rule in (OWN, TRUE) else remedy.closed(rule, mine).scaled(100),
                "NFE": mean_interval(remedy.mean(rule, "nfe", mine)),
                "GFLOP": remedy.cost(rule, "flops", mine),
                "time, ms": remedy.cost(rule, "seconds", mine),
                "start's time, %": remedy.start_share(rule, mine).scaled(100),
                "flagged, %": mean_interval(100 * remedy.mean(rule, "distrusted", mine)) if flagged else ABSENT,
            }  # fmt: skip
    decimals = {"NFE": 1, "GFLOP": 1, "time, ms": 0, "gap closed, %": 0, "start's time, %": 1, "flagged, %": 0}
    caption = (
        "Means over a group's cells, image by image. Lost: against the matched encoder with its own prediction; the "
        "gap is what the own prediction is short of the truth. Machines may have been shared: times of different rules "
        "compare roughly, their FLOPs exactly"
    )
    return table(rows, "encoder: variance matched", decimals, caption)


def _link(likeness: Likeness) -> str:
    """What may be said of the link: it must pass the correction for all distances that were tried."""
    test = likeness.tests.get(next(iter(likeness.distances)))
    if test is None:
        return "untested"
    linked = test.r > 0 and test.p_two_sided <= ALPHA
    return "shown" if linked and likeness.corrected(test) <= ALPHA else "hint" if linked else "not shown"


def _plain(matrix: Matrix, num_images: int) -> list[list[Estimate]]:
    return [[Estimate(float(value), math.nan, math.nan, num_images) for value in row] for row in matrix]


def _edges() -> list[float]:
    return [round(edge, 3) for edge in np.linspace(0, 1, NUM_SEVERITY_BINS + 1)]


def _bin_name(index: int) -> str:
    low, high = _edges()[index : index + 2]
    return f"{number(low, 1)} to {number(high, 1)}"


def _break_cell(
    losses: Mapping[Pair, Sequence[Estimate]], starts: Mapping[Pair, Sequence[Estimate]], pair: Pair
) -> str:
    if pair not in losses:
        return "–" if pair[0] == pair[1] else "n/a"
    first = first_break(losses[pair])
    if first is None:
        return "never"
    error = starts[pair][first]
    words = "too late" if error.high < 0 else "too early" if error.low > 0 else "on time"
    return f"{_bin_name(first)}, {words}"
