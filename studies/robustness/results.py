"""The robustness study's rows, read once into typed results.

`Grid`: severity encoders x the degradations tested on, for one start rule. A rule is named after the variance that its
start matches ("encoder": the encoder's own prediction). "Matched" is the encoder trained on the tested degradation,
"mismatched" one trained on another single degradation. An encoder that was trained with several seeds is the mean over
them, image by image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studies._equal_cost import LABELS as CONTROLS
from studies._equal_cost import Comparison
from studies._rows import ABSENT, estimated, has_column, lost, mean_over, over_images, require_axes
from studies.robustness.likeness import EVIDENCE, Likeness, Pair, likeness_of
from workbench.metrics import Estimate, mean_interval, ratio_of_means
from workbench.reporting import QUANTITIES, readable
from workbench.severity.start import CONTROL_NAMES

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.experiments.results import StudyResults

ENCODER, DEGRADATION, VARIANCE, SEED = "encoder", "degradation", "variance", "seed"
"""The axes that the report knows; the last two may be absent."""
OWN, TRUE = "encoder", "true"
"""The rules that match the variance which the encoder predicts itself, and the true one, which only a study knows."""
LEADS = ("fused", "residual")
"""Which corrected rule the report speaks about, the first of them that the results hold."""
NO_ENCODER = NO_SEED = "none"
UNSEEN = "all but the tested one"
"""The row of the universal encoders that were trained on all degradations but one, each tested on that one."""
LEAST_GAP = 0.05
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
    """

    encoders: tuple[str, ...]
    degradations: tuple[str, ...]
    universal: str | None
    frames: "Mapping[Pair, DataFrame]"

    def has(self, column: str) -> bool:
        """Whether all cells hold that column, without gaps."""
        return all(has_column(cell, column) for cell in self.frames.values())

    def pairs_of(self, *encoders: str) -> list[Pair]:
        """These encoders' cells that have results; without names all rows' of the matrices."""
        return [(e, d) for e in encoders or self.encoders for d in self.degradations if (e, d) in self.frames]

    def matched_pairs(self) -> list[Pair]:
        """The cells of encoders on the degradation that they were trained on."""
        return [(d, d) for d in self.degradations if (d, d) in self.frames]

    def mismatched_pairs(self, *degradations: str) -> list[Pair]:
        """The cells of encoders trained on one other degradation, where the matched one has results, too."""
        tested = [d for d in degradations or self.degradations if (d, d) in self.frames]
        trained = [e for e in self.encoders if e not in (self.universal, UNSEEN)]
        return [(e, d) for d in tested for e in trained if e != d and (e, d) in self.frames]

    def lost(self, column: str, pair: Pair) -> "Series | None":
        """Per image, how much worse an encoder does than the matched one; None where either is missing.

        Raises:
            UserError: if they were tested on different images.
        """
        encoder, degradation = pair
        if pair not in self.frames or (degradation, degradation) not in self.frames:
            return None
        names = f"the {encoder} and the matched encoder on {degradation}"
        return lost(self.frames[pair], self.frames[degradation, degradation], column, names)

    def matrix(self, values: "Callable[[Pair], Series | Estimate | None]") -> list[list[Estimate]]:
        """Of each (encoder, degradation) that has results an estimate, or the mean of values per image."""
        found = estimated({pair: {"": values(pair)} for pair in self.pairs_of()})
        cells = {pair: row[""] for pair, row in found.items() if isinstance(row[""], Estimate)}
        return [[cells.get((e, d), ABSENT) for d in self.degradations] for e in self.encoders]

    def column(self, column: str, scale: float = 1.0) -> list[list[Estimate]]:
        """The mean of a column, encoders x degradations."""
        return self.matrix(lambda pair: scale * self.frames[pair][column].astype(float))

    def mismatch_losses(self, degradations: Sequence[str]) -> "Series":
        """PSNR lost, one value per image: mean over mismatched encoders, then over degradations."""
        cells = [[self.frames[d, d]["psnr"] - self.frames[pair]["psnr"] for pair in self.mismatched_pairs(d)]
                 for d in degradations]  # fmt: skip
        return over_images([over_images(some) for some in cells if some])

    def avoided(self, encoder: str, degradations: Sequence[str]) -> tuple[Estimate, Estimate, Estimate]:
        """PSNR that mismatched encoders lose, that this one loses, and the part of the loss that it avoids."""
        both = [d for d in degradations if self.mismatched_pairs(d) and (encoder, d) in self.frames]
        mismatched = self.mismatch_losses(both)
        mine = over_images([self.frames[d, d]["psnr"] - self.frames[encoder, d]["psnr"] for d in both])
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
        """The encoders' own predictions."""
        return self.rules[OWN]

    def groups(self) -> dict[str, list[Pair]]:
        """Cells by how their encoder knows the degradation; only those with a matched encoder to be set against."""
        own, held = self.own, {pair for grid in self.rules.values() for pair in grid.frames}
        found = {
            "matched": own.matched_pairs(),
            "mismatched": own.mismatched_pairs(),
            "universal": own.pairs_of(own.universal) if own.universal else [],
            "unseen": own.pairs_of(UNSEEN),
            "no encoder": [(NO_ENCODER, d) for d in own.degradations],
        }
        kept = {name: [(e, d) for e, d in pairs if (e, d) in held and (d, d) in own.frames]
                for name, pairs in found.items()}  # fmt: skip
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
        if not all_three or not ((gap := mean_interval(true)).low > 0 and gap.mean >= LEAST_GAP):
            return ABSENT
        return ratio_of_means(self.gain(rule, OWN, all_three), true)

    def cost(self, rule: str, column: str, pairs: Sequence[Pair]) -> Estimate:
        """The mean of a column in the unit that is shown; absent where a cell lacks it."""
        if not self.rules[rule].has(column):
            return ABSENT
        return mean_interval(self.mean(rule, column, pairs) * QUANTITIES[column].scale)

    def flags(self, rule: str) -> bool:
        """Whether a rule says on which images it distrusts the encoder."""
        return rule == "fused" and self.rules[rule].has("distrusted")

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
        comparisons: corrected starts beside controls of equal mean FLOPs, of "matched" and "mismatched" encoders.
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

    @property
    def seed(self) -> str:
        """The first seed, where there are several."""
        return next(iter(self.by_seed)) if len(self.by_seed) > 1 else ""


