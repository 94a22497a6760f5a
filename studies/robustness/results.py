"""The robustness study's rows, read once into typed results.

`Grid`: severity encoders x the degradations tested on, for one start rule. A rule is named after the variance that its
start matches ("encoder": the encoder's own prediction). "Matched" is the encoder trained on the tested degradation,
"mismatched" one trained on another single degradation. An encoder that was trained with several seeds is the mean over
them, image by image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studies._equal_cost import LABELS as CONTROLS
from studies._equal_cost import Comparison
from studies._rows import ABSENT, has_column, intervals, lost, over_images
from studies.robustness.likeness import EVIDENCE, Likeness, Pair, likeness_of
from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval, ratio_of_means
from workbench.reporting import QUANTITIES, readable
from workbench.severity.start import CONTROL_NAMES

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.results import StudyResults


ENCODER, DEGRADATION, VARIANCE, SEED = "encoder", "degradation", "variance", "seed"
"""The axes that the report knows; the last two may be absent."""
OWN, TRUE = "encoder", "true"
"""The rules that match the variance which the encoder predicts itself, and the true one, which only a study knows."""
LEADS = ("fused", "residual")
"""Which corrected rule the report speaks about, the first of them that the results hold."""
NO_ENCODER = NO_SEED = "none"
UNSEEN = "all but the tested one"
"""The row of the universal encoders that were trained on all degradations but one, each tested on that one."""
_ALL_BUT = "all but "
_LEAST_GAP = 0.05
"""dB: parts of a smaller gap are not shown, however certain it is."""


@dataclass(frozen=True)
class Grid:
    """One start rule's results.

    Attributes:
        encoders: the rows of matrices: encoders of one degradation, of mixtures, `UNSEEN`; without "none".
        degradations: the columns.
        universal: the encoder trained on a mixture of the degradations; None where there is none.
        frames: the cells that have results, one row per image, indexed by image id in its order; the column
            `variance_ratio` is s2 / var_hat.
        seeds: the training seeds that each cell is the mean over.
    """

    encoders: tuple[str, ...]
    degradations: tuple[str, ...]
    universal: str | None
    frames: "Mapping[Pair, DataFrame]"
    seeds: Mapping[Pair, tuple[str, ...]]

    def has(self, column: str) -> bool:
        """Whether all cells hold that column, without gaps."""
        return all(has_column(cell, column) for cell in self.frames.values())

    def mismatched(self, degradation: str) -> list[str]:
        """The encoders trained on one other degradation, where both they and the matched encoder have results."""
        if (degradation, degradation) not in self.frames:
            return []
        others = [e for e in self.encoders if e not in (degradation, self.universal, UNSEEN)]
        return [e for e in others if (e, degradation) in self.frames]

    def mismatched_pairs(self) -> list[Pair]:
        return [(encoder, degradation) for degradation in self.degradations for encoder in self.mismatched(degradation)]

    def matched_pairs(self) -> list[Pair]:
        return [(d, d) for d in self.degradations if (d, d) in self.frames]

    def pairs_of(self, *encoders: str) -> list[Pair]:
        """These encoders' cells that have results."""
        return [(e, d) for e in encoders for d in self.degradations if (e, d) in self.frames]

    def lost(self, column: str, encoder: str, degradation: str) -> "Series | None":
        """Per image, how much worse `encoder` does than the matched one; None where either is missing.

        Raises:
            UserError: if they were tested on different images.
        """
        mine, matched = (self.frames.get((e, degradation)) for e in (encoder, degradation))
        if mine is None or matched is None:
            return None
        return lost(mine, matched, column, names=f"the {encoder} and the matched encoder on {degradation}")

    def loss(self, column: str, encoder: str, degradation: str) -> Estimate:
        """The mean of `lost`."""
        values = self.lost(column, encoder, degradation)
        return ABSENT if values is None else mean_interval(values)

    def matrix(self, values: "Callable[[str, str], Series | None]") -> list[list[Estimate]]:
        """The mean of one value per image for each (encoder, degradation), encoders x degradations."""
        found = {pair: series for pair in self.pairs_of(*self.encoders) if (series := values(*pair)) is not None}
        estimates = dict(zip(found, intervals(list(found.values())), strict=True))
        return [[estimates.get((e, d), ABSENT) for d in self.degradations] for e in self.encoders]

    def column(self, column: str, scale: float = 1.0) -> list[list[Estimate]]:
        """The mean of a column, encoders x degradations."""
        return self.matrix(lambda e, d: scale * self.frames[e, d][column].astype(float))

    def mismatch_losses(self, degradations: Sequence[str]) -> "Series":
        """PSNR lost, one value per image: mean over mismatched encoders, then over degradations."""
        cells = [
            [self.lost("psnr", e, degradation) for e in self.mismatched(degradation)] for degradation in degradations
        ]
        return over_images([over_images([cell for cell in some if cell is not None]) for some in cells if some])

    def avoided(self, encoder: str, degradations: Sequence[str]) -> tuple[Estimate, Estimate, Estimate]:
        """PSNR that mismatched encoders lose, that this one loses, and the part of the loss that it avoids."""
        both = [d for d in degradations if self.mismatched(d) and (encoder, d) in self.frames]
        mismatched = self.mismatch_losses(both)
        mine = over_images([values for d in both if (values := self.lost("psnr", encoder, d)) is not None])
        cost = mean_interval(mismatched)
        # a part of nothing is noise: without a measured loss the ratio is not shown
        part = ratio_of_means(mismatched - mine, mismatched) if cost.low > 0 else ABSENT
        return cost, mean_interval(mine), part


