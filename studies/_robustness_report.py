"""What the robustness study says: tables, figures and three sentences from its results.

Rows are severity encoders by the degradation that they were trained on; columns are the degradations of the test
images. "Matched" is the encoder trained on the tested degradation, "mismatched" one trained on another single
degradation, "universal" one trained on a mixture. A positive loss means that the matched encoder does better.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval, paired_difference, ratio_of_means, spearman
from workbench.reporting import (
    QUANTITIES,
    Card,
    Picture,
    Section,
    Strip,
    column_estimate,
    distributions,
    gallery,
    heat_map,
    html_table,
    number,
    png,
    readable,
    svg,
)
from workbench.reporting.figures import Red, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

_LOSS_COLUMNS = ("psnr", "ssim", "lpips")
_COST_COLUMNS = ("nfe", "decoder_evals", "encoder_evals", "flops", "seconds")
_ROWS, _COLUMNS = "encoder trained on", "tested on"


@dataclass(frozen=True)
class _Store:
    """The pictures that a cell keeps: arrays (n, height, width, channel) by name, and image id -> place in them."""

    arrays: dict[str, np.ndarray]
    places: dict[int, int]

    def picture(self, name: str, image: int, line: str) -> Picture:
        return Picture(self.arrays[name][self.places[image]], (line,))


@dataclass(frozen=True)
class _Grid:
    """The results as encoders x degradations."""

    encoders: tuple[str, ...]
    degradations: tuple[str, ...]
    universal: str | None
    frames: "dict[tuple[str, str], DataFrame]"

    def cell(self, encoder: str, degradation: str) -> "DataFrame | None":
        """One row an image, indexed by image id; None where the study has no such cell."""
        return self.frames.get((encoder, degradation))

    def mismatched(self, degradation: str) -> list[str]:
        """The encoders trained on one other degradation, where both they and the matched encoder have results."""
        if self.cell(degradation, degradation) is None:
            return []
        others = [e for e in self.encoders if e not in (degradation, self.universal)]
        return [e for e in others if self.cell(e, degradation) is not None]

    def mismatched_pairs(self) -> list[tuple[str, str]]:
        return [(encoder, degradation) for degradation in self.degradations for encoder in self.mismatched(degradation)]

    def matched_pairs(self) -> list[tuple[str, str]]:
        return [(name, name) for name in self.degradations if self.cell(name, name) is not None]

    def outlined(self) -> list[tuple[int, int]]:
        """The matched cells' (row, column)."""
        return [(self.encoders.index(n), self.degradations.index(n)) for n, _ in self.matched_pairs()]

    def matrix(self, estimate: "Callable[[DataFrame], Estimate]") -> list[list[Estimate]]:
        return [
            [_absent() if (cell := self.cell(e, d)) is None else estimate(cell) for d in self.degradations]
            for e in self.encoders
        ]


def answer(results: "StudyResults") -> list[str]:
    """Three sentences, each with the figures that it rests on."""
    grid = _grid(results)
    pairs = grid.mismatched_pairs()
    if not pairs:
        return [
            "These results hold no encoder that was tested on a degradation other than its own, so they cannot say."
        ]
    return [_loss_sentence(grid, pairs), _severity_sentence(grid, pairs), _universal_sentence(grid)]


def psnr_matrix(results: "StudyResults") -> Section:
    """PSNR of the restored images, and what it should be read against."""
    import pandas as pd

    grid = _grid(results)
    figure = svg(_psnr_figure(grid), "Heat map of PSNR: rows are encoders, columns the degradations tested on")
    columns = {
        "degraded": "psnr_degraded",
        "decoded, no diffusion": "psnr_decoded",
        "restored": "psnr",
        "autoencoder's ceiling": "psnr_ceiling",
        "residual / noise std": "residual_ratio",
    }
    shown = {name: column for name, column in columns.items() if _has(results.frame, column)}
    rows = {}
    for degradation in grid.degradations:
        matched = grid.cell(degradation, degradation)
        if matched is not None:
            rows[readable(degradation)] = [column_estimate(matched, column) for column in shown.values()]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(shown))
    table.index.name = "tested on"
    text = _paragraph(
        "Each row is a severity encoder, named after the degradation that it was trained on; each column is a set of "
        "test measurements, the same for every encoder. Frames mark the matched encoders. Prior, solver and start rule "
        "are the same everywhere, so a column's differences come from the severity encoder alone."
    )
    caption = (
        "PSNR with the matched encoder, dB, against the degraded image, D(ẑ), and D(E(x)), the most that it can be; "
        "and the rms residual of the restored image on observed entries, which noise alone would make 1"
    )
    return Section("How well are images restored?", text + figure + html_table(table, 2, caption))


