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
from studies.robustness.likeness import ALPHA, BREAK_DB, NUM_SEVERITY_BINS, Likeness, Matrix, Pair, first_break, groups
from studies.robustness.results import OWN, TRUE, UNSEEN, Grid, Remedy, Robustness, over_pairs
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
)
from workbench.reporting.figures import Red, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))
FAILURE_DB = 3.0
"""A restoration fails where it loses more than this against the matched encoder's: its error has twice the power."""
LOSS_COLUMNS = ("psnr", "ssim", "ssim_valid", "lpips", "dists")
COST_COLUMNS = ("nfe", "decoder_evals", "encoder_evals", "flops", "seconds")
MATCHED_COLUMNS = ("psnr_degraded", "psnr_decoded", "psnr", "psnr_ceiling", "residual_ratio")
LOST = "PSNR lost against the matched encoder, dB"
RULES = {OWN: "own prediction", TRUE: "truth"}
EDGES = [round(edge, 3) for edge in np.linspace(0, 1, NUM_SEVERITY_BINS + 1)]
Rows = dict[str, dict[str, object]]


def answer(found: Robustness) -> list[str]:
    """Whether encoders carry over, why not, and what helps."""
    grid, pairs, remedy = found.grid, found.grid.mismatched_pairs(), found.remedy
    both = [] if remedy is None else remedy.holding(pairs, remedy.lead, OWN)
    return WORDS.sentences(
        pairs=pairs,
        loss=mean_interval(grid.mismatch_losses(grid.degradations)),
        ratio=over_pairs(grid, "variance_ratio", pairs),
        universal=ABSENT if grid.universal is None else grid.avoided(grid.universal, grid.degradations)[1],
        mended=mean_interval(remedy.lost(remedy.lead, both)) if remedy is not None and both else ABSENT,
        worth=_equal_cost.worth_of(found.comparisons["mismatched"]),
        unseen=grid.avoided(UNSEEN, grid.degradations)[1],
    )


def main_figure(found: Robustness) -> MainFigure:
    """PSNR of every encoder on every degradation."""
    caption = (
        "Each column is one set of measurements, the same for every encoder; frames mark the encoders trained on it. "
        "Prior, solver and start rule are the same everywhere. Cells lead to examples."
    )
    figure = grid_map(found.grid, found.grid.column("psnr"), "PSNR of the restored image, dB")
    return MainFigure(figure, caption=caption)


def example(found: Robustness) -> str | None:
    """A matched encoder's cell."""
    cells = [str(found.first.frames[pair]["cell"].iloc[0]) for pair in found.first.matched_pairs()]
    return next((cell for cell in cells if len(found.pictures.get(cell, {}).get("image_id", ()))), None)


def loss_matrix(found: Robustness) -> Section:
    """What each encoder loses against the matched one, image by image, and how far trainings lie apart."""
    grid = found.grid
    maps = []
    for column in filter(grid.has, LOSS_COLUMNS):
        quantity = QUANTITIES[column]
        title = f"{quantity.label} lost against the matched encoder" + (f", {quantity.unit}" if quantity.unit else "")
        maps.append(grid_map(grid, grid.matrix(partial(grid.lost, column)), title, quantity.decimals, "diverging"))
    return WORDS.section("loss", maps=side_by_side(maps), seeds=_seed_table(found))


def restored_section(found: Robustness) -> Section:
    """What PSNR should be read against."""
    matched = {readable(d): found.grid.frames[d, d] for _, d in found.grid.matched_pairs()}
    return WORDS.section("restored", folded=True, table=means_table(matched, MATCHED_COLUMNS, "matched encoder on"))


def universal_section(found: Robustness) -> Section | None:
    """How much of the mismatch loss an encoder trained on the mixture avoids."""
    grid = found.grid
    if grid.universal is None or not grid.mismatched_pairs():
        return None
    rows: Rows = {}
    for name, tested in (*((readable(d), [d]) for d in grid.degradations), ("all", list(grid.degradations))):
        cost, mine, part = grid.avoided(grid.universal, tested)
        rows[name] = {"mismatched loses, dB": cost, "universal loses, dB": mine, "part avoided": part}
        if UNSEEN in grid.encoders:
            _, unseen, part = grid.avoided(UNSEEN, tested)
            rows[name] |= {"unseen loses, dB": unseen, "part avoided, unseen": part}
    return WORDS.section("universal", table=table(rows, "tested on"), unseen=UNSEEN in grid.encoders)


