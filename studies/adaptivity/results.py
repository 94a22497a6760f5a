"""Rows of the adaptivity study as settings: one solver on one distribution of measurements, with every start.

A rule that chooses the number of evaluations for each image is an index into the grid of restorations, so rules that
are fitted here need none of their own. The unit of every comparison is the gain over one start for all images, each
with its missing noise, at the rule's own mean cost (interpolated between two starts of the grid, among which images
would be shared out). Cost is FLOPs in units of an evaluation with all that a step takes: NFE and, for rules that look
at the residual, a decoder evaluation. What is fitted or chosen, is on validation images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from studies._rows import cells_by, has_column
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.reporting import QUANTITIES, readable
from workbench.severity.start import CONTROL_NAMES, Allocation, Curves
from workbench.severity.start.allocated import LEAST, cheapest_best, price_of
from workbench.stages.measure.trivial import LOG_VARIANCE, RESIDUAL
from workbench.stages.rows import OPERATOR

Values: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Cells: TypeAlias = Mapping[tuple[str, str, str, str], DataFrame]
"""By split, sample, rule and the label of its start."""

METRICS = ("psnr", "lpips")
"""The metrics that are asked about; allocation is for the metric that it is judged by."""
DEGREE = 2
"""Degree of the allocation's curves, as the start rule's default."""
NUM_BINS = 3
FRACTION = 0.25
"""Of the matched start's cost: a small budget, at which evaluations are still worth much."""
FEWEST_FOR_THREE = 2 * (3 * DEGREE + 1)
"""Validation images below which three predictors cannot be fitted."""
FEWEST_TO_HALVE = 40
"""Validation images below which a fitted rule is judged on the images that it was fitted to."""
MATCHED, ALLOCATED, ALONE = "matched", "allocated", "allocated by predicted variance"
ADAPTIVE = (MATCHED, ALONE, ALLOCATED)
"""The rules that adapt to each image and need no truth."""
NON_BLIND, BY_NON_BLIND = "matched, non-blind", "allocated by non-blind variance"
"""The same two with the variance that the operator corrects, where there are results."""
ONE, FULL_NOISE, PERMUTED, KNOWN = (
    "one timestep, missing noise",
    "one timestep, full noise",
    "permuted",
    "known severity",
)
CONTROLS = {FULL_NOISE: "timestep", PERMUTED: "permuted", KNOWN: "known_severity"}
"""Controls with cells of their own; `ONE` is in the grid."""
BY_OPERATOR, BY_LEVEL = "allocated by operator", "allocated by operator and severity"
"""Controls of mixtures: a number of evaluations for each operator, or each operator and level, fitted likewise."""
NO_OPERATOR = "allocated by variance and residual"
INFORMED, TRUE_VARIANCE = "allocated, severity known", "allocated by true variance"
PREDICTORS: Mapping[str, Callable[[DataFrame], Values]] = {
    ALLOCATED: lambda rows: np.hstack([_log(rows["start_variance"]), _log(rows[RESIDUAL])]),
    NO_OPERATOR: lambda rows: np.hstack([_log(rows["start_variance"]), _log(rows[RESIDUAL])]),
    ALONE: lambda rows: _log(rows["start_variance"]),
    INFORMED: lambda rows: np.hstack([_log(rows["start_variance"]), _log(rows[RESIDUAL]), _column(rows["severity"])]),
    BY_NON_BLIND: lambda rows: _log(rows[CORRECTED]),
    "allocated by residual norm": lambda rows: _log(rows[RESIDUAL]),
    "allocated by log variance of y": lambda rows: _column(rows[LOG_VARIANCE]),
    "allocated by known severity": lambda rows: _column(rows["severity"]),
    BY_OPERATOR: lambda rows: np.empty((len(rows), 0)),
    BY_LEVEL: lambda rows: _column(rows["severity"]),
    TRUE_VARIANCE: lambda rows: np.hstack([_log(rows["s2"]), _log(rows[RESIDUAL])]),
}
"""What an allocation may look at, (images, predictors). Predicted variance, residual norm and operator; then without
the operator, with the severity, or with the true variance in place of the predicted one; or a single number. Severity
and true variance are known to studies alone."""
CORRECTED = "non_blind_variance"
"""Column of the first start's rows: the variance that the operator corrects."""
TELL_OPERATORS_APART = (ALLOCATED, INFORMED, BY_NON_BLIND, TRUE_VARIANCE, BY_OPERATOR, BY_LEVEL)
LOOK_AT_RESIDUAL = (ALLOCATED, INFORMED, TRUE_VARIANCE, NO_OPERATOR, "allocated by residual norm")
OTHER_NOISE, HINDSIGHT = "own curve, other noise", "own curve, in hindsight"
"""Oracles: each image's curve of quality is known, from other noise or from the noise that is scored."""