def loss_matrix(results: "StudyResults") -> Section:
    """What each encoder loses against the matched one, image by image."""
    grid = _grid(results)
    figures = []
    for column in _LOSS_COLUMNS:
        if not _has(results.frame, column):
            continue
        quantity = QUANTITIES[column]
        matrix = [[_loss(grid, column, e, d) for d in grid.degradations] for e in grid.encoders]
        title = f"{quantity.label} lost against the matched encoder" + (f", {quantity.unit}" if quantity.unit else "")
        figures.append(_heat_map(grid, matrix, title, quantity.decimals, "diverging"))
    text = _paragraph(
        "Differences are paired: the same image, the same measurement, the matched encoder against this one. Positive "
        "(red) means that this encoder does worse; an interval that holds 0 means that no difference was measured."
    )
    return Section("What does a mismatched encoder lose?", text + _figures(figures))


def severity_matrix(results: "StudyResults") -> Section:
    """Whether each encoder ranks and calibrates the error of its own latents, and where its starts land."""
    grid = _grid(results)
    start_error = grid.matrix(lambda cell: paired_difference(cell["start_timestep"], cell["oracle_timestep"]))
    figures = [
        _heat_map(
            grid,
            grid.matrix(lambda cell: spearman(cell["var_hat"], cell["severity"])),
            "Rank correlation with severity",
            span=1,
            scale="diverging",
            red="low",
        ),
        _heat_map(
            grid,
            grid.matrix(lambda cell: spearman(cell["var_hat"], cell["s2"])),
            "Rank correlation with the true error",
            span=1,
            scale="diverging",
            red="low",
        ),
        _heat_map(
            grid,
            grid.matrix(lambda cell: mean_interval(cell["s2"] / cell["var_hat"])),
            "True over predicted variance, mean",
            scale="ratio",
        ),
        _heat_map(grid, start_error, "Start timestep minus the oracle's", 0, "diverging", red="low"),
    ]
    if _has(results.frame, "bias"):
        bias = grid.matrix(lambda cell: mean_interval(cell["bias"]))
        figures.append(_heat_map(grid, bias, "Mean error of the latent (bias)", 3, "diverging"))
    text = _paragraph(
        "An encoder predicts the variance of the error of its own latent ẑ; only a study knows the variance that the "
        "error really has. The prediction's rank correlation (Spearman, over the test images) with severity and with "
        "the true variance says whether it knows which image is worse. The true variance over the predicted one says "
        "whether it knows how bad: 1 is honest, above 1 (red) over-confident, below 1 (blue) over-cautious."
    ) + _paragraph(
        "Reverse diffusion counts its timesteps down to 0, and the predicted variance decides where it joins. The "
        "oracle's start uses the true variance instead. A start below the oracle's (negative, red) joins too late: it "
        "adds too little noise and trusts ẑ too much, so errors of ẑ stay in the image. A start above it (positive, "
        "blue) joins too early: it throws away what ẑ had right and spends more evaluations."
    )
    text += _paragraph(_start_summary(grid, start_error)) + _fallback_note(results.frame)
    return Section("Does the encoder know how wrong it is?", text + _figures(figures))