def severity_matrix(found: Robustness) -> Section:
    """Whether each encoder ranks and calibrates the error of its own latents, and where its starts land."""
    grid = found.grid

    def ranked(truth: str, name: str) -> "Figure":
        def rank(pair: Pair) -> Estimate:
            both = grid.frames[pair][["var_hat", truth]]
            return Estimate(float(both.corr("spearman").to_numpy()[0, 1]), math.nan, math.nan, len(both))

        return grid_map(grid, grid.matrix(rank), f"Rank correlation with {name}", 2, "diverging", "low", 1)

    def late(pair: Pair) -> "pd.Series[float]":
        return grid.frames[pair]["start_timestep"] - grid.frames[pair]["oracle_timestep"]

    maps = [
        ranked("severity", "severity"),
        ranked("s2", "the true error"),
        grid_map(grid, grid.column("variance_ratio"), "True over predicted variance, mean", 2, "ratio"),
        grid_map(grid, grid.matrix(late), "Start timestep minus the oracle's", 0, "diverging", "low"),
    ]
    if grid.has("bias"):
        maps.append(grid_map(grid, grid.column("bias"), "Mean error of the latent (bias)", 3, "diverging"))
    told = {pair for pair in grid.pairs_of() if trivial_of(grid.frames[pair])}
    if told:
        beaten = grid.matrix(lambda pair: trivial_gain(grid.frames[pair]) if pair in told else None)
        title = f"Rank correlation with the true error: {GAIN}"
        maps.append(grid_map(grid, beaten, title, 2, "diverging", "low", 1))
    matched = {readable(d): grid.frames[d, d] for _, d in grid.matched_pairs() if (d, d) in told}
    every = [cell["fell_back"] for cell in grid.frames.values() if "fell_back" in cell]
    return WORDS.section(
        "severity",
        folded=True,
        maps=side_by_side(maps),
        trivial=trivial_table(matched, "matched encoder on") if matched else Markup(),
        fell_back=100 * float(np.concatenate(every).mean()) if every else 0.0,
    )


def remedy_section(found: Robustness) -> Section | None:
    """What each start rule loses, closes and costs, for encoders that know the degradation or do not."""
    remedy = found.remedy
    if remedy is None or not (held := remedy.groups()):
        return None
    lead, name = remedy.lead, rule_name(remedy.lead)
    judged = remedy.holding([pair for pairs in held.values() for pair in pairs], lead, OWN)
    by_rule = {
        f"{group}: {rule_name(rule)}": (rule, remedy.holding(pairs, rule))
        for (group, pairs), rule in itertools.product(held.items(), remedy.rules)
    }
    both = {
        f"{group}, cells of {rule_name(rival)}: {rule_name(rule)}": (rule, remedy.holding(pairs, lead, rival))
        for rival in remedy.rules
        if rival not in (OWN, lead, TRUE)
        for group, pairs in held.items()
        for rule in (lead, rival)
    }
    mismatched = remedy.holding(held.get("mismatched", []), lead, OWN, TRUE)
    by_degradation = {
        f"{readable(d)}: {rule_name(rule)}": (rule, [pair for pair in mismatched if pair[1] == d])
        for d in remedy.own.degradations
        for rule in (lead, TRUE)
    }
    caption = (
        "Means over a group's cells, image by image. Lost: against the matched encoder with its own prediction; the "
        "gap is what the own prediction is short of the truth. Machines may have been shared: times of different rules "
        "compare roughly, their FLOPs exactly"
    )
    return WORDS.section(
        "remedy",
        rules=[(rule, rule_name(rule)) for rule in remedy.rules],
        lead=name,
        seed=found.seed,
        pairs=len(judged),
        controls=any(found.comparisons.values()),
        maps=_group_maps(remedy, held),
        pair_maps=_pair_maps(remedy, judged),
        degradations=_rules_table(remedy, by_degradation, f"Mismatched encoders with {name} and with the truth"),
        rivals=_rules_table(remedy, both, f"{capital(name)} and each other rule on the cells that have both"),
        everything=_rules_table(remedy, by_rule, caption),
    )


def controls_section(found: Robustness) -> Section | None:
    """Gains over each control of equal mean FLOPs."""
    return _equal_cost.section(found.comparisons) if any(found.comparisons.values()) else None


