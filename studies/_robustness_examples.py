"""Every encoder's restorations of the same images, and the worst and best cases."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from studies._robustness_figures import anchor
from studies._robustness_grid import UNSEEN, Grid, Pair, first_seed, read_grid, seeds_of
from studies._robustness_remedy import Remedy, read_remedy, rule_name
from workbench.reporting import (
    Card,
    Picture,
    Section,
    Strip,
    column_estimate,
    gallery,
    number,
    paragraph,
    readable,
    spoken,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from workbench.results import StudyResults


@dataclass(frozen=True)
class Store:
    """The pictures that a cell keeps: arrays (n, height, width, channel) by name, and image id -> place in them."""

    arrays: dict[str, np.ndarray]
    places: dict[int, int]

    def picture(self, name: str, image: int, line: str) -> Picture:
        return Picture(self.arrays[name][self.places[image]], (line,))


def examples_section(results: "StudyResults", num_images: int = 3) -> Section:
    """Every encoder's restorations of the same images, then for each degradation the worst and the best case kept."""
    seed, remedy = first_seed(results), read_remedy(results)
    grid = read_grid(results, seed=seed)
    parts = []
    for degradation in grid.degradations:
        stores = stores_of(results, grid, degradation)
        if not stores:
            continue
        parts.append(Markup("<h3>Tested on {}</h3>").format(readable(degradation)))
        parts.append(gallery(_strips(grid, degradation, stores, num_images)))
        mended = mended_cells(results, remedy, degradation)
        parts.append(_chosen_by_result(grid, degradation, stores, mended))
    text = paragraph(
        "The images of the first rows are chosen by severity alone (lowest, middle, highest of those whose pictures "
        'are kept, the first of the test images), not by result. "Decoded" is D(ẑ), the encoder\'s estimate without '
        'diffusion; "start" is the timestep where reverse diffusion joined (0 is free of noise), and NFE the '
        "evaluations that followed. Figures under images are PSNR in dB. The cells of the matrices above lead here."
    )
    if len(seeds_of(results)) > 1:
        text += paragraph(f"The encoders are those of training seed {seed}, and so are all figures here.")
    if remedy is not None:
        text += paragraph(
            f'"Corrected" is the same encoder where the start matches another variance than its own prediction: '
            f"{rule_name(remedy.lead)}, see above."
        )
    return Section("Restored examples", text + Markup().join(parts))


def stores_of(results: "StudyResults", grid: Grid, degradation: str) -> dict[str, Store]:
    """Encoder -> the pictures that its cell on the degradation keeps."""
    return {e: _stored(results, cell) for e in grid.encoders if (cell := grid.cell(e, degradation)) is not None}


def _stored(results: "StudyResults", cell: "DataFrame") -> Store:
    """The pictures of a cell."""
    pictures = results.examples.get(str(cell["cell"].iloc[0]), {})
    return Store(pictures, {int(image): i for i, image in enumerate(pictures.get("image_id", ()))})


def mended_cells(
    results: "StudyResults", remedy: Remedy | None, degradation: str
) -> "dict[str, tuple[Store, DataFrame]]":
    """Encoder -> pictures and rows of the rule that the report speaks about."""
    if remedy is None:
        return {}
    cells = {e: cell for (e, d), cell in remedy.rules[remedy.lead].frames.items() if d == degradation}
    return {encoder: (_stored(results, cell), cell) for encoder, cell in cells.items()}


def _strips(grid: Grid, degradation: str, stores: dict[str, Store], num_images: int) -> list[Strip]:
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
        note = f"PSNR {spoken(column_estimate(cell, 'psnr'), 2)} dB, n = {len(cell)}"
        if encoder != degradation and not math.isnan((loss := grid.loss("psnr", encoder, degradation)).mean):
            note += f"; {spoken(loss, 2)} dB lost against the matched encoder"
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
        heading = _named(encoder).capitalize() + (", matched" if encoder == degradation else "")
        strips.append(Strip(heading, cards, note, anchor(cell)))
    return strips


def _chosen_by_result(
    grid: Grid, degradation: str, stores: dict[str, Store], mended: "dict[str, tuple[Store, DataFrame]]"
) -> Markup:
    """The kept images on which an encoder loses most and gains most PSNR against the matched one."""
    lost: dict[tuple[str, Any], float] = {
        (encoder, image): float(value)
        for encoder in stores
        if encoder != degradation and (series := grid.lost("psnr", encoder, degradation)) is not None
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
        strips.append(case_strip(f"{size} {kind}", grid, (encoder, degradation), image, stores, mended))
    num_kept, num_all = len({image for _, image in kept}), len({image for _, image in lost})
    text = (
        f"Chosen by result: the largest loss and the largest gain in PSNR against the matched encoder, of all other "
        f"encoders on the {num_kept} of {num_all} test images whose pictures are kept. On all {num_all} the loss goes "
        f"from {number(min(lost.values()), 1)} to {number(max(lost.values()), 1)} dB."
    )
    return Markup("<h4>Worst and best case</h4>") + paragraph(text) + gallery(strips)


def case_strip(
    heading: str,
    grid: Grid,
    pair: Pair,
    image: Any,
    stores: Mapping[str, Store],
    mended: "Mapping[str, tuple[Store, DataFrame]]",
) -> Strip:
    """One image restored by an encoder and by the matched one, and by the encoder corrected where there is that."""
    encoder, degradation = pair
    mine, matched = (grid.frames[e, degradation].loc[image] for e in (encoder, degradation))
    value = float(matched["psnr"] - mine["psnr"])
    change = f"{number(abs(value), 1)} dB {'lost' if value > 0 else 'gained'}"
    note = (
        f"{change} by the {_named(encoder)} at severity {mine['severity']:.2f}; it starts at "
        f"{mine['start_timestep']:.0f}, the matched one at {matched['start_timestep']:.0f}"
    )
    pictures = [
        stores[degradation].picture("degraded", image, f"degraded {number(matched['psnr_degraded'], 1)}"),
        stores[encoder].picture("restored", image, f"this encoder {number(mine['psnr'], 1)}"),
        stores[degradation].picture("restored", image, f"matched {number(matched['psnr'], 1)}"),
        stores[degradation].picture("clean", image, "clean"),
    ]
    if encoder in mended and image in mended[encoder][0].places:
        store, rows = mended[encoder]
        pictures.insert(2, store.picture("restored", image, f"corrected {number(rows['psnr'][image], 1)}"))
        note += f", this one corrected at {rows['start_timestep'][image]:.0f}"
    return Strip(heading, [Card(pictures, len(pictures)), Card((), 6 - len(pictures))], note)


def _named(encoder: str) -> str:
    return f"encoder of {encoder}" if encoder == UNSEEN else f"{readable(encoder)} encoder"