@dataclass(frozen=True)
class Grid:
    """The same images with every number of evaluations, rows by image id."""

    frames: Mapping[int, DataFrame]

    @cached_property
    def nfe(self) -> Values:
        """The numbers, ascending."""
        return np.array(sorted(self.frames), dtype=float)

    @property
    def rows(self) -> DataFrame:
        """The rows of the first start, for what does not depend on it."""
        return self.frames[min(self.frames)]

    def quality(self, metric: str) -> Values:
        """(images, numbers), higher is better."""
        values = [self.frames[int(n)][metric].to_numpy(float) for n in self.nfe]
        return QUANTITIES[metric].better * np.stack(values, axis=1)

    def one(self, nfe: float, metric: str) -> Values:
        """The quality of one start for all at this mean NFE, (images,)."""
        quality = self.quality(metric)
        weights = np.array([np.interp(nfe, self.nfe, unit) for unit in np.eye(len(self.nfe))])
        return quality @ weights

    def gain_of(self, index: Index, metric: str, extra: float = 0.0) -> Values:
        """The gain of a rule that chooses these starts of the grid, and costs `extra` evaluations besides."""
        quality = self.quality(metric)[np.arange(len(index)), index]
        return quality - self.one(float(self.nfe[index].mean()) + extra, metric)

    def take(self, places: NDArray[np.int64]) -> "Grid":
        """Some of the images."""
        return Grid({n: frame.iloc[places] for n, frame in self.frames.items()})


def known(rule: str, grid: Grid) -> tuple[Values, Index]:
    """What a rule looks at: numbers (images, predictors), and each image's operator."""
    rows = grid.rows
    same = np.zeros(len(rows), dtype=np.int64)
    told_apart = rule in TELL_OPERATORS_APART and OPERATOR in rows
    return PREDICTORS[rule](rows), rows[OPERATOR].to_numpy(dtype=np.int64) if told_apart else same