def cost_section(results: "StudyResults") -> Section:
    """Network evaluations, compute and time of an image."""
    import pandas as pd

    grid = _grid(results)
    quantity = QUANTITIES["nfe"]
    mean_nfe = grid.matrix(lambda cell: column_estimate(cell, "nfe"))
    panels = {
        degradation: {e: cell["nfe"] for e in grid.encoders if (cell := grid.cell(e, degradation)) is not None}
        for degradation in grid.degradations
    }
    figures = [
        _heat_map(grid, mean_nfe, "Mean NFE of an image", quantity.decimals),
        svg(
            distributions({name: groups for name, groups in panels.items() if groups}, title="NFE, image by image",
                          unit="NFE of one image"),
            "Histograms of the network evaluations of each image, for every encoder and degradation",
        ),
    ]  # fmt: skip
    shown = [column for column in _COST_COLUMNS if _has(results.frame, column)]
    rows = {}
    for encoder in grid.encoders:
        cells = [cell for d in grid.degradations if (cell := grid.cell(encoder, d)) is not None]
        if cells:
            rows[readable(encoder)] = [
                mean_interval(_over_images([cell[column] * QUANTITIES[column].scale for cell in cells]))
                for column in shown
            ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[QUANTITIES[column].title for column in shown])
    table.index.name = "encoder trained on"
    decimals = {QUANTITIES[column].title: QUANTITIES[column].decimals for column in shown}
    device = results.provenance.get("device")
    text = _paragraph(
        "NFE counts the evaluations of the prior's network that one image needs; orange ticks are means. Compute and "
        "time include the decoder and the guidance gradients, so a cost that moved elsewhere shows."
        + (f" Times were taken on {device}." if device else "")
    )
    return Section("What does it cost?", text + _figures(figures) + html_table(table, decimals, "Mean of an image"))


def universal_section(results: "StudyResults") -> Section:
    """How much of the mismatch loss an encoder trained on the mixture avoids."""
    import pandas as pd

    grid = _grid(results)
    title = "Does one universal encoder close the gap?"
    if grid.universal is None or not grid.mismatched_pairs():
        return Section(title, _paragraph("These results hold no encoder trained on a mixture, or no mismatched one."))
    rows = {readable(d): list(_gap(grid, [d])) for d in grid.degradations if grid.mismatched(d)}
    rows["all"] = list(_gap(grid, grid.degradations))
    columns = ["mismatched loses, dB", "universal loses, dB", "part of the loss avoided"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "tested on"
    text = _paragraph(
        f'The universal encoder ("{readable(grid.universal)}") was trained on a mixture of the degradations. Both '
        "losses are PSNR against the matched encoder; the mismatched one is the mean over the encoders of the other "
        "degradations. The last column is 1 where the universal encoder loses nothing and 0 where it loses as much as "
        "a mismatched one; it is left out where mismatch costs nothing measurable."
    )
    return Section(title, text + html_table(table, 2) + _paragraph(_universal_sentence(grid)))


def examples_section(results: "StudyResults", num_images: int = 3) -> Section:
    """Every encoder's restorations of the same images, then for each degradation the worst and the best case kept."""
    grid = _grid(results)
    parts = []
    for degradation in grid.degradations:
        stores = {e: _stored(results, grid, e, degradation) for e in grid.encoders if (e, degradation) in grid.frames}
        if not stores:
            continue
        parts.append(Markup("<h3>Tested on {}</h3>").format(readable(degradation)))
        parts.append(gallery(_strips(grid, degradation, stores, num_images)))
        parts.append(_chosen_by_result(grid, degradation, stores))
    text = _paragraph(
        "The images of the first rows are chosen by severity alone (lowest, middle, highest of those whose pictures "
        'are kept, the first of the test images), not by result. "Decoded" is D(ẑ), the encoder\'s estimate without '
        'diffusion; "start" is the timestep where reverse diffusion joined (0 is free of noise), and NFE the '
        "evaluations that followed. Figures under images are PSNR in dB. The cells of the matrices above lead here."
    )
    return Section("Restored examples", text + Markup().join(parts))


SECTIONS = (psnr_matrix, loss_matrix, severity_matrix, cost_section, universal_section, examples_section)
"""The page's sections, in order."""


def picture(results: "StudyResults") -> bytes:
    """The PSNR matrix as a PNG, for where no page can be shown."""
    return png(_psnr_figure(_grid(results)))


def _grid(results: "StudyResults") -> _Grid:
    if len(results.axes) != 2:
        raise UserError(
            f"this report needs two axes, encoder and degradation; the results have: {', '.join(results.axes)}"
        )
    (encoder_axis, encoders), (degradation_axis, degradations) = results.axes.items()
    universals = [name for name in encoders if name not in degradations]
    frames = {}
    for (encoder, degradation), rows in results.frame.groupby([encoder_axis, degradation_axis], observed=True):
        frames[str(encoder), str(degradation)] = rows.set_index("image_id").sort_index()
    return _Grid(tuple(encoders), tuple(degradations), universals[-1] if universals else None, frames)


def _has(frame: "DataFrame", column: str) -> bool:
    return column in frame and bool(frame[column].notna().all())


def _absent() -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, 0)


