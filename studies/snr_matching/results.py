"""Rows of the SNR-matching study as one table of PSNR per degradation: one row per image, one column per start.

All differences are paired: the same image and measurement, one start against another. A regret is the PSNR that a start
loses to each image's best one of the `forward` sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from studies._rows import ABSENT, cells_by, paired
from workbench.config import UserError
from workbench.metrics import Estimate, first_crossing

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

Start = tuple[str, float]
"""What is swept (a channel of SNR matching, another rule), and the value: an offset in dB, a c, a timestep."""
TOLERATED = 0.1
"""dB of PSNR that a start may cost to count as good as the match."""
FORWARD, MMSE, AGAIN = "snr_match, forward", "snr_match, mmse", "other noise"
"""The match under either reading of the error, and the forward sweep again, with other noise."""
MATCH = (FORWARD, 0.0)
VALUES = {"official": "c", "fixed": "timestep", "oracle_variance": "offset_db"}
"""Other rules, and the axis of which they are tried at several values."""
HINDSIGHT, OTHER_NOISE = "in hindsight", "on other noise"
"""How the best start is chosen: on the draw that is scored, or on another draw of its noise."""


@dataclass(frozen=True)
class Sweep:
    """One degradation's starts.

    Attributes:
        starts: of all cells, in the axes' order.
        psnr, nfe: one row per image, one column per `Start`.
        severity: by image.
    """

    starts: Sequence[Start]
    psnr: "DataFrame"
    nfe: "DataFrame"
    severity: "Series"

    def of(self, name: str) -> list[Start]:
        """The starts of that name, by their mean cost."""
        return sorted((start for start in self.starts if start[0] == name), key=self.cost)

    def cost(self, start: Start) -> float:
        """Mean network evaluations of an image."""
        return float(self.nfe[start].mean())

    @property
    def rules(self) -> list[Start]:
        """The starts whose regret is asked: either match, and all of the other rules."""
        matches = (FORWARD, MMSE)
        return [start for start in self.starts if start[0] != AGAIN and (start[1] == 0 or start[0] not in matches)]

    @cached_property
    def gains(self) -> "DataFrame":
        """PSNR above the match of the forward channel."""
        return self.psnr.sub(self.psnr[MATCH], axis=0)

    @cached_property
    def best(self) -> "dict[str, Series]":
        """PSNR at each image's best start, by how it was chosen: an analysis of finished restorations, and no rule.

        PSNR varies with the noise that a start adds, and the maximum picks lucky draws: chosen in hindsight it is an
        upper bound for the sweep's starts. Chosen on another draw of that noise it is what knowing the truth is worth
        without the luck; a noisy choice, so no upper bound. The regret that matters lies between the two.
        """
        sweep = self.of(FORWARD)
        forward, again = self.psnr[sweep], [(AGAIN, offset) for _, offset in sweep]
        found = {HINDSIGHT: forward.max(axis=1)}
        if set(again) <= set(self.starts):
            chosen = self.psnr[again].to_numpy().argmax(axis=1)
            found[OTHER_NOISE] = found[HINDSIGHT].copy()
            found[OTHER_NOISE][:] = forward.to_numpy()[np.arange(len(forward)), chosen]
        return found

    def regret(self, rule: Start, oracle: str) -> "Series | None":
        """PSNR lost to the best start, image by image; None without that rule, or that oracle."""
        return self.best[oracle] - self.psnr[rule] if oracle in self.best and rule in self.psnr else None

    def tolerance(self, name: str, sign: int) -> Estimate:
        """How many dB below (-1) or above (+1) its own match a start costs `TOLERATED` dB; ABSENT without a sweep.

        The sweep's end stands for what is not reached within it.
        """
        offsets = sorted((offset for _, offset in self.of(name) if sign * offset >= 0), key=abs)
        if len(offsets) < 2 or offsets[0] != 0:
            return ABSENT
        psnr = self.psnr[name]
        return first_crossing(np.abs(offsets), psnr[offsets].rsub(psnr[0.0], axis=0).to_numpy().T, TOLERATED)

    def gain_at_equal_cost(self, rule: Start) -> "Series | None":
        """PSNR of the forward sweep above a rule at the rule's mean NFE, image by image; None where the sweep lacks it.

        Interpolated between the two starts on either side.
        """
        sweep = self.of(FORWARD)
        costs, nfe = [self.cost(start) for start in sweep], self.cost(rule) if rule in self.nfe else np.nan
        if not costs[0] <= nfe <= costs[-1]:
            return None
        above = max(int(np.searchsorted(costs, nfe)), 1)
        share = (nfe - costs[above - 1]) / max(costs[above] - costs[above - 1], 1e-9)
        gain: Series = (1 - share) * self.psnr[sweep[above - 1]] + share * self.psnr[sweep[above]] - self.psnr[rule]
        return gain


def read(results: "StudyResults") -> dict[str, Sweep]:
    """The starts of each degradation.

    Raises:
        UserError: for results without a match (offset 0 dB of the `forward` channel).
    """
    sweeps = {}
    for degradation, rows in results.frame.groupby("degradation", sort=False):
        cells = cells_by(rows, _start)
        if MATCH not in cells:
            raise UserError(f"no start matches the SNR on {degradation}: sweep start.offset_db through 0")
        sweeps[str(degradation)] = Sweep(
            list(cells), paired(cells, "psnr"), paired(cells, "nfe"), cells[MATCH]["severity"]
        )
    return sweeps


def _start(row: "Series") -> Start:
    rule = str(row["rule"])
    if rule == "snr_match":
        return f"snr_match, {row['channel']}" if row["sample"] == "0" else AGAIN, float(row["offset_db"])
    return rule, float(row[VALUES[rule]]) if rule in VALUES else 0.0
