"""`oracle_quality`: per image, the best start of a sweep. Every start rule's regret is measured against it.

It is an analysis of a sweep's cells and no start rule. A rule sees one measurement and begins one chain; this oracle
compares finished reconstructions with the truth, so as a rule it would have to restore every image from every start,
at a cost that no row counts, although the cells of the sweep are in the cache already.

The best of several noisy figures is better than any start can promise: PSNR varies with the noise that a start adds,
and the maximum picks lucky draws. So the start is chosen twice: in hindsight, on the very draw that is scored (no start
of the sweep does better: an upper bound), and on another draw of that noise for the same measurement (what knowing the
truth is worth without the luck; a noisy choice, so not an upper bound). The regret that matters lies between the two.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from studies._rows import difference
from workbench.config import UserError
from workbench.reporting import QUANTITIES

if TYPE_CHECKING:
    from pandas import DataFrame


def oracle_quality(
    sweep: "Sequence[DataFrame]", metric: str = "psnr", chosen_on: "Sequence[DataFrame] | None" = None
) -> "DataFrame":
    """The rows of each image's best start, indexed by image id; of equal ones the first.

    Args:
        sweep: the rows of each start, indexed by image id, all of the same images.
        metric: the column that decides: psnr, lpips or another with a better side.
        chosen_on: the same starts with other noise, on which the best is chosen; by default `sweep` itself (hindsight).

    Raises:
        UserError: if the cells are of different images or not as many on both sides.
    """
    import pandas as pd

    chosen_on = sweep if chosen_on is None else chosen_on
    if len(chosen_on) != len(sweep) or not sweep:
        raise UserError(f"oracle_quality needs the same starts on both draws, got {len(sweep)} and {len(chosen_on)}")
    for cell in (*sweep[1:], *chosen_on):
        difference(cell, sweep[0], metric, "the starts of a sweep")
    scores = QUANTITIES[metric].better * np.stack([cell[metric].to_numpy(dtype=float) for cell in chosen_on])
    best = scores.argmax(0)
    chosen: DataFrame = pd.concat([sweep[start].iloc[[image]] for image, start in enumerate(best)])
    return chosen