def _lost(grid: _Grid, column: str, encoder: str, degradation: str) -> "Series | None":
    """Per image, how much worse `encoder` does than the matched one; None where either is missing."""
    mine, matched = grid.cell(encoder, degradation), grid.cell(degradation, degradation)
    if mine is None or matched is None:
        return None
    if not mine.index.equals(matched.index):
        raise UserError(
            f"{encoder} and {degradation} were tested on different images of {degradation}; run the study again"
        )
    lost: Series = (matched[column] - mine[column]) * QUANTITIES[column].better
    return lost


def _loss(grid: _Grid, column: str, encoder: str, degradation: str) -> Estimate:
    lost = _lost(grid, column, encoder, degradation)
    return _absent() if lost is None else mean_interval(lost)


def _mean_lost(grid: _Grid, encoder: str, degradation: str) -> float:
    lost = _lost(grid, "psnr", encoder, degradation)
    return math.nan if lost is None else float(lost.mean())


def _over_images(cells: "Sequence[Series]") -> "Series":
    """One value an image, its mean over the cells that hold it: intervals over images count no image twice."""
    import pandas as pd

    if not cells:
        return pd.Series(dtype=float)
    means: Series = pd.concat(cells).groupby(level=0).mean()
    return means


def _mismatch_losses(grid: _Grid, degradations: Sequence[str]) -> "Series":
    """PSNR lost, one value an image: mean over mismatched encoders, then over degradations."""
    losses = []
    for degradation in degradations:
        cells = [_lost(grid, "psnr", e, degradation) for e in grid.mismatched(degradation)]
        if cells:
            losses.append(_over_images([cell for cell in cells if cell is not None]))
    return _over_images(losses)


def _gap(grid: _Grid, degradations: Sequence[str]) -> tuple[Estimate, Estimate, Estimate]:
    """PSNR that mismatched encoders lose, that the universal one loses, and the part of the loss that it avoids."""
    assert grid.universal is not None
    both = [d for d in degradations if grid.mismatched(d) and grid.cell(grid.universal, d) is not None]
    mismatched = _mismatch_losses(grid, both)
    cells = [_lost(grid, "psnr", grid.universal, d) for d in both]
    universal = _over_images([cell for cell in cells if cell is not None])
    cost = mean_interval(mismatched)
    # a part of nothing is noise: without a measured loss the ratio is not shown
    avoided = ratio_of_means(mismatched - universal, mismatched) if cost.low > 0 else _absent()
    return cost, mean_interval(universal), avoided


def _loss_sentence(grid: _Grid, pairs: Sequence[tuple[str, str]]) -> str:
    loss = mean_interval(_mismatch_losses(grid, grid.degradations))
    worst = max(pairs, key=lambda pair: _mean_lost(grid, *pair))
    detail = (
        f"; the worst pair, the {readable(worst[0])} encoder on {readable(worst[1])}, "
        f"loses {_spoken(_loss(grid, 'psnr', *worst), 2)} dB"
    )
    if math.isnan(loss.low):
        verdict = "With so few images the loss has no interval: a mismatched severity encoder changes PSNR by"
        return f"{verdict} {number(-loss.mean, 2)} dB on average{detail}."
    if loss.low > 0:
        return (
            "No: on a degradation that it was not trained on, a severity encoder costs "
            f"{_spoken(loss, 2)} dB of PSNR on average against the encoder trained for it{detail}."
        )
    if loss.high < 0:
        return (
            "Yes, and better than the matched one: on a degradation that it was not trained on, a severity encoder "
            f"gains {_spoken(_negated(loss), 2)} dB of PSNR on average{detail}."
        )
    return (
        "No loss was measured: on a degradation that it was not trained on, a severity encoder loses "
        f"{_spoken(loss, 2)} dB of PSNR on average, an interval that holds 0{detail}."
    )


