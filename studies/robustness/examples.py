"""Every encoder's restorations of the same images, and the worst and best cases. All are of the first training seed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from studies._rows import lost
from studies.robustness.likeness import Pair
from studies.robustness.results import UNSEEN, Grid, Remedy, Robustness
from workbench.reporting import Card, Picture, Strip, capital, column_estimate, gallery, number, readable, spoken

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Store:
    """A cell that keeps pictures: its rows, arrays (n, height, width, channel) by name, image id -> place in them."""

    rows: "DataFrame"
    arrays: "dict[str, np.ndarray]"
    places: dict[int, int]

    def picture(self, name: str, image: int, title: str, column: str = "") -> Picture:
        """One image, with the PSNR of its row in `column` beside its title."""
        figure = f" {number(self.rows[column][image], 1)}" if column else ""
        return Picture(self.arrays[name][self.places[image]], (title + figure,))


def anchor(cell: "DataFrame") -> str:
    """Where on the page the examples of a cell are."""
    return f"cell-{cell['cell'].iloc[0]}"


def stored(found: Robustness, grid: Grid) -> dict[Pair, Store]:
    """The pictures of a grid's cells; empty ones of cells that keep none."""
    stores = {}
    for pair, rows in grid.frames.items():
        arrays = dict(found.pictures.get(str(rows["cell"].iloc[0]), {}))
        places = {int(image): place for place, image in enumerate(arrays.get("image_id", ()))}
        stores[pair] = Store(rows, arrays, places)
    return stores


def all_examples(found: Robustness, num_images: int) -> list[tuple[str, Markup, Markup]]:
    """Of each degradation: its name, every encoder's restorations of the same images, the worst and the best case."""
    grid, stores, mended = found.first, stored(found, found.first), _mended(found, found.remedy)
    parts = []
    for degradation in grid.degradations:
        mine = {e: stores[e, d] for e, d in grid.pairs_of(*grid.encoders) if d == degradation}
        if mine:
            strips = _strips(degradation, mine, num_images)
            cases = _extremes(grid, degradation, stores, mended)
            parts.append((readable(degradation), gallery(strips), gallery(cases) if cases else Markup()))
    return parts


def worst_cases(found: Robustness, num_images: int) -> Markup:
    """The largest losses of mismatched encoders on images whose pictures are kept, each image of a degradation once."""
    grid, stores, mended = found.first, stored(found, found.first), _mended(found, found.remedy)
    worst: dict[tuple[str, int], tuple[float, str]] = {}
    for encoder, degradation in grid.mismatched_pairs():
        for image, value in _kept_losses(stores, (encoder, degradation)).items():
            case = (value, encoder)
            worst[degradation, image] = max(case, worst.get((degradation, image), case))
    ranked = sorted(worst.items(), key=lambda item: item[1], reverse=True)[:num_images]
    return gallery(
        [
            _case(capital(f"{_named(e)} on {readable(d)}"), (e, d), image, stores, mended)
            for (d, image), (_, e) in ranked
        ]
    )


def _mended(found: Robustness, remedy: Remedy | None) -> dict[Pair, Store]:
    return {} if remedy is None else stored(found, remedy.rules[remedy.lead])


def _kept_losses(stores: dict[Pair, Store], pair: Pair) -> dict[int, float]:
    """PSNR lost against the matched encoder on images whose pictures both keep."""
    mine, matched = stores[pair], stores[pair[1], pair[1]]
    losses = lost(mine.rows, matched.rows, "psnr")
    return {image: float(losses[image]) for image in mine.places if image in matched.places}


def _strips(degradation: str, stores: dict[str, Store], num_images: int) -> list[Strip]:
    """The measurement, then each encoder's restorations of it, the matched one first."""
    encoders = sorted(stores, key=lambda encoder: encoder != degradation)
    first = stores[encoders[0]]
    common = set.intersection(*(set(store.places) for store in stores.values()))
    ordered = sorted(common, key=lambda image: (first.rows["severity"][image], image))
    spread = np.linspace(0, max(len(ordered) - 1, 0), num_images).round().astype(int)
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
        note += "" if images else "; no pictures are kept"
        cards = []
        for i in images:
            pictures = [store.picture("decoded", i, "decoded", "psnr_decoded"),
                        store.picture("restored", i, "restored", "psnr")]  # fmt: skip
            row = store.rows.loc[i]
            cards.append(Card(pictures, 2, (f"start {row['start_timestep']:.0f}, {row['nfe']:.0f} NFE",)))
        heading = capital(_named(encoder)) + (", matched" if encoder == degradation else "")
        strips.append(Strip(heading, cards, note, anchor(store.rows)))
    return strips


def _extremes(grid: Grid, degradation: str, stores: dict[Pair, Store], mended: dict[Pair, Store]) -> list[Strip]:
    """The kept images on which an encoder loses most and gains most PSNR against the matched one."""
    others = [e for e, d in grid.pairs_of(*grid.encoders) if d == degradation != e]
    if (degradation, degradation) not in stores:
        return []
    kept = {(e, i): value for e in others for i, value in _kept_losses(stores, (e, degradation)).items()}
    if not kept:
        return []
    most, least = max(kept, key=lambda case: kept[case]), min(kept, key=lambda case: kept[case])
    return [
        _case(heading, (encoder, degradation), image, stores, mended)
        for heading, (encoder, image) in (("Worst case", most), ("Best case", least))
    ]


def _case(heading: str, pair: Pair, image: Any, stores: dict[Pair, Store], mended: dict[Pair, Store]) -> Strip:
    """One image restored by an encoder and by the matched one, and by the encoder corrected where there is that."""
    mine, matched = stores[pair], stores[pair[1], pair[1]]
    row, other = mine.rows.loc[image], matched.rows.loc[image]
    value = float(other["psnr"] - row["psnr"])
    change = f"{number(abs(value), 1)} dB {'lost' if value > 0 else 'gained'}"
    note = (
        f"{change} by the {_named(pair[0])} at severity {row['severity']:.2f}; it starts at "
        f"{row['start_timestep']:.0f}, the matched one at {other['start_timestep']:.0f}"
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
