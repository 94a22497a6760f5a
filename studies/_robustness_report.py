"""What the robustness study says: its answer, and the sections of its page.

Rows are severity encoders by the degradation that they were trained on; columns are the degradations of the test
images. "Matched" is the encoder trained on the tested degradation, "mismatched" one trained on another single
degradation, "universal" one trained on a mixture. A positive loss means that the matched encoder does better.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from studies import _robustness_likeness
from studies._robustness_controls import controls_section
from studies._robustness_controls import sentences as control_sentences
from studies._robustness_examples import examples_section
from studies._robustness_failures import failures_section
from studies._robustness_figures import grid_figure, grid_map
from studies._robustness_grid import UNSEEN, Grid, Pair, read_grid, seeds_of
from studies._robustness_likeness import answer_sentences, read_likeness
from studies._robustness_remedy import read_remedy, remedy_section, remedy_sentences
from studies._robustness_severity import severity_matrix, severity_sentence
from studies._rows import ABSENT, over_images
from workbench.metrics import Estimate, mean_interval, ratio_of_means
from workbench.reporting import (
    QUANTITIES,
    MainFigure,
    Section,
    column_estimate,
    distributions,
    html_table,
    listed,
    number,
    paragraph,
    percent,
    readable,
    side_by_side,
    spoken,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.results import StudyResults

_LOSS_COLUMNS = ("psnr", "ssim", "ssim_valid", "lpips")
_COST_COLUMNS = ("nfe", "decoder_evals", "encoder_evals", "flops", "seconds")


def answer(results: "StudyResults") -> list[str]:
    """A few paragraphs of a sentence or two, each with the figures that it rests on."""
    grid = read_grid(results)
    pairs = grid.mismatched_pairs()
    if not pairs:
        return [
            "These results hold no encoder that was tested on a degradation other than its own, so they cannot say."
        ]
    said = [_loss_sentence(grid, pairs), severity_sentence(grid, pairs), _universal_sentences(grid)]
    if (remedy := read_remedy(results)) is not None:
        said += remedy_sentences(remedy)
    said += control_sentences(results)
    if (inputs := read_likeness(results)) is not None:
        link, training = answer_sentences(inputs)
        said += [link, f"{_mixture_sentence(grid)} {training}".lstrip()]
    return said


def psnr_matrix(results: "StudyResults") -> Section:
    """PSNR of the restored images, and what it should be read against."""
    import pandas as pd

    grid = read_grid(results)
    figure = svg(_psnr_figure(grid), "Heat map of PSNR: rows are encoders, columns the degradations tested on")
    columns = {
        "degraded": "psnr_degraded",
        "decoded, no diffusion": "psnr_decoded",
        "restored": "psnr",
        "autoencoder's ceiling": "psnr_ceiling",
        "residual / noise std": "residual_ratio",
    }
    shown = {name: column for name, column in columns.items() if grid.has(column)}
    rows = {}
    for degradation in grid.degradations:
        matched = grid.cell(degradation, degradation)
        if matched is not None:
            rows[readable(degradation)] = [column_estimate(matched, column) for column in shown.values()]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(shown))
    table.index.name = "tested on"
    text = paragraph(
        "Each row is a severity encoder, named after the degradation that it was trained on; each column is a set of "
        "test measurements, the same for every encoder. Frames mark the matched encoders. Prior, solver and start rule "
        "are the same everywhere, so a column's differences come from the severity encoder alone."
    )
    if UNSEEN in grid.encoders:
        text += paragraph(
            f'The row "{UNSEEN}" holds another encoder in each column: it was trained on the mixture of all other '
            "degradations, and never saw the one that it is tested on."
        )
    caption = (
        "PSNR with the matched encoder, dB, against the degraded image, D(ẑ), and D(E(x)), the most that it can be; "
        "and the rms residual of the restored image on observed entries, which noise alone would make 1"
    )
    return Section("How well are images restored?", text + figure + html_table(table, 2, caption))


def loss_matrix(results: "StudyResults") -> Section:
    """What each encoder loses against the matched one, image by image."""
    grid = read_grid(results)
    figures = []
    for column in _LOSS_COLUMNS:
        if not grid.has(column):
            continue
        quantity = QUANTITIES[column]
        matrix = [[grid.loss(column, e, d) for d in grid.degradations] for e in grid.encoders]
        title = f"{quantity.label} lost against the matched encoder" + (f", {quantity.unit}" if quantity.unit else "")
        figures.append(grid_map(grid, matrix, title, quantity.decimals, "diverging"))
    text = paragraph(
        "Differences are paired: the same image, the same measurement, the matched encoder against this one. Positive "
        "(red) means that this encoder does worse; an interval that holds 0 means that no difference was measured."
    )
    text += _seed_note(results, grid)
    return Section("What does a mismatched encoder lose?", text + side_by_side(figures))


def cost_section(results: "StudyResults") -> Section:
    """Network evaluations, compute and time of an image."""
    import pandas as pd

    grid = read_grid(results)
    quantity = QUANTITIES["nfe"]
    mean_nfe = grid.matrix(lambda cell: column_estimate(cell, "nfe"))
    panels = {
        degradation: {e: cell["nfe"] for e in grid.encoders if (cell := grid.cell(e, degradation)) is not None}
        for degradation in grid.degradations
    }
    figures = [
        grid_map(grid, mean_nfe, "Mean NFE of an image", quantity.decimals),
        svg(
            distributions({name: groups for name, groups in panels.items() if groups}, title="NFE, image by image",
                          unit="NFE of one image"),
            "Histograms of the network evaluations of each image, for every encoder and degradation",
        ),
    ]  # fmt: skip
    shown = [column for column in _COST_COLUMNS if grid.has(column)]
    rows = {}
    for encoder in grid.encoders:
        cells = [cell for d in grid.degradations if (cell := grid.cell(encoder, d)) is not None]
        if cells:
            rows[readable(encoder)] = [
                mean_interval(over_images([cell[column] * QUANTITIES[column].scale for cell in cells]))
                for column in shown
            ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[QUANTITIES[column].title for column in shown])
    table.index.name = "encoder trained on"
    decimals = {QUANTITIES[column].title: QUANTITIES[column].decimals for column in shown}
    device = results.provenance.get("device")
    text = paragraph(
        "NFE counts the evaluations of the prior's network that one image needs; orange ticks are means. Compute and "
        "time include the decoder and the guidance gradients, so a cost that moved elsewhere shows."
        + (f" Times were taken on {device}." if device else "")
    )
    return Section("What does it cost?", text + side_by_side(figures) + html_table(table, decimals, "Mean of an image"))


def universal_section(results: "StudyResults") -> Section:
    """How much of the mismatch loss an encoder trained on the mixture avoids."""
    import pandas as pd

    grid = read_grid(results)
    title = "Does one universal encoder close the gap?"
    if grid.universal is None or not grid.mismatched_pairs():
        return Section(title, paragraph("These results hold no encoder trained on a mixture, or no mismatched one."))
    columns = ["mismatched loses, dB", "universal loses, dB", "part of the loss avoided"]
    unseen = UNSEEN in grid.encoders
    if unseen:
        columns += ["unseen loses, dB", "part avoided, unseen"]
    tested = {readable(d): [d] for d in grid.degradations if grid.mismatched(d)}
    rows = {}
    for name, degradations in {**tested, "all": grid.degradations}.items():
        rows[name] = list(_gap(grid, grid.universal, degradations))
        if unseen:
            rows[name] += _gap(grid, UNSEEN, degradations)[1:]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "tested on"
    text = paragraph(
        f'The universal encoder ("{readable(grid.universal)}") was trained on a mixture of the degradations. Both '
        "losses are PSNR against the matched encoder; the mismatched one is the mean over the encoders of the other "
        "degradations. The part avoided is 1 where the universal encoder loses nothing and 0 where it loses as much as "
        "a mismatched one; it is left out where mismatch costs nothing measurable."
    )
    if unseen:
        text += paragraph(
            "The universal encoder has seen the tested degradation, so it need not generalise. An unseen one was left "
            "out of the mixture that the encoder was trained on."
        )
    return Section(title, text + html_table(table, 2) + paragraph(_universal_sentences(grid)))


SECTIONS = (
    psnr_matrix,
    loss_matrix,
    severity_matrix,
    universal_section,
    remedy_section,
    controls_section,
    cost_section,
    *_robustness_likeness.SECTIONS,
    failures_section,
    examples_section,
)
"""The page's sections, in order; those for which the results hold nothing are None."""