@dataclass(frozen=True)
class Remedy:
    """What other start rules make good of a severity encoder's misjudgement: the cells of every rule, of one seed.

    The gap is what the same encoder would gain by a start from the true variance of its error, PSNR(true) - PSNR(own
    prediction), and a rule closes the part of it that it gains. That is a yardstick and no upper bound: the error is
    more than its variance, and an earlier start can do better still.

    Attributes:
        rules: rule -> its grid, the encoder's own prediction first and the truth last.
        lead: the rule that the report speaks about.
    """

    rules: Mapping[str, Grid]
    lead: str

    @property
    def own(self) -> Grid:
        return self.rules[OWN]

    def groups(self) -> dict[str, list[Pair]]:
        """Cells by how their encoder knows the degradation; only those with a matched encoder to be set against."""
        own = self.own
        found = {
            "matched": own.matched_pairs(),
            "mismatched": own.mismatched_pairs(),
            "universal": own.pairs_of(own.universal) if own.universal else [],
            "unseen": own.pairs_of(UNSEEN),
            "no encoder": [(NO_ENCODER, degradation) for degradation in own.degradations],
        }
        held = {pair for grid in self.rules.values() for pair in grid.frames}
        kept = {
            name: [(e, d) for e, d in pairs if (e, d) in held and (d, d) in own.frames] for name, pairs in found.items()
        }
        return {name: pairs for name, pairs in kept.items() if pairs}

    def holding(self, pairs: Sequence[Pair], *rules: str) -> list[Pair]:
        """The pairs that have results with all of these rules."""
        return [pair for pair in pairs if all(r in self.rules and pair in self.rules[r].frames for r in rules)]

    def mean(self, rule: str, column: str, pairs: Sequence[Pair]) -> "Series":
        """A column, one value per image: its mean over the pairs."""
        return over_images([self.rules[rule].frames[p][column].astype(float) for p in self.holding(pairs, rule)])

    def gain(self, rule: str, over: str, pairs: Sequence[Pair]) -> "Series":
        """PSNR of one rule over another's, one value per image."""
        both = self.holding(pairs, rule, over)
        return over_images([self.rules[rule].frames[p]["psnr"] - self.rules[over].frames[p]["psnr"] for p in both])

    def lost(self, rule: str, pairs: Sequence[Pair]) -> "Series":
        """PSNR lost against the matched encoder and its own prediction, one value per image."""
        matched, mine = self.own.frames, self.rules[rule].frames
        return over_images([matched[d, d]["psnr"] - mine[e, d]["psnr"] for e, d in self.holding(pairs, rule)])

    def closed(self, rule: str, pairs: Sequence[Pair]) -> Estimate:
        """The part of the gap that a rule closes; absent where the truth is not shown to gain anything of note."""
        all_three = self.holding(pairs, OWN, rule, TRUE)
        true = self.gain(TRUE, OWN, all_three)
        if not all_three or not ((gap := mean_interval(true)).low > 0 and gap.mean >= _LEAST_GAP):
            return ABSENT
        return ratio_of_means(self.gain(rule, OWN, all_three), true)

    def cost(self, rule: str, column: str, pairs: Sequence[Pair]) -> Estimate:
        """A cost in the unit that is shown; absent where it was not measured."""
        if not self.rules[rule].has(column):
            return ABSENT
        return mean_interval(self.mean(rule, column, pairs) * QUANTITIES[column].scale)

    def start_share(self, rule: str, pairs: Sequence[Pair]) -> Estimate:
        """The part of the time that goes into the estimate and the choice of the start."""
        if not self.rules[rule].has("start_seconds"):
            return ABSENT
        return ratio_of_means(self.mean(rule, "start_seconds", pairs), self.mean(rule, "seconds", pairs))