@dataclass(frozen=True)
class Setting:
    """One solver on one distribution of measurements.

    Attributes:
        name, solver: of the setting.
        test, val: the grid on either split.
        again: the grid on test images with other noise.
        others: the matched start (`MATCHED`) and the controls by split.
        allocated: the allocated start's own cell; None without.
    """

    name: str
    solver: str
    test: Grid
    val: Grid
    again: Grid
    others: Mapping[str, Mapping[str, DataFrame]]
    allocated: DataFrame | None

    @property
    def panel(self) -> str:
        """The name over a narrow panel."""
        return self.name.replace(", ", "\n", 1)

    @property
    def metrics(self) -> list[str]:
        """Those of `METRICS` that all rows hold."""
        frames = [*self.test.frames.values(), *self.val.frames.values(), *self.again.frames.values()]
        return [metric for metric in METRICS if all(has_column(frame, metric) for frame in frames)]

    @property
    def budget(self) -> float:
        """The mean NFE of the matched start on validation images, within the grid."""
        spent = float(self.others["val"][MATCHED]["nfe"].mean())
        return float(np.clip(spent, self.test.nfe[0], self.test.nfe[-1]))

    @cached_property
    def extra(self) -> float:
        """What it costs to look at the residual, in evaluations: by the FLOPs of the allocated start's own cell."""
        return 0.0 if self.allocated is None else self._beyond_steps(self.allocated)

    @cached_property
    def correction(self) -> float:
        """What it costs to correct the variance by the operator, in evaluations."""
        return self._beyond_steps(self.others["test"][NON_BLIND]) if self.is_non_blind else 0.0

    @property
    def is_non_blind(self) -> bool:
        """Whether there are results of the variance that the operator corrects."""
        return all(NON_BLIND in others for others in self.others.values())

    @property
    def adaptive(self) -> tuple[str, ...]:
        """The rules that adapt to each image and need no truth, as far as there are results."""
        return (*ADAPTIVE, NON_BLIND, BY_NON_BLIND) if self.is_non_blind else ADAPTIVE

    @property
    def predictors(self) -> tuple[str, ...]:
        """Those of `PREDICTORS` that there are results of."""
        absent = set() if OPERATOR in self.val.rows else {BY_OPERATOR, BY_LEVEL}
        if not self.is_non_blind:
            absent.add(BY_NON_BLIND)
        if len(self.val.rows) < FEWEST_FOR_THREE:
            absent.add(INFORMED)
        return tuple(rule for rule in PREDICTORS if rule not in absent)

    def _beyond_steps(self, rows: DataFrame) -> float:
        """What a rule with a cell of its own costs besides evaluations, in evaluations."""
        flops = np.array([self.test.frames[int(n)]["flops"].mean() for n in self.test.nfe])
        per_step = (flops[-1] - flops[0]) / (self.test.nfe[-1] - self.test.nfe[0])
        plain = flops[0] + per_step * (rows["nfe"].to_numpy(float) - self.test.nfe[0])
        return float((rows["flops"].to_numpy(float) - plain).mean() / per_step)

    def extra_of(self, rule: str) -> float:
        """What a rule costs besides evaluations."""
        if rule in (NON_BLIND, BY_NON_BLIND):
            return self.correction
        return self.extra if rule in LOOK_AT_RESIDUAL else 0.0

    def allocation(self, rule: str, metric: str, budget: float, on: Grid | None = None) -> Allocation:
        """What validation images teach a rule that spends this budget."""
        grid = on or self.val
        x, operator = known(rule, grid)
        curves = Curves.fit(grid.nfe.astype(int).tolist(), x, operator, grid.quality(metric), DEGREE)
        return Allocation.fit(curves, x, operator, max(budget - self.extra_of(rule), float(grid.nfe[0])))

    def index(self, rule: str, metric: str, budget: float) -> Index:
        """The starts that a fitted rule, or an oracle, chooses for the test images."""
        if rule in PREDICTORS:
            return self.allocation(rule, metric, budget).index(*known(rule, self.test))
        curves = (self.test if rule == HINDSIGHT else self.again).quality(metric)
        return cheapest_best(curves, self.test.nfe, price_of(curves, self.test.nfe, budget))

    def gain(self, rule: str, metric: str, budget: float | None = None) -> Series:
        """A rule's gain over one start for all at its own mean NFE, by image; positive is better.

        Args:
            budget: of a rule that has one; by default the matched start's.
        """
        if rule == ONE:
            values = np.zeros(len(self.test.rows))
        elif rule in self.others["test"]:
            values = self._own(rule, "test", metric)
        else:
            index = self.index(rule, metric, self.budget if budget is None else budget)
            values = self.test.gain_of(index, metric, self.extra_of(rule))
        return Series(values, self.test.rows.index)

    def cost(self, rule: str, metric: str, budget: float | None = None) -> float:
        """The test images' mean cost under a rule, in evaluations."""
        if rule in self.others["test"]:
            return float(self.others["test"][rule]["nfe"].mean()) + self.extra_of(rule)
        index = self.index(rule, metric, self.budget if budget is None else budget)
        return float(self.test.nfe[index].mean()) + self.extra_of(rule)

    def on_validation(self, rule: str, metric: str) -> Values:
        """A rule's gain on validation images; a fitted rule is fitted to the other half of them."""
        if rule == ONE:
            return np.zeros(len(self.val.rows))
        if rule in self.others["val"]:
            return self._own(rule, "val", metric)
        halves = np.arange(len(self.val.rows)) % (2 if len(self.val.rows) >= FEWEST_TO_HALVE else 1)
        gains = np.empty(len(halves))
        for half in set(halves):
            own = halves == half
            fitted, judged = (self.val.take(np.flatnonzero(one)) for one in (own if own.all() else ~own, own))
            chosen = self.allocation(rule, metric, self.budget, fitted).index(*known(rule, judged))
            gains[own] = judged.gain_of(chosen, metric, self.extra_of(rule))
        return gains

    def chosen(self, rules: tuple[str, ...], metric: str) -> str:
        """The best of some rules on validation images."""
        return max(rules, key=lambda rule: float(self.on_validation(rule, metric).mean()))

    @property
    def controls(self) -> tuple[str, ...]:
        """The four, as far as there are results, and those of a mixture: starts that know nothing of the image."""
        named = (name for name in CONTROLS if name in self.others["test"])
        return (ONE, *named, *(rule for rule in (BY_OPERATOR, BY_LEVEL) if rule in self.predictors))

    def worth(self, metric: str) -> Series:
        """What adapting is worth: the best rule that adapts over the best control, both chosen on validation images."""
        best, control = (self.chosen(rules, metric) for rules in (self.adaptive, self.controls))
        return self.gain(best, metric) - self.gain(control, metric)

    def worth_of_less(self, metric: str) -> Series:
        """The allocated rule's gain over one start for all, at a fraction of the matched start's cost."""
        return self.gain(ALLOCATED, metric, max(self.budget * FRACTION, 1.0))

    def worth_on_validation(self, metric: str) -> Values:
        """The same on the images that it was chosen on, to choose where to look."""
        best, control = (self.chosen(rules, metric) for rules in (self.adaptive, self.controls))
        return self.on_validation(best, metric) - self.on_validation(control, metric)

    @cached_property
    def edges(self) -> Values:
        """Between bins of predicted variance: quantiles of the validation images."""
        inner = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
        return np.quantile(self.val.rows["var_hat"].to_numpy(float), inner)

    def bins(self, split: str) -> NDArray[np.int64]:
        """The bin of each image, from mild to severe."""
        rows = (self.test if split == "test" else self.val).rows
        return np.digitize(rows["var_hat"].to_numpy(float), self.edges)

    def _own(self, rule: str, split: str, metric: str) -> Values:
        """The gain of a rule with a cell of its own."""
        rows, grid = self.others[split][rule], self.test if split == "test" else self.val
        if not rows.index.equals(grid.rows.index):
            raise UserError(f"{self.name}: cells were tested on different images; run the study again")
        quality = QUANTITIES[metric].better * rows[metric].to_numpy(float)
        return quality - grid.one(float(rows["nfe"].mean()) + self.extra_of(rule), metric)