def main_figure(results: "StudyResults") -> MainFigure:
    """The PSNR matrix."""
    return MainFigure(_psnr_figure(read_grid(results)), "The PSNR matrix")


def _gap(grid: Grid, encoder: str, degradations: Sequence[str]) -> tuple[Estimate, Estimate, Estimate]:
    """PSNR that mismatched encoders lose, that this one loses, and the part of the loss that it avoids."""
    both = [d for d in degradations if grid.mismatched(d) and grid.cell(encoder, d) is not None]
    mismatched = grid.mismatch_losses(both)
    lost = over_images([lost for d in both if (lost := grid.lost("psnr", encoder, d)) is not None])
    cost = mean_interval(mismatched)
    # a part of nothing is noise: without a measured loss the ratio is not shown
    avoided = ratio_of_means(mismatched - lost, mismatched) if cost.low > 0 else ABSENT
    return cost, mean_interval(lost), avoided


def _seed_note(results: "StudyResults", grid: Grid) -> Markup:
    """Over how many trainings the figures are means, and how far these lie apart."""
    seeds = seeds_of(results)
    if len(seeds) < 2:
        return Markup()
    single = {readable(encoder) for (encoder, _), trained in grid.seeds.items() if len(trained) < 2}
    exception = f" (once: {listed(sorted(single))})" if single else ""
    text = (
        f"Encoders were trained {len(seeds)} times{exception}, with different seeds, and figures are means over the "
        "trainings, image by image; their intervals are over images and do not hold the spread of training."
    )
    grids = [read_grid(results, seed=seed) for seed in seeds]
    pairs = [pair for pair in grid.mismatched_pairs() if all(pair in g.mismatched_pairs() for g in grids)]
    if not pairs:
        return paragraph(text)
    means = [{pair: _mean_lost(g, pair) for pair in pairs} for g in grids]
    overall = [number(float(np.mean(list(losses.values()))), 2) for losses in means]
    spread = {pair: float(np.ptp([losses[pair] for losses in means])) for pair in pairs}
    widest = max(pairs, key=lambda pair: spread[pair])
    return paragraph(
        f"{text} Mismatched encoders lose {listed(overall)} dB on average with the seeds {listed(seeds)}; the seeds' "
        f"losses of one pair lie {number(float(np.mean(list(spread.values()))), 2)} dB apart on average, "
        f"{number(spread[widest], 2)} dB at most ({readable(widest[0])} on {readable(widest[1])})."
    )