def _severity_sentence(grid: _Grid, pairs: Sequence[tuple[str, str]]) -> str:
    matched = grid.matched_pairs()
    ratio, matched_ratio = _mean_ratio(grid, pairs), _mean_ratio(grid, matched)
    rank, matched_rank = _mean_rank(grid, pairs), _mean_rank(grid, matched)
    error = mean_interval(_over_images([_start_error(grid, *pair) for pair in pairs]))
    return (
        f"Its true error variance is {number(ratio.mean, 1)} times what it predicts on average (matched: "
        f"{number(matched_ratio.mean, 1)}), its prediction's rank correlation with the true error is {number(rank, 2)} "
        f"(matched: {number(matched_rank, 2)}), and reverse diffusion starts {_early_or_late(error)}."
    )


def _universal_sentence(grid: _Grid) -> str:
    if grid.universal is None:
        return "These results hold no universal encoder, one trained on a mixture of the degradations."
    cost, loss, avoided = _gap(grid, grid.degradations)
    if math.isnan(loss.mean):
        return "The universal encoder, trained on a mixture, has no results to compare."
    if loss.high < 0:
        verdict = "does better than the matched ones"
    elif loss.low > 0:
        verdict = "still falls short of the matched ones"
    else:
        verdict = "cannot be told from the matched ones"
    change = f"loses {_spoken(loss, 2)} dB against them"
    if math.isnan(avoided.mean):
        return f"A universal encoder, trained on a mixture of the degradations, {verdict}: it {change}."
    return (
        f"A universal encoder, trained on a mixture of the degradations, {verdict}: it {change}, where a mismatched "
        f"one loses {number(cost.mean, 2)} dB, and so avoids {_percent(avoided)} of that loss."
    )


def _percent(part: Estimate) -> str:
    hundredfold = Estimate(100 * part.mean, 100 * part.low, 100 * part.high, part.num_images)
    return f"{number(hundredfold.mean, 0)} % [{number(hundredfold.low, 0)}, {number(hundredfold.high, 0)}]"


def _spoken(estimate: Estimate, decimals: int) -> str:
    """An estimate as "2.50 [2.31, 2.70]", with true minus signs."""
    if math.isnan(estimate.low):
        return number(estimate.mean, decimals)
    return f"{number(estimate.mean, decimals)} [{number(estimate.low, decimals)}, {number(estimate.high, decimals)}]"


def _negated(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.mean, -estimate.high, -estimate.low, estimate.num_images)


def _mean_ratio(grid: _Grid, pairs: Sequence[tuple[str, str]]) -> Estimate:
    cells = [grid.frames[pair] for pair in pairs]
    return mean_interval(_over_images([cell["s2"] / cell["var_hat"] for cell in cells]))


def _mean_rank(grid: _Grid, pairs: Sequence[tuple[str, str]]) -> float:
    """Mean over the pairs' rank correlations, those that are defined."""
    cells = [grid.frames[pair] for pair in pairs]
    known = [rank for cell in cells if not math.isnan(rank := spearman(cell["var_hat"], cell["s2"]).mean)]
    return float(np.mean(known)) if known else math.nan


def _start_error(grid: _Grid, encoder: str, degradation: str) -> "Series":
    cell = grid.frames[encoder, degradation]
    error: Series = cell["start_timestep"] - cell["oracle_timestep"]
    return error


def _early_or_late(error: Estimate) -> str:
    """A start error in words: below the oracle is too late, above too early."""
    if error.high < 0:
        words = "too late (it trusts the encoder too much)"
    elif error.low > 0:
        words = "too early (it trusts the encoder too little)"
    elif math.isnan(error.low):
        words = "too late" if error.mean < 0 else "too early"
    else:
        return f"neither early nor late, {_spoken(error, 0)} timesteps from the oracle's"
    spoken = _spoken(error if error.mean > 0 else _negated(error), 0)
    return f"{spoken} timesteps {words}"