@dataclass(frozen=True)
class Adaptivity:
    """All settings."""

    settings: tuple[Setting, ...]
    results: StudyResults

    @property
    def metrics(self) -> list[str]:
        """The metrics that every setting has."""
        return [metric for metric in METRICS if all(metric in setting.metrics for setting in self.settings)]

    @property
    def num_comparisons(self) -> int:
        """How many comparisons of a rule that adapts with a control at equal cost the results hold."""
        return sum(len(setting.adaptive) * len(setting.controls) * len(setting.metrics) for setting in self.settings)


def read(results: StudyResults) -> Adaptivity:
    """Every setting that has all of its grids and the matched start.

    Raises:
        UserError: if there is none.
    """
    columns = ["solver", "degradation", "severities"]
    found = []
    for names, rows in results.frame.groupby(columns, sort=False, observed=True):
        solver, degradation, severities = map(str, names)
        cells = cells_by(rows, _key)
        test, val, again = (_grid(cells, *key) for key in (("test", "0"), ("val", "0"), ("test", "1")))
        others = {split: _others(cells, split) for split in ("test", "val")}
        if not all(len(grid.frames) > 1 for grid in (test, val, again)) or not all(
            MATCHED in o for o in others.values()
        ):
            continue
        for split, grid in (("test", test), ("val", val)):
            if NON_BLIND in others[split]:
                corrected = others[split][NON_BLIND]["start_variance"]
                grid.rows[CORRECTED] = corrected.reindex(grid.rows.index)
        allocated = [frame for (*_, rule, _), frame in cells.items() if rule == "allocated"]
        where = [readable(degradation)] if degradation != "mixture" else []
        name = ", ".join([readable(solver), *where, SEVERITIES.get(severities, severities)])
        found.append(Setting(name, solver, test, val, again, others, allocated[0] if allocated else None))
    if not found:
        raise UserError(
            "this report needs a grid of start.nfe on test, val and with other noise, and the matched start"
        )
    return Adaptivity(tuple(found), results)


SEVERITIES = {"uniform": "uniform severities", "skewed": "mostly mild", "two_point": "two severities"}


def _key(row: Series) -> tuple[str, str, str, str]:
    return str(row["split"]), str(row["sample"]), str(row["rule"]), str(row["evaluations"])


def _grid(cells: Cells, split: str, sample: str) -> Grid:
    own = {int(key[3]): rows for key, rows in cells.items() if key[:3] == (split, sample, "missing_noise")}
    if any(not rows.index.equals(next(iter(own.values())).index) for rows in own.values()):
        raise UserError("starts were tested on different images; run the study again")
    return Grid(own)


def _others(cells: Cells, split: str) -> dict[str, DataFrame]:
    labels = {CONTROL_NAMES[control]: name for name, control in CONTROLS.items()}  # type: ignore[index]
    found = {}
    for (where, sample, rule, label), rows in cells.items():
        if (where, sample) == (split, "0") and rule in ("snr_match", "equal_cost"):
            matched = NON_BLIND if label == "non_blind" else MATCHED
            found[matched if rule == "snr_match" else labels[label]] = rows
    return found


def _log(values: Series) -> Values:
    return np.log(_column(values).clip(LEAST))


def _column(values: Series) -> Values:
    return values.to_numpy(float)[:, None]