def _mean_lost(grid: Grid, pair: Pair) -> float:
    lost = grid.lost("psnr", *pair)
    return math.nan if lost is None else float(lost.mean())


def _loss_sentence(grid: Grid, pairs: Sequence[Pair]) -> str:
    loss = mean_interval(grid.mismatch_losses(grid.degradations))
    worst = max(pairs, key=lambda pair: _mean_lost(grid, pair))
    detail = (
        f"; the worst pair, the {readable(worst[0])} encoder on {readable(worst[1])}, "
        f"loses {spoken(grid.loss('psnr', *worst), 2)} dB"
    )
    if math.isnan(loss.low):
        verdict = "With so few images the loss has no interval: a mismatched severity encoder changes PSNR by"
        return f"{verdict} {number(-loss.mean, 2)} dB on average{detail}."
    if loss.low > 0:
        return (
            "No: on a degradation that it was not trained on, a severity encoder costs "
            f"{spoken(loss, 2)} dB of PSNR on average against the encoder trained for it{detail}."
        )
    if loss.high < 0:
        return (
            "Yes, and better than the matched one: on a degradation that it was not trained on, a severity encoder "
            f"gains {spoken(loss.scaled(-1), 2)} dB of PSNR on average{detail}."
        )
    return (
        "No loss was measured: on a degradation that it was not trained on, a severity encoder loses "
        f"{spoken(loss, 2)} dB of PSNR on average, an interval that holds 0{detail}."
    )


def _universal_sentences(grid: Grid) -> str:
    return f"{_universal_sentence(grid)} {_unseen_sentence(grid)}".rstrip()


def _universal_sentence(grid: Grid) -> str:
    if grid.universal is None:
        return "These results hold no universal encoder, one trained on a mixture of the degradations."
    cost, loss, avoided = _gap(grid, grid.universal, grid.degradations)
    if math.isnan(loss.mean):
        return "The universal encoder, trained on a mixture, has no results to compare."
    if loss.high < 0:
        verdict = "does better than the matched ones"
    elif loss.low > 0:
        verdict = "still falls short of the matched ones"
    else:
        verdict = "cannot be told from the matched ones"
    change = f"loses {spoken(loss, 2)} dB against them"
    if math.isnan(avoided.mean):
        return f"A universal encoder, trained on a mixture of the degradations, {verdict}: it {change}."
    return (
        f"A universal encoder, trained on a mixture of the degradations, {verdict}: it {change}, where a mismatched "
        f"one loses {number(cost.mean, 2)} dB, and so avoids {percent(avoided)} of that loss."
    )


def _unseen_sentence(grid: Grid) -> str:
    """What a universal encoder does on a degradation that its mixture did not hold; empty without such encoders."""
    _, loss, avoided = _gap(grid, UNSEEN, grid.degradations)
    if math.isnan(loss.mean):
        return ""
    text = f"On degradations left out of its mixture it loses {spoken(loss, 2)} dB"
    if math.isnan(avoided.mean):
        return f"{text}."
    return f"{text} and avoids {percent(avoided)}."


def _mixture_sentence(grid: Grid) -> str:
    """What the mixture loses at worst; empty without a universal encoder."""
    pairs = [] if grid.universal is None else grid.pairs_of(grid.universal)
    losses = {degradation: _mean_lost(grid, (encoder, degradation)) for encoder, degradation in pairs}
    known = {degradation: loss for degradation, loss in losses.items() if not math.isnan(loss)}
    if not known:
        return ""
    worst = max(known, key=lambda degradation: known[degradation])
    return (
        f"What to train on: a mixture of all that may come (it loses {number(known[worst], 2)} dB at worst, on "
        f"{readable(worst)})."
    )


def _psnr_figure(grid: Grid) -> "Figure":
    psnr = grid.matrix(lambda cell: column_estimate(cell, "psnr"))
    return grid_figure(grid, psnr, "PSNR of the restored image, dB", 2, "sequential", "high", None)