@dataclass(frozen=True)
class Robustness:
    """What the study found.

    Attributes:
        grid: starts from the encoders' own prediction, means over the training seeds.
        by_seed: the same of each seed; of "" where results do not tell seeds apart.
        remedy: the other start rules; None without any beside the truth.
        comparisons: corrected starts beside controls of equal mean FLOPs, by "matched" and "mismatched".
        likeness: how alike the degradations are; None where it was not measured.
        pictures: cell identity -> arrays (n, height, width, channel) by name, and image_id.
        device: where the times were taken.
    """

    grid: Grid
    by_seed: Mapping[str, Grid]
    remedy: Remedy | None
    comparisons: Mapping[str, Sequence[Comparison]]
    likeness: Likeness | None
    pictures: "Mapping[str, Mapping[str, np.ndarray]]"
    device: str

    @property
    def first(self) -> Grid:
        """The first seed's, which all rules have."""
        return next(iter(self.by_seed.values()))


def read(results: "StudyResults") -> Robustness:
    """Everything that the report needs, from the rows.

    Raises:
        UserError: without the axes encoder and degradation, or with others of several values that it cannot tell apart.
    """
    rows = results.frame.assign(variance_ratio=results.frame["s2"] / results.frame["var_hat"])
    labels = results.axes.get(VARIANCE, [])
    seeds = [seed for seed in results.axes.get(SEED, []) if seed != NO_SEED]

    def grid(rule: str, seed: str | None = None) -> Grid:
        return _grid(results.axes, rows, rule, seed)

    by_seed = {seed: grid(OWN, seed) for seed in seeds} or {"": grid(OWN)}
    own = grid(OWN) if len(seeds) > 1 else next(iter(by_seed.values()))
    first = seeds[0] if seeds else None
    others = [rule for rule in labels if rule not in (OWN, TRUE, *CONTROLS)]
    remedy = None
    if OWN in labels and others:
        last = [TRUE] if TRUE in labels else []
        rules = {OWN: next(iter(by_seed.values()))} | {rule: grid(rule, first) for rule in (*others, *last)}
        remedy = Remedy(rules, next((rule for rule in LEADS if rule in others), others[0]))
    controls = {control: grid(name, first) for control, name in CONTROL_NAMES.items() if name in labels}
    fused = remedy.rules.get(LEADS[0]) if remedy is not None else None
    compared: dict[str, list[Comparison]] = {}
    for (encoder, degradation), cell in fused.frames.items() if fused is not None else ():
        pair = (encoder, degradation)
        if mine := {control: one.frames[pair] for control, one in controls.items() if pair in one.frames}:
            name = readable(degradation) + ("" if encoder == degradation else f" by the {readable(encoder)} encoder")
            compared.setdefault("matched" if encoder == degradation else "mismatched", []).append(
                Comparison(name, cell, mine)
            )
    evidence = results.evidence.get(EVIDENCE)
    likeness = None
    if evidence is not None and len({*evidence["names"]} & {*results.axes[DEGRADATION]}) > 1:
        likeness = likeness_of(own.frames, evidence)
    groups = {str(name): compared[name] for name in ("matched", "mismatched") if name in compared}
    device = str(results.provenance.get("device") or "")
    return Robustness(own, by_seed, remedy, groups, likeness, results.examples, device)


