"""Rows of the SNR-matching study as sweeps of the start, one per degradation, and what they are measured against.

All differences are paired: the same image and measurement, one start against another. A regret is the PSNR that a rule
loses to each image's best start of the `forward` sweep (`best_start`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from studies._rows import ABSENT, difference, put
from workbench.config import UserError
from workbench.metrics import Estimate, first_crossing

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

TOLERATED = 0.1
"""dB of PSNR that a start may cost to count as good as the match."""
CHANNELS = ("forward", "mmse")
MATCH = "snr_match, forward"
HINDSIGHT, OTHER_NOISE = "in hindsight", "on other noise"
"""How the best start is chosen: on the draw that is scored, or on another draw of its noise."""


def best_start(sweep: "Sequence[DataFrame]", chosen_on: "Sequence[DataFrame]") -> "Series":
    """PSNR of each image at its best start: an analysis of finished restorations, and no rule.

    The best of several noisy figures is better than any start can promise: PSNR varies with the noise that a start
    adds, and the maximum picks lucky draws. Chosen on `sweep` itself, in hindsight, it is an upper bound for the starts
    of the sweep. Chosen on another draw of that noise it is what knowing the truth is worth without the luck; a noisy
    choice, so no upper bound. The regret that matters lies between the two.

    Args:
        sweep: the rows of each start, indexed by image id; of equally good starts the first is taken.
        chosen_on: the same starts, by whose PSNR the best is chosen.

    Raises:
        UserError: if the cells are of different images.
    """
    for cell in (*sweep, *chosen_on):
        difference(cell, sweep[0], "psnr", "the starts of a sweep")
    best = np.stack([cell["psnr"] for cell in chosen_on]).argmax(0)
    psnr = np.stack([cell["psnr"] for cell in sweep])
    found: Series = sweep[0]["psnr"].copy()
    found[:] = psnr[best, np.arange(len(found))]
    return found


@dataclass(frozen=True)
class Sweep:
    """One degradation's cells, each with one row per image, indexed by image id.

    Attributes:
        swept: channel -> offset in dB, ascending -> rows.
        again: the `forward` sweep with other noise, by offset; empty where there is none.
        rules: the rules whose regret is asked, by name, the match of either channel first.
    """

    swept: "Mapping[str, Mapping[float, DataFrame]]"
    again: "Mapping[float, DataFrame]"
    rules: "Mapping[str, DataFrame]"

    @cached_property
    def oracles(self) -> "dict[str, Series]":
        """PSNR at each image's best start, by how it was chosen."""
        forward = self.swept["forward"]
        sweep = list(forward.values())
        found = {HINDSIGHT: best_start(sweep, sweep)}
        if self.again.keys() == forward.keys():
            found[OTHER_NOISE] = best_start(sweep, [self.again[offset] for offset in forward])
        return found

    def change(self, channel: str, offset: float) -> "Series":
        """By how much PSNR is above the match of the `forward` channel, image by image."""
        return difference(self.swept[channel][offset], self.rules[MATCH], "psnr", "two starts")

    def regret(self, rule: str, oracle: str) -> "Series":
        """PSNR lost to the best start, image by image."""
        lost: Series = self.oracles[oracle] - self.rules[rule]["psnr"]
        return lost

    def tolerance(self, channel: str, sign: int) -> Estimate:
        """How many dB below (-1) or above (+1) its own match a start costs `TOLERATED` dB; ABSENT without a sweep.

        The sweep's end stands for what is not reached within it.
        """
        cells = self.swept.get(channel, {})
        offsets = sorted((offset for offset in cells if sign * offset >= 0), key=abs)
        if len(offsets) < 2 or offsets[0] != 0:
            return ABSENT
        lost = [difference(cells[0.0], cells[offset], "psnr") for offset in offsets]
        return first_crossing(np.abs(offsets), np.stack(lost), TOLERATED)

    def at_nfe(self, nfe: float) -> "Series | None":
        """PSNR of the `forward` sweep at a mean NFE, interpolated between its offsets; None outside the sweep."""
        cells = sorted(self.swept["forward"].values(), key=lambda cell: cell["nfe"].mean())
        costs = [float(cell["nfe"].mean()) for cell in cells]
        if not costs[0] <= nfe <= costs[-1]:
            return None
        above = max(int(np.searchsorted(costs, nfe)), 1)
        apart = costs[above] - costs[above - 1]
        share = (nfe - costs[above - 1]) / apart if apart else 0.0
        psnr: Series = (1 - share) * cells[above - 1]["psnr"] + share * cells[above]["psnr"]
        return psnr

    def gain_at_equal_cost(self, rule: str) -> "Series | None":
        """PSNR of snr_match above a rule at the rule's mean NFE, image by image; None where the sweep lacks that."""
        if rule not in self.rules:
            return None
        at_cost = self.at_nfe(float(self.rules[rule]["nfe"].mean()))
        return None if at_cost is None else at_cost - self.rules[rule]["psnr"]


def read(results: "StudyResults") -> dict[str, Sweep]:
    """The sweep of each degradation.

    Raises:
        UserError: for results without a match (offset 0 dB of the `forward` channel).
    """
    sweeps = {}
    for degradation, rows in results.frame.groupby("degradation", sort=False):
        swept: dict[str, dict[float, DataFrame]] = {channel: {} for channel in CHANNELS}
        again: dict[float, DataFrame] = {}
        rules: dict[str, DataFrame] = {}
        for _, cell in rows.groupby("cell", sort=False, observed=True):
            one = cell.iloc[0]
            cell = cell.set_index("image_id").sort_index()
            if one["rule"] != "snr_match":
                put(rules, _rule_name(one), cell, f"{_rule_name(one)} on {degradation}")
                continue
            offset, first_draw = float(one["offset_db"]), one["sample"] == "0"
            name = f"{one['channel']} at {offset:g} dB on {degradation}"
            put(swept[one["channel"]] if first_draw else again, offset, cell, name)
        swept = {channel: dict(sorted(cells.items())) for channel, cells in swept.items() if cells}
        if 0.0 not in swept.get("forward", {}):
            raise UserError(f"no start matches the SNR on {degradation}: sweep start.offset_db through 0")
        matches = {f"snr_match, {channel}": cells[0.0] for channel, cells in swept.items() if 0.0 in cells}
        sweeps[str(degradation)] = Sweep(swept, again, {**matches, **rules})
    return sweeps


def _rule_name(row: "Series") -> str:
    match rule := str(row["rule"]):
        case "official":
            return f"official, c = {float(row['c']):g}"
        case "fixed":
            return f"fixed, t = {row['timestep']}"
        case "oracle_variance":
            return f"true variance, {float(row['offset_db']):+g} dB".replace("-", "\N{MINUS SIGN}").replace("+0", "0")
    return rule
