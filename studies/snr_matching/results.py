"""Rows of the SNR-matching study as PSNR and NFE per degradation: one row per image, one column per start.

All differences are paired: the same image and measurement, one start against another. A regret is the PSNR that a start
loses to each image's best one of the `forward` sweep.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from pandas import DataFrame, Series

from studies._rows import ABSENT, cells_by, paired
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.metrics import Estimate, first_crossing

Start = tuple[str, float]
"""What is swept (a channel of SNR matching, another rule), and the value: an offset in dB, a c, a timestep."""
TOLERATED = 0.1
"""dB of PSNR that a start may cost to count as good as the match."""
FORWARD, MMSE, AGAIN = "snr_match, forward", "snr_match, mmse", "other noise"
"""The match under either reading of the error, and the forward sweep again, with other noise."""
MATCH = (FORWARD, 0.0)
VALUES = {"official": "c", "fixed": "timestep", "oracle_variance": "offset_db"}
"""Other rules, and the axis of which they are tried at several values."""
ORACLES = HINDSIGHT, OTHER_NOISE = "in hindsight", "on other noise"
"""How the best start is chosen: on the draw that is scored, or on another draw of its noise."""


def of(values: DataFrame, name: str) -> DataFrame:
    """The columns of the starts of one name, by their values, ascending."""
    return cast(DataFrame, values[name]).sort_index(axis=1)


@dataclass(frozen=True)
class Sweep:
    """One degradation's starts: one row per image, one column per `Start`; `severity` by image."""

    psnr: DataFrame
    nfe: DataFrame
    severity: Series

    @property
    def starts(self) -> list[Start]:
        return cast(list[Start], list(self.psnr))

    @property
    def names(self) -> list[str]:
        """Of what was tried, the second draw left out."""
        return list(dict.fromkeys(name for name, _ in self.starts if name != AGAIN))

    @property
    def rules(self) -> list[Start]:
        """The starts whose regret is asked: either match, and all of the other rules."""
        return [
            start for start in self.starts if start[0] not in (FORWARD, MMSE, AGAIN) or start in (MATCH, (MMSE, 0.0))
        ]

    @property
    def gains(self) -> DataFrame:
        """PSNR above the match of the forward channel."""
        return self.psnr.sub(self.psnr[MATCH], axis=0)

    @cached_property
    def best(self) -> dict[str, Series]:
        """PSNR at each image's best start, by how it was chosen: an analysis of finished restorations, and no rule.

        PSNR varies with the noise that a start adds, and the maximum picks lucky draws: chosen in hindsight it is an
        upper bound for the sweep's starts. Chosen on another draw of that noise it is what knowing the truth is worth
        without the luck; a noisy choice, so no upper bound. The regret that matters lies between the two.
        """
        forward = of(self.psnr, FORWARD)
        found = {HINDSIGHT: forward.max(axis=1)}
        if AGAIN in self.psnr:
            chosen = of(self.psnr, AGAIN).to_numpy().argmax(axis=1)
            found[OTHER_NOISE] = Series(forward.to_numpy()[np.arange(len(forward)), chosen], forward.index)
        return found

    def regret(self, rule: Start, oracle: str) -> Series | None:
        """PSNR lost to the best start, image by image; None without that rule, or that oracle."""
        return self.best[oracle] - self.psnr[rule] if oracle in self.best and rule in self.psnr else None

    def tolerance(self, name: str, sign: int) -> Estimate:
        """How many dB below (-1) or above (+1) its own match a start costs `TOLERATED` dB; ABSENT without a sweep.

        The sweep's end stands for what is not reached within it.
        """
        offsets = sorted((value for start, value in self.starts if start == name and sign * value >= 0), key=abs)
        if len(offsets) < 2 or offsets[0] != 0:
            return ABSENT
        psnr = of(self.psnr, name)[offsets]
        return first_crossing(np.abs(offsets), psnr.rsub(psnr[0.0], axis=0).to_numpy().T, TOLERATED)

    def by_cost(self, name: str) -> DataFrame:
        """PSNR above the match of the starts of that name: one column per mean NFE of an image, ascending."""
        return of(self.gains, name).set_axis(of(self.nfe, name).mean(), axis=1).sort_index(axis=1)

    def gain_at_equal_cost(self, rule: Start) -> Series | None:
        """PSNR of the forward sweep above a rule, image by image, interpolated linearly at the rule's mean NFE.

        None without that rule, or where the sweep does not reach its NFE.
        """
        sweep = self.by_cost(FORWARD)
        costs = sweep.columns.to_numpy(dtype=float)
        nfe = self.nfe[rule].mean() if rule in self.nfe else np.nan
        if not costs[0] <= nfe <= costs[-1]:
            return None
        weights = np.array([np.interp(nfe, costs, one) for one in np.eye(len(costs))])
        return sweep.dot(Series(weights, sweep.columns)) - self.gains[rule]


def read(results: StudyResults) -> dict[str, Sweep]:
    """The starts of each degradation.

    Raises:
        UserError: for results without a match (offset 0 dB of the `forward` channel).
    """
    found = {}
    for degradation, rows in results.frame.groupby("degradation", sort=False):
        cells = cells_by(rows, _start)
        if MATCH not in cells:
            raise UserError(f"no start matches the SNR on {degradation}: sweep start.offset_db through 0")
        found[str(degradation)] = Sweep(paired(cells, "psnr"), paired(cells, "nfe"), cells[MATCH]["severity"])
    return found


def _start(row: Series) -> Start:
    rule = str(row["rule"])
    if rule == "snr_match":
        return f"snr_match, {row['channel']}" if row["sample"] == "0" else AGAIN, float(row["offset_db"])
    return rule, float(row[VALUES[rule]]) if rule in VALUES else 0.0