def _start_summary(grid: _Grid, errors: Sequence[Sequence[Estimate]]) -> str:
    cells = [
        (f"{readable(encoder)} on {readable(degradation)}", errors[i][j])
        for i, encoder in enumerate(grid.encoders)
        for j, degradation in enumerate(grid.degradations)
    ]
    late = [name for name, error in cells if error.high < 0]
    early = [name for name, error in cells if error.low > 0]
    known = sum(not math.isnan(error.low) for _, error in cells)
    text = f"Of {known} cells with an interval, {len(late)} start too late and {len(early)} too early"
    worst = [(name, error) for name, error in cells if not math.isnan(error.mean)]
    if not worst:
        return text + "."
    name, error = max(worst, key=lambda item: abs(item[1].mean))
    return f"{text}; the farthest from the oracle is {name}, {_early_or_late(error)}."


def _fallback_note(frame: "DataFrame") -> Markup:
    if not _has(frame, "fell_back") or not frame["fell_back"].any():
        return Markup()
    share = 100 * float(frame["fell_back"].mean())
    return _paragraph(
        f"In {share:.1f} % of all restorations the predicted error was so large that no timestep fits it; these "
        "started from pure noise."
    )


def _psnr_figure(grid: _Grid) -> "Figure":
    psnr = grid.matrix(lambda cell: column_estimate(cell, "psnr"))
    return _matrix_figure(grid, psnr, "PSNR of the restored image, dB", 2, "sequential", "high", None)


def _heat_map(
    grid: _Grid,
    matrix: Sequence[Sequence[Estimate]],
    title: str,
    decimals: int = 2,
    scale: Scale = "sequential",
    red: Red = "high",
    span: float | None = None,
) -> Markup:
    figure = _matrix_figure(grid, matrix, title, decimals, scale, red, span)
    return svg(figure, f"Heat map, {title}: rows are encoders, columns the degradations tested on")


def _matrix_figure(
    grid: _Grid,
    matrix: Sequence[Sequence[Estimate]],
    title: str,
    decimals: int,
    scale: Scale,
    red: Red,
    span: float | None,
) -> "Figure":
    return heat_map(
        matrix,
        grid.encoders,
        grid.degradations,
        title=title,
        row_title=_ROWS,
        column_title=_COLUMNS,
        decimals=decimals,
        scale=scale,
        red=red,
        span=span,
        outlined=grid.outlined(),
        links={
            (grid.encoders.index(encoder), grid.degradations.index(degradation)): f"#{_anchor(cell)}"
            for (encoder, degradation), cell in grid.frames.items()
        },
    )


def _figures(figures: Sequence[Markup]) -> Markup:
    return Markup('<div class="figures">{}</div>').format(
        Markup().join(Markup("<div>{}</div>").format(f) for f in figures)
    )


def _paragraph(text: str) -> Markup:
    return Markup("<p>{}</p>").format(text)


def _stored(results: "StudyResults", grid: _Grid, encoder: str, degradation: str) -> _Store:
    """The kept pictures of a cell: arrays by name, and each image's place in them."""
    pictures = results.examples.get(str(grid.frames[encoder, degradation]["cell"].iloc[0]), {})
    return _Store(pictures, {int(image): i for i, image in enumerate(pictures.get("image_id", ()))})


def _anchor(cell: "DataFrame") -> str:
    """Where on the page the examples of a cell are."""
    return f"cell-{cell['cell'].iloc[0]}"