def cost_section(found: Robustness) -> Section:
    """Network evaluations, compute and time of an image."""
    grid = found.grid
    panels: dict[str, dict[str, pd.Series[float]]] = {}
    for e, d in grid.pairs_of():
        panels.setdefault(d, {})[e] = grid.frames[e, d]["nfe"]
    figures = [
        grid_map(grid, grid.column("nfe"), "Mean NFE of an image", 1),
        distributions(panels, title="NFE, image by image", unit="NFE of one image"),
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
    means = likeness.by_severity.sum(2) / (len(names) - 1)
    lines = dict(zip(names, _plain(means.T), strict=True))
    lines["sampling alone (at most)"] = _plain(likeness.sampling_by_severity[None])[0]
    title, label = "Distance to the others, by severity", "mean Fréchet distance of latents"
    figures = [
        *(heat_map(_plain(distances, likeness.num_images), names, names, title=capital(name), decimals=1)
          for name, distances in likeness.distances.items()),
        dendrogram(likeness.latents, names, title="Who joins whom", unit=unit),
        point_map(mapped.points, names, title="Degradations on a map", unit="distance as of latents"),
        severity_lines({"": lines}, EDGES, title=title, y_label=label, order=tuple(lines)),
    ]  # fmt: skip
    pairs = list(itertools.combinations(range(len(names)), 2))
    nearest, farthest = (choose(pairs, key=lambda pair: likeness.latents[pair]) for choose in (min, max))
    joined = groups(likeness.latents)

    def said(places: Sequence[int]) -> str:
        return listed([readable(names[place]) for place in places])

    return WORDS.section(
        "alike",
        folded=True,
        nearest=said(nearest),
        farthest=said(farthest),
        distances=[float(likeness.latents[pair]) for pair in (nearest, farthest)],
        groups=[said(group) for group in joined] if len(joined) < len(names) else [],
        num_images=likeness.num_images,
        sampling=float(likeness.sampling.max()),
        explained=mapped.explained,
        stress=mapped.stress,
        figures=side_by_side(figures),
    )


def link_section(found: Robustness) -> Section | None:
    """Loss against the distance that was named beforehand, and Mantel's test of all that were tried."""
    likeness = found.likeness
    if likeness is None or not likeness.lost:
        return None
    name, short = next(iter(likeness.distances)), abbreviations(likeness.names)
    figure = labelled_scatter(
        [float(likeness.latents[likeness.place(pair)]) for pair in likeness.lost],
        [mean_interval(values) for values in likeness.lost.values()],
        [f"{short[encoder]}→{short[degradation]}" for encoder, degradation in likeness.lost],
        title=f"Loss against the {name}",
        x_label=capital(name),
        y_label=LOST,
    )
    rows: Rows = {
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
    return WORDS.section(
        "link",
        folded=True,
        verdict=_link(likeness),
        tests=table(rows, "loss against", decimals, caption) if rows else Markup(),
        figure=side_by_side([figure]),
        legend="; ".join(f"{short[name]} {readable(name)}" for name in likeness.names),
        n=len(likeness.names),
    )


def severity_section(found: Robustness) -> Section | None:
    """At which level a mismatched encoder breaks, and whether it starts too early or too late there."""
    likeness = found.likeness
    if likeness is None or not likeness.lost:
        return None
    losses, starts = likeness.by_bin(likeness.lost), likeness.by_bin(likeness.start_error)
    mean_loss = likeness.mean_by_bin(likeness.lost)

    def drawn(lines: Mapping[Pair, Sequence[Estimate]], mean: Sequence[Estimate], name: str, label: str,
              threshold: float | None = None) -> "list[Figure]":  # fmt: skip
        tested: dict[str, dict[str, Sequence[Estimate]]] = {}
        for (e, d), line in sorted(lines.items(), key=lambda item: likeness.place(item[0])[::-1]):
            tested.setdefault(d, {})[e] = line
        draw = partial(severity_lines, edges=EDGES, y_label=label, threshold=threshold)
        return [draw({"": {"mean": mean}}, title=f"Mean over mismatched encoders: {name}"),
                draw(tested, title=f"{capital(name)} by degradation tested on", order=likeness.names)]  # fmt: skip

    late = "start timestep minus the oracle's"
    figures = drawn(losses, mean_loss, "loss", LOST, BREAK_DB)
    figures += drawn(starts, likeness.mean_by_bin(likeness.start_error), "start", late)

    def broken(e: str, d: str) -> str:
        if (e, d) not in losses:
            return "–" if e == d else "n/a"
        if (first := first_break(losses[e, d])) is None:
            return "never"
        error = starts[e, d][first]
        return f"{_bin_name(first)}, {'too late' if error.high < 0 else 'too early' if error.low > 0 else 'on time'}"

    rows: Rows = {readable(e): {readable(d): broken(e, d) for d in likeness.names} for e in likeness.names}
    first = first_break(mean_loss)
    return WORDS.section(
        "breaks",
        folded=True,
        threshold=BREAK_DB,
        where=None if first is None else _bin_name(first),
        loss=None if first is None else mean_loss[first],
        broken=sum(first_break(line) is not None for line in losses.values()),
        pairs=len(losses),
        figures=side_by_side(figures),
        table=table(rows, "trained on \\ tested on", caption="Where each encoder breaks, and how it starts there"),
    )


def failures_section(found: Robustness, num_images: int = 6) -> Section | None:
    """The part of the images on which each encoder fails, and the worst of those whose pictures are kept.

    Args:
        num_images: so many of them.
    """
    grid, remedy = found.first, found.remedy
    if not (pairs := grid.mismatched_pairs()):
        return None

    def failing(of: Grid, pair: Pair) -> "pd.Series[float]":
        return 100.0 * (grid.frames[pair[1], pair[1]]["psnr"] - of.frames[pair]["psnr"] > FAILURE_DB)

    def part(of: Grid) -> Estimate:
        return mean_interval(over_images([failing(of, pair) for pair in pairs if pair in of.frames])).scaled(0.01)

    matrix = grid.matrix(lambda pair: failing(grid, pair) if (pair[1],) * 2 in grid.frames else None)
    return WORDS.section(
        "failures",
        threshold=FAILURE_DB,
        own=part(grid),
        mended=ABSENT if remedy is None else part(remedy.rules[remedy.lead]),
        lead="" if remedy is None else rule_name(remedy.lead),
        map=side_by_side([grid_map(grid, matrix, f"Images that lose more than {FAILURE_DB:g} dB, %", 0)]),
        cases=worst_cases(found, num_images),
    )


def examples_section(found: Robustness, num_images: int = 3) -> Section:
    """Every encoder's restorations of the same images, then for each degradation the worst and the best case kept."""
    lead = "" if found.remedy is None else rule_name(found.remedy.lead)
    return WORDS.section("examples", folded=True, parts=all_examples(found, num_images), seed=found.seed, lead=lead)


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
    examples_section,
)
"""The page's sections, in order; those for which the results hold nothing are None."""


def grid_map(
    grid: Grid,
    matrix: Sequence[Sequence[Estimate]],
    title: str,
    decimals: int = 2,
    scale: Scale = "sequential",
    red: Red = "high",
    span: float | None = None,
) -> "Figure":
    """A matrix over the grid; matched cells are outlined, and cells lead to their examples."""
    places = {(e, d): (i, j) for i, e in enumerate(grid.encoders) for j, d in enumerate(grid.degradations)}
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
        outlined=[places[pair] for pair in grid.matched_pairs()],
        links={places[pair]: f"#{anchor(grid.frames[pair])}" for pair in grid.pairs_of()},
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


def _seed_table(found: Robustness) -> Markup:
    """The mean loss of each training seed, and how far the losses of one pair lie apart; empty for one seed."""
    grids = found.by_seed
    if len(grids) < 2:
        return Markup()
    losses = pd.DataFrame({
        seed: {f"{readable(e)} on {readable(d)}": (grid.frames[d, d]["psnr"] - grid.frames[e, d]["psnr"]).mean()
               for e, d in grid.mismatched_pairs()}
        for seed, grid in grids.items()
    }).dropna()  # fmt: skip
    caption = "Figures of encoders trained with several seeds are means over the trainings, image by image"
    if len(losses):
        apart = losses.max(axis=1) - losses.min(axis=1)
        caption += (
            f". The seeds' losses of one pair lie {number(apart.mean(), 2)} dB apart on average, "
            f"{number(apart.max(), 2)} dB at most ({apart.idxmax()}); intervals are over images and do not hold this "
            "spread"
        )
    rows = {s: {"mismatched encoders lose, dB": grid.mismatch_losses(grid.degradations)} for s, grid in grids.items()}
    return table(rows, "training seed", caption=caption)


def _group_maps(remedy: Remedy, held: Mapping[str, list[Pair]]) -> Markup:
    """Groups of encoders x rules. A rule that was not tried on all cells of a group is in the tables only."""

    def drawn(title: str, decimals: int, value: Callable[[str, list[Pair]], Estimate],
              scale: Scale = "sequential") -> "list[Figure]":  # fmt: skip
        frame = pd.DataFrame({
            rule_name(r): {name: value(r, pairs) if remedy.holding(pairs, r) == pairs else ABSENT
                           for name, pairs in held.items()}
            for r in remedy.rules
        })  # fmt: skip
        known = frame.map(lambda cell: not math.isnan(cell.mean))
        frame = frame.loc[known.any(axis=1), known.any()]
        if frame.empty:
            return []
        rows, columns = list(frame.index), list(frame.columns)
        draw = partial(heat_map, row_title="encoder", column_title="variance matched", decimals=decimals, scale=scale)
        return [draw(frame.to_numpy().tolist(), rows, columns, title=title)]

    return side_by_side([
        *drawn(LOST, 2, lambda r, pairs: mean_interval(remedy.lost(r, pairs)), "diverging"),
        *drawn("Part of the gap closed, %", 0, partial(_closed, remedy)),
        *drawn("Mean NFE of an image", 1, lambda r, pairs: remedy.cost(r, "nfe", pairs)),
    ])  # fmt: skip


def _pair_maps(remedy: Remedy, judged: Sequence[Pair]) -> Markup:
    """Encoders x degradations with the leading rule."""
    own, lead, name = remedy.own, remedy.rules[remedy.lead], readable(remedy.lead)
    gains = own.matrix(lambda pair: remedy.gain(remedy.lead, OWN, [pair]) if pair in judged else None)

    def of(column: str, scale: float = 1.0) -> list[list[Estimate]]:
        return own.matrix(lambda p: scale * lead.frames[p][column].astype(float) if p in lead.frames else None)

    maps = [
        grid_map(own, gains, f"PSNR that {name} gains over the own prediction, dB", 2, "diverging", "low"),
        grid_map(own, of("nfe"), f"Mean NFE of an image, {name}", 1),
    ]
    if remedy.flags(remedy.lead):
        maps.append(grid_map(own, of("distrusted", 100), "Images on which the encoder is distrusted, %", 0))
    return side_by_side(maps)


def _rules_table(remedy: Remedy, lines: Mapping[str, tuple[str, Sequence[Pair]]], caption: str) -> Markup:
    """What rules lose, close and cost on some cells; empty where none of them has results."""
    rows: Rows = {
        name: {
            "cells": str(len(pairs)),
            "PSNR, dB": remedy.mean(rule, "psnr", pairs),
            "lost, dB": remedy.lost(rule, pairs),
            "gap closed, %": _closed(remedy, rule, pairs),
            "NFE": remedy.mean(rule, "nfe", pairs),
            "GFLOP": remedy.cost(rule, "flops", pairs),
            "time, ms": remedy.cost(rule, "seconds", pairs),
            "start's time, %": remedy.start_share(rule, pairs).scaled(100),
            "flagged, %": 100 * remedy.mean(rule, "distrusted", pairs) if remedy.flags(rule) else ABSENT,
        }
        for name, (rule, pairs) in lines.items()
        if pairs
    }  # fmt: skip
    decimals = {"NFE": 1, "GFLOP": 1, "time, ms": 0, "gap closed, %": 0, "start's time, %": 1, "flagged, %": 0}
    return table(rows, "encoder: variance matched", decimals, caption) if rows else Markup()


def _closed(remedy: Remedy, rule: str, pairs: Sequence[Pair]) -> Estimate:
    return ABSENT if rule in (OWN, TRUE) else remedy.closed(rule, pairs).scaled(100)


def _link(likeness: Likeness) -> str:
    """What may be said of the link: it must pass the correction for all distances that were tried."""
    test = likeness.tests.get(next(iter(likeness.distances)))
    if test is None:
        return "untested"
    linked = test.r > 0 and test.p_two_sided <= ALPHA
    return "shown" if linked and likeness.corrected(test) <= ALPHA else "hint" if linked else "not shown"


def _plain(matrix: Matrix, num_images: int = 0) -> list[list[Estimate]]:
    return [[Estimate(float(value), math.nan, math.nan, num_images) for value in row] for row in matrix]


def _bin_name(index: int) -> str:
    return f"{number(EDGES[index], 1)} to {number(EDGES[index + 1], 1)}"
