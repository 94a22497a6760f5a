"""Where mismatched encoders fail: how often each loses much, and the images on which they lose most."""

import math
from typing import TYPE_CHECKING

from studies._robustness_examples import case_strip, mended_cells, stores_of
from studies._robustness_figures import grid_map
from studies._robustness_grid import Grid, first_seed, read_grid, seeds_of
from studies._robustness_remedy import Remedy, read_remedy, rule_name
from studies._rows import ABSENT, lost, over_images
from workbench.metrics import Estimate, mean_interval
from workbench.reporting import Section, Strip, gallery, paragraph, percent, readable

if TYPE_CHECKING:
    from workbench.results import StudyResults

FAILURE_DB = 3.0
"""A restoration fails where it loses more than this against the matched encoder's: its error has twice the power."""


def failures_section(results: "StudyResults", num_images: int = 6) -> Section | None:
    """The part of the images on which each encoder fails, and the worst of those whose pictures are kept.

    Args:
        num_images: so many of them.
    """
    seed, remedy = first_seed(results), read_remedy(results)
    grid = read_grid(results, seed=seed)
    if not grid.mismatched_pairs():
        return None
    title = f"Images that lose more than {FAILURE_DB:g} dB, %"
    matrix = [[_failing(grid, encoder, d).scaled(100) for d in grid.degradations] for encoder in grid.encoders]
    text = paragraph(_sentence(grid, remedy)) + grid_map(grid, matrix, title, 0)
    text += paragraph(
        "The images below are the worst of those whose pictures are kept, each image of a degradation once. Figures "
        "under images are PSNR in dB."
        + (f" The encoders are those of training seed {seed}." if len(seeds_of(results)) > 1 else "")
    )
    return Section("Where does it fail?", text + gallery(_worst(results, grid, remedy, num_images)))


def _failing(grid: Grid, encoder: str, degradation: str) -> Estimate:
    values = grid.lost("psnr", encoder, degradation)
    return ABSENT if values is None else mean_interval((values > FAILURE_DB).astype(float))


def _sentence(grid: Grid, remedy: Remedy | None) -> str:
    """How often mismatched encoders fail, on their own prediction and corrected."""
    pairs = grid.mismatched_pairs()

    def part(corrected: Grid) -> Estimate:
        both = [pair for pair in pairs if pair in corrected.frames]
        values = [lost(corrected.frames[e, d], grid.frames[d, d], "psnr", f"{e} and {d} on {d}") for e, d in both]
        return mean_interval(over_images([(value > FAILURE_DB).astype(float) for value in values]))

    text = (
        f"{percent(part(grid))} of the restorations with a mismatched encoder lose more than {FAILURE_DB:g} dB against "
        "the matched one"
    )
    if remedy is None or math.isnan((mended := part(remedy.rules[remedy.lead])).mean):
        return f"{text}."
    return f"{text}; of those whose start matches another variance ({rule_name(remedy.lead)}), {percent(mended)}."


def _worst(results: "StudyResults", grid: Grid, remedy: Remedy | None, num_images: int) -> list[Strip]:
    """The largest losses of mismatched encoders on images whose pictures are kept."""
    stores = {degradation: stores_of(results, grid, degradation) for degradation in grid.degradations}
    worst: dict[tuple[str, int], tuple[float, str]] = {}
    for encoder, degradation in grid.mismatched_pairs():
        losses = lost(grid.frames[encoder, degradation], grid.frames[degradation, degradation], "psnr")
        mine, matched = stores[degradation][encoder], stores[degradation][degradation]
        for image in mine.places.keys() & matched.places.keys():
            found = (float(losses[image]), encoder)
            worst[degradation, image] = max(found, worst.get((degradation, image), found))
    ranked = sorted(worst.items(), key=lambda item: item[1], reverse=True)[:num_images]
    return [
        case_strip(
            f"{readable(encoder)} encoder on {readable(degradation)}".capitalize(),
            grid,
            (encoder, degradation),
            image,
            stores[degradation],
            mended_cells(results, remedy, degradation),
        )
        for (degradation, image), (_, encoder) in ranked
    ]