def read(results: "StudyResults") -> Robustness:
    """Everything that the report needs, from the rows.

    Raises:
        UserError: without the axes encoder and degradation, or with others of several values that it cannot tell apart.
    """
    require_axes(results, (ENCODER, DEGRADATION), optional=(VARIANCE, SEED), alone=True)
    rows = results.frame.assign(variance_ratio=results.frame["s2"] / results.frame["var_hat"])
    labels = results.axes.get(VARIANCE, [])
    seeds = [seed for seed in results.axes.get(SEED, []) if seed != NO_SEED] or [""]

    def grid(rule: str, seed: str = "") -> Grid:
        return _grid(results.axes, rows, rule, seed)

    by_seed = {seed: grid(OWN, seed) for seed in seeds}
    own = grid(OWN) if len(seeds) > 1 else by_seed[seeds[0]]
    remedy = None
    if OWN in labels and (others := [rule for rule in labels if rule not in (OWN, TRUE, *CONTROLS)]):
        last = [TRUE] if TRUE in labels else []
        rules = {OWN: by_seed[seeds[0]]} | {rule: grid(rule, seeds[0]) for rule in (*others, *last)}
        remedy = Remedy(rules, next((rule for rule in LEADS if rule in others), others[0]))
    evidence = results.evidence.get(EVIDENCE)
    likeness = None
    if evidence is not None and len({*evidence["names"]} & {*results.axes[DEGRADATION]}) > 1:
        likeness = likeness_of(own.frames, evidence)
    controls = {control: grid(name, seeds[0]).frames for control, name in CONTROL_NAMES.items() if name in labels}
    compared: dict[str, list[Comparison]] = {"matched": [], "mismatched": []}
    fused = remedy.rules.get(LEADS[0]) if remedy is not None else None
    for (e, d), cell in fused.frames.items() if fused is not None else ():
        if mine := {control: frames[e, d] for control, frames in controls.items() if (e, d) in frames}:
            name = readable(d) + ("" if e == d else f" by the {readable(e)} encoder")
            compared["matched" if e == d else "mismatched"].append(Comparison(name, cell, mine))
    device = str(results.provenance.get("device") or "")
    return Robustness(own, by_seed, remedy, compared, likeness, results.examples, device)


def _grid(axes: Mapping[str, Sequence[str]], rows: "DataFrame", rule: str, seed: str) -> Grid:
    """The cells of one start rule, of one training seed or ("") the mean over all."""
    others = [label for label in axes.get(VARIANCE, ()) if label not in (TRUE, *CONTROLS)]
    if rule in axes.get(VARIANCE, ()):
        rows = rows[rows[VARIANCE] == rule]
    elif len(others) == 1:
        rows = rows[rows[VARIANCE] == others[0]]  # the user has chosen another rule for all cells
    if seed:
        rows = rows[rows[SEED].isin([seed, NO_SEED])]
    degradations = tuple(axes[DEGRADATION])
    left_out = {f"all but {degradation}": degradation for degradation in degradations}
    frames = {}
    for key, cell in rows.groupby([ENCODER, DEGRADATION], observed=True):
        label, degradation = map(str, key)
        # an encoder that was trained on this degradation, too, has nothing to generalise to
        if left_out.get(label, degradation) == degradation:
            frames[UNSEEN if label in left_out else label, degradation] = _by_image(cell)
    encoders = [label for label in axes[ENCODER] if label != NO_ENCODER and label not in left_out]
    universals = [label for label in encoders if label not in degradations]
    unseen = [UNSEEN] if any(encoder == UNSEEN for encoder, _ in frames) else []
    return Grid((*encoders, *unseen), degradations, universals[-1] if universals else None, frames)


def _by_image(rows: "DataFrame") -> "DataFrame":
    """One row per image: means over the seeds, and the first seed's of what is no number."""
    if rows["image_id"].is_unique:
        return rows.set_index("image_id").sort_index()
    means = rows.groupby("image_id").mean(numeric_only=True)
    first = rows.drop_duplicates("image_id").set_index("image_id").sort_index()
    return first.assign(**{str(column): means[column] for column in means})


def over_pairs(grid: Grid, column: str, pairs: Sequence[Pair]) -> Estimate:
    """The mean of a column over these pairs, image by image; absent without pairs."""
    return mean_over(grid.frames[pair][column] for pair in pairs)