def _strips(grid: _Grid, degradation: str, stores: dict[str, _Store], num_images: int) -> list[Strip]:
    """The measurement, then each encoder's restorations of it, the matched one first."""
    encoders = sorted(stores, key=lambda encoder: encoder != degradation)
    severity = grid.frames[encoders[0], degradation]["severity"]
    common = set.intersection(*(set(store.places) for store in stores.values()))
    ordered = sorted(common, key=lambda image: (severity[image], image))
    chosen = {ordered[round(i)] for i in np.linspace(0, len(ordered) - 1, num_images)} if ordered else set()
    images = sorted(chosen, key=lambda image: (severity[image], image))
    given = []
    for image in images:
        values = grid.frames[encoders[0], degradation].loc[image]
        pictures = [
            stores[encoders[0]].picture("degraded", image, f"degraded {number(values['psnr_degraded'], 1)}"),
            stores[encoders[0]].picture("clean", image, "clean"),
        ]
        given.append(Card(pictures, 2, (f"severity {values['severity']:.2f}",)))
    strips = [Strip("Measurement and truth", given)] if given else []
    for encoder in encoders:
        cell = grid.frames[encoder, degradation]
        note = f"PSNR {_spoken(column_estimate(cell, 'psnr'), 2)} dB, n = {len(cell)}"
        if encoder != degradation and not math.isnan((loss := _loss(grid, "psnr", encoder, degradation)).mean):
            note += f"; {_spoken(loss, 2)} dB lost against the matched encoder"
        if not images:
            note += "; no pictures are kept"
        cards = []
        for image in images:
            values = cell.loc[image]
            pictures = [
                stores[encoder].picture("decoded", image, f"decoded {number(values['psnr_decoded'], 1)}"),
                stores[encoder].picture("restored", image, f"restored {number(values['psnr'], 1)}"),
            ]
            cards.append(Card(pictures, 2, (f"start {values['start_timestep']:.0f}, {values['nfe']:.0f} NFE",)))
        heading = f"{readable(encoder)} encoder".capitalize() + (", matched" if encoder == degradation else "")
        strips.append(Strip(heading, cards, note, _anchor(cell)))
    return strips


def _chosen_by_result(grid: _Grid, degradation: str, stores: dict[str, _Store]) -> Markup:
    """The kept images on which an encoder loses most and gains most PSNR against the matched one."""
    lost: dict[tuple[str, Any], float] = {
        (encoder, image): float(value)
        for encoder in stores
        if encoder != degradation and (series := _lost(grid, "psnr", encoder, degradation)) is not None
        for image, value in zip(series.index.tolist(), series, strict=True)
    }
    kept = {
        (encoder, image): value
        for (encoder, image), value in lost.items()
        if image in stores[encoder].places and image in stores[degradation].places
    }
    if not kept:
        return Markup()
    strips = []
    for worst, pair in ((True, max(kept, key=lambda p: kept[p])), (False, min(kept, key=lambda p: kept[p]))):
        (encoder, image), value = pair, kept[pair]
        size, kind = "Largest" if worst == (value > 0) else "Smallest", "loss" if value > 0 else "gain"
        mine, matched = (grid.frames[e, degradation].loc[image] for e in (encoder, degradation))
        change = f"{number(abs(value), 1)} dB {'lost' if value > 0 else 'gained'}"
        note = (
            f"{change} by the {readable(encoder)} encoder at severity {mine['severity']:.2f}; it starts at "
            f"{mine['start_timestep']:.0f}, the matched one at {matched['start_timestep']:.0f}"
        )
        pictures = [
            stores[degradation].picture("degraded", image, f"degraded {number(matched['psnr_degraded'], 1)}"),
            stores[encoder].picture("restored", image, f"this encoder {number(mine['psnr'], 1)}"),
            stores[degradation].picture("restored", image, f"matched {number(matched['psnr'], 1)}"),
            stores[degradation].picture("clean", image, "clean"),
        ]
        strips.append(Strip(f"{size} {kind}", [Card(pictures, 4), Card((), 2)], note))
    num_kept, num_all = len({image for _, image in kept}), len({image for _, image in lost})
    text = (
        f"Chosen by result: the largest loss and the largest gain in PSNR against the matched encoder, of all other "
        f"encoders on the {num_kept} of {num_all} test images whose pictures are kept. On all {num_all} the loss goes "
        f"from {number(min(lost.values()), 1)} to {number(max(lost.values()), 1)} dB."
    )
    return Markup("<h4>Worst and best case</h4>") + _paragraph(text) + gallery(strips)
