"""Every encoder's restorations of the same images, and the worst and best cases. All are of the first training seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from studies.robustness.likeness import Pair
from studies.robustness.results import UNSEEN, Grid, Robustness
from workbench.reporting import Card, Picture, Strip, capital, column_estimate, gallery, number, readable, spoken

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Store:
    """A cell that keeps pictures: its rows, arrays (n, height, width, channel) by name, image id -> place in them."""

    rows: "DataFrame"
    arrays: "Mapping[str, np.ndarray]"
    places: dict[int, int]

    def picture(self, name: str, image: int, title: str, column: str = "") -> Picture:
        """One image, with the PSNR of its row in `column` beside its title."""
        figure = f" {number(self.rows[column][image], 1)}" if column else ""
        return Picture(self.arrays[name][self.places[image]], (title + figure,))


Stores = dict[Pair, Store]


def anchor(cell: "DataFrame") -> str:
    """Where on the page the examples of a cell are."""
    return f"cell-{cell['cell'].iloc[0]}"


def stores_of(found: Robustness) -> tuple[Stores, Stores]:
    """The pictures of the encoders' own starts and of corrected ones, empty for cells that keep none."""

    def stored(grid: Grid) -> Iterator[tuple[Pair, Store]]:
        for pair, rows in grid.frames.items():
            arrays = found.pictures.get(str(rows["cell"].iloc[0]), {})
            yield pair, Store(rows, arrays, {int(image): i for i, image in enumerate(arrays.get("image_id", ()))})

    mended = {} if found.remedy is None else dict(stored(found.remedy.rules[found.remedy.lead]))
    return dict(stored(found.first)), mended


def all_examples(found: Robustness, num_images: int) -> list[tuple[str, Markup, Markup]]:
    """Of each degradation: its name, every encoder's restorations of the same images, the worst and the best case."""
    stores, mended = stores_of(found)
    parts = []
    for degradation in found.first.degradations:
        pairs = [pair for pair in found.first.pairs_of() if pair[1] == degradation]
        if not pairs:
            continue
        kept = {(pair, image): loss for pair in pairs for image, loss in _kept_losses(stores, pair)}
        chosen = (
            {"Worst case": max(kept, key=kept.__getitem__), "Best case": min(kept, key=kept.__getitem__)}
            if kept
            else {}
        )
        cases = [_case(heading, *case, stores, mended) for heading, case in chosen.items()]
        strips = _strips(degradation, {e: stores[e, d] for e, d in pairs}, num_images)
        parts.append((readable(degradation), gallery(strips), gallery(cases) if cases else Markup()))
    return parts


def worst_cases(found: Robustness, num_images: int) -> Markup:
    """The largest losses of mismatched encoders on images whose pictures are kept, each image of a degradation once."""
    stores, mended = stores_of(found)
    cases = [
        (loss, pair, image) for pair in found.first.mismatched_pairs() for image, loss in _kept_losses(stores, pair)
    ]
    worst: dict[tuple[str, int], Strip] = {}
    for _, (e, d), image in sorted(cases, reverse=True):
        if len(worst) < num_images and (d, image) not in worst:
            worst[d, image] = _case(capital(f"{_named(e)} on {readable(d)}"), (e, d), image, stores, mended)
    return gallery(list(worst.values()))


def _kept_losses(stores: Stores, pair: Pair) -> Iterator[tuple[int, float]]:
    """PSNR lost against another, matched encoder on images whose pictures both keep."""
    mine, matched = stores[pair], stores.get((pair[1], pair[1]))
    if matched is not None and matched is not mine:
        for image in mine.places:
            if image in matched.places:
                yield image, float(matched.rows["psnr"][image] - mine.rows["psnr"][image])


def _strips(degradation: str, stores: Mapping[str, Store], num_images: int) -> list[Strip]:
    """The measurement, then each encoder's restorations of it, the matched one first."""
    encoders = sorted(stores, key=lambda encoder: encoder != degradation)
    first = stores[encoders[0]]
    common = set.intersection(*(set(store.places) for store in stores.values()))
    ordered = sorted(common, key=lambda image: (first.rows["severity"][image], image))
    spread = np.linspace(0, len(ordered) - 1, num_images).round().astype(int)
    images = list(dict.fromkeys(ordered[i] for i in spread)) if ordered else []
    given = [
        Card(
            [first.picture("degraded", i, "degraded", "psnr_degraded"), first.picture("clean", i, "truth")],
            2,
            (f"severity {first.rows['severity'][i]:.2f}",),
        )
        for i in images
    ]
    strips = [Strip("Measurement and truth", given)] if given else []
    for encoder in encoders:
        store = stores[encoder]
        note = f"PSNR {spoken(column_estimate(store.rows, 'psnr'), 2)} dB, n = {len(store.rows)}"
        cards = [
            Card(
                [
                    store.picture("decoded", i, "decoded", "psnr_decoded"),
                    store.picture("restored", i, "restored", "psnr"),
                ],
                2,
                (f"start {store.rows['start_timestep'][i]:.0f}, {store.rows['nfe'][i]:.0f} NFE",),
            )
            for i in images
        ]
        heading = capital(_named(encoder)) + (", matched" if encoder == degradation else "")
        strips.append(Strip(heading, cards, note + ("" if images else "; no pictures are kept"), anchor(store.rows)))
    return strips


def _case(heading: str, pair: Pair, image: int, stores: Stores, mended: Stores) -> Strip:
    """One image restored by an encoder and by the matched one, and by the encoder corrected where there is that."""
    mine, matched = stores[pair], stores[pair[1], pair[1]]
    row, other = mine.rows.loc[image], matched.rows.loc[image]
    value = float(matched.rows["psnr"][image] - mine.rows["psnr"][image])
    note = (
        f"{number(abs(value), 1)} dB {'lost' if value > 0 else 'gained'} by the {_named(pair[0])} at severity "
        f"{row['severity']:.2f}; it starts at {row['start_timestep']:.0f}, the matched one at "
        f"{other['start_timestep']:.0f}"
    )
    pictures = [
        matched.picture("degraded", image, "degraded", "psnr_degraded"),
        mine.picture("restored", image, "this encoder", "psnr"),
        matched.picture("restored", image, "matched", "psnr"),
        matched.picture("clean", image, "truth"),
    ]
    if pair in mended and image in mended[pair].places:
        pictures.insert(2, mended[pair].picture("restored", image, "corrected", "psnr"))
        note += f", this one corrected at {mended[pair].rows['start_timestep'][image]:.0f}"
    return Strip(heading, [Card(pictures, len(pictures)), Card((), 6 - len(pictures))], note)


def _named(encoder: str) -> str:
    return f"encoder of {encoder}" if encoder == UNSEEN else f"{readable(encoder)} encoder"
