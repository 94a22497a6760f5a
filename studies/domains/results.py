"""Rows of the domains study: each operator with its matched start, pure noise and starts that are the same for all.

Fixed starts are compared at the matched start's mean cost in FLOPs, which includes what the correction by the residual
takes: their quality is interpolated between two starts of the grid, among which images would be shared out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from pandas import DataFrame, Series
from scipy.stats import spearmanr

from studies._rows import cells_by, has_column
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults

MATCHED, PURE, MISSING, CCDF = "snr_match", "full", "missing_noise", "fixed"
"""The start rules, by their kinds."""


@dataclass(frozen=True)
class Assumption:
    """What the method assumes of the estimate's error.

    Attributes:
        value: its figure, of the matched start's rows.
        right: what it is if the assumption holds.
        tolerance: a departure by which it counts as broken.
    """

    value: Callable[[DataFrame], float]
    right: float
    tolerance: float

    def departure(self, rows: DataFrame) -> float:
        """In tolerances: 1 or more if it is broken."""
        return abs(self.value(rows) - self.right) / self.tolerance


def _log_ratio(rows: DataFrame) -> float:
    return float(np.log2(rows["s2"].mean() / rows["var_hat"].mean()))


ASSUMPTIONS: Mapping[str, Assumption] = {
    "the variance is right": Assumption(_log_ratio, 0.0, 0.3),
    "the error is white": Assumption(lambda rows: float(rows["error_neighbours"].mean()), 0.0, 0.1),
    "the error is Gaussian": Assumption(lambda rows: float(rows["error_kurtosis"].mean()), 3.0, 1.0),
    "the estimate is a conditional mean": Assumption(lambda rows: float(rows["error_estimate"].mean()), 0.0, 0.1),
}
"""A variance that is wrong by 23 % (2^0.3), neighbours that correlate by 0.1, a kurtosis of 2 or 4, and an error that
correlates with the estimate by 0.1 count as broken. These limits are conventions."""


@dataclass(frozen=True)
class Operator:
    """One operator of one domain.

    Attributes:
        domain, name: the labels of the data and of the degradation.
        cells: rows by image id, of each start rule and its label.
    """

    domain: str
    name: str
    cells: Mapping[tuple[str, str], DataFrame]

    @property
    def matched(self) -> DataFrame:
        """The matched start's rows."""
        return self._of(MATCHED)[0]

    @property
    def quality(self) -> str:
        """The column that restorations are judged by, in dB: SI-SDR for sound, else PSNR."""
        return "si_sdr" if has_column(self.matched, "si_sdr") else "psnr"

    def gain(self, over: Series) -> Series:
        """The quality of the matched start above another's, image by image."""
        gained: Series = self.matched[self.quality] - over
        return gained

    @property
    def pure(self) -> DataFrame:
        """The rows from pure noise."""
        return self._of(PURE)[0]

    def fixed(self, rule: str) -> list[DataFrame]:
        """The rows of one start for all images, ascending in cost."""
        return sorted(self._of(rule), key=lambda rows: float(rows["flops"].mean()))

    def at_equal_cost(self, rule: str) -> Series:
        """The quality of one start for all images at the matched start's mean FLOPs; of pure noise beyond the grid."""
        grid = [*self.fixed(rule), self.pure]
        costs = [float(rows["flops"].mean()) for rows in grid]
        budget = float(self.matched["flops"].mean())
        weights = [float(np.interp(budget, costs, unit)) for unit in np.eye(len(grid))]
        return sum(weight * rows[self.quality] for weight, rows in zip(weights, grid, strict=True))  # type: ignore[return-value]

    def best_fixed(self) -> tuple[str, Series]:
        """The better of the two fixed starts on these images, which favours it, and its quality."""
        found = {rule: self.at_equal_cost(rule) for rule in (MISSING, CCDF)}
        rule = max(found, key=lambda rule: float(found[rule].mean()))
        return rule, found[rule]

    @property
    def rank(self) -> float:
        """Spearman's correlation of the predicted and the true error variance."""
        return float(spearmanr(self.matched["var_hat"], self.matched["s2"]).statistic)

    @property
    def rank_of_severity(self) -> float:
        """The same of the known severity."""
        return float(spearmanr(self.matched["severity"], self.matched["s2"]).statistic)

    @property
    def ratio(self) -> Series:
        """True over predicted error variance of each image."""
        return self.matched["s2"] / self.matched["var_hat"]

    @property
    def savings(self) -> float:
        """How many times fewer evaluations the matched start takes than pure noise."""
        return float(self.pure["nfe"].mean() / self.matched["nfe"].mean())

    def broken(self) -> list[str]:
        """The assumptions that do not hold, the one that is furthest off first."""
        departures = {name: one.departure(self.matched) for name, one in ASSUMPTIONS.items()}
        return sorted((name for name, by in departures.items() if by >= 1), key=lambda name: -departures[name])

    def _of(self, rule: str) -> list[DataFrame]:
        return [rows for (kind, _), rows in self.cells.items() if kind == rule]


@dataclass(frozen=True)
class Domains:
    """All operators, and the pictures that are kept."""

    operators: tuple[Operator, ...]
    results: StudyResults


def read(results: StudyResults) -> Domains:
    """Every operator that has all of its starts.

    Raises:
        UserError: if there is none.
    """
    found = []
    for (domain, name), rows in results.frame.groupby(["domain", "degradation"], sort=False, observed=True):
        operator = Operator(str(domain), str(name), cells_by(rows, _key))
        if all(operator._of(rule) for rule in (MATCHED, PURE, MISSING, CCDF)):
            found.append(operator)
    if not found:
        raise UserError("this report needs a matched start, pure noise, and both kinds of fixed starts")
    return Domains(tuple(found), results)


def _key(row: Series) -> tuple[str, str]:
    return str(row["rule"]), str(row["timestep"])