def _grid(axes: Mapping[str, Sequence[str]], rows: "DataFrame", rule: str, seed: str | None) -> Grid:
    """The cells of one start rule, of one training seed or (None) the mean over all.

    Results without an axis `variance` know one rule, and all their rows are its.
    """
    if ENCODER not in axes or DEGRADATION not in axes:
        raise UserError(f"this report needs two axes, encoder and degradation; the results have: {', '.join(axes)}")
    for axis, labels in axes.items():
        others = [label for label in labels if label not in (TRUE, *CONTROLS)]
        if axis == VARIANCE and rule in labels:
            rows = rows[rows[VARIANCE] == rule]
        elif axis == VARIANCE and len(others) == 1:
            rows = rows[rows[VARIANCE] == others[0]]  # the user has chosen another rule for all cells
        elif axis not in (ENCODER, DEGRADATION, SEED) and len(labels) > 1:
            raise UserError(
                f"this report cannot show several values of {axis} ({', '.join(labels)}) side by side: give it one"
            )
    if SEED in axes:
        # in the seeds' order, so that what cannot be averaged is the first seed's
        rows = rows.iloc[rows[SEED].map(list(axes[SEED]).index).argsort(kind="stable")]
        rows = rows if seed is None else rows[rows[SEED].isin([seed, NO_SEED])]
    degradations = tuple(axes[DEGRADATION])
    left_out = {f"{_ALL_BUT}{degradation}": degradation for degradation in degradations}
    frames, seeds = {}, {}
    for key, cell in rows.groupby([ENCODER, DEGRADATION], observed=True):
        label, degradation = map(str, key)
        if left_out.get(label, degradation) != degradation:
            continue  # it was trained on this degradation, so it has nothing to generalise to
        pair = (UNSEEN if label in left_out else label, degradation)
        frames[pair] = _by_image(cell)
        seeds[pair] = tuple(dict.fromkeys(cell[SEED])) if SEED in cell else ()
    encoders = [label for label in axes[ENCODER] if label != NO_ENCODER and label not in left_out]
    universals = [label for label in encoders if label not in degradations]
    if any(encoder == UNSEEN for encoder, _ in frames):
        encoders.append(UNSEEN)
    return Grid(tuple(encoders), degradations, universals[-1] if universals else None, frames, seeds)


def _by_image(rows: "DataFrame") -> "DataFrame":
    """One row per image: means over the seeds, and the first seed's of what is no number."""
    if rows["image_id"].is_unique:
        return rows.set_index("image_id").sort_index()
    groups = rows.groupby("image_id")
    means = groups.mean(numeric_only=True)
    first: DataFrame = groups.first()
    return first.assign(**{str(column): means[column] for column in means})


def over_pairs(grid: Grid, column: str, pairs: Sequence[Pair]) -> Estimate:
    """The mean of a column over these pairs, image by image; absent without pairs."""
    return mean_interval(over_images([grid.frames[pair][column] for pair in pairs])) if pairs else ABSENT


def rank(cell: "DataFrame", number: str, truth: str) -> float:
    """Spearman's rank correlation of two columns over the images; NaN where one is constant."""
    if cell[number].nunique() < 2 or cell[truth].nunique() < 2:
        return math.nan
    return float(np.corrcoef(cell[number].rank(), cell[truth].rank())[0, 1])
