"""The robustness study's results as a grid: severity encoders x the degradations tested on, one row per image.

A rule of the start is the variance that it matches ("encoder": the encoder's own prediction). A grid holds one rule's
cells; an encoder that was trained with several seeds is the mean over them, image by image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studies._equal_cost import LABELS as CONTROLS
from studies._rows import ABSENT, has_column, lost, over_images
from workbench.config import UserError
from workbench.metrics import Estimate, mean_interval

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

Pair = tuple[str, str]
"""(encoder trained on, degradation tested on)"""

ENCODER, DEGRADATION, VARIANCE, SEED = "encoder", "degradation", "variance", "seed"
"""The axes that the report knows; the last two may be absent."""
OWN, TRUE = "encoder", "true"
"""The rules that match the variance which the encoder predicts itself, and the true one, which only a study knows."""
NO_ENCODER = NO_SEED = "none"
UNSEEN = "all but the tested one"
"""The row of the universal encoders that were trained on all degradations but one, each tested on that one."""
_ALL_BUT = "all but "


@dataclass(frozen=True)
class Grid:
    """One start rule's results.

    Attributes:
        encoders: the rows of matrices: encoders of one degradation, of mixtures, `UNSEEN`; without "none".
        degradations: the columns.
        universal: the encoder trained on a mixture of the degradations; None where there is none.
        frames: the cells that have results, one row an image, indexed by image id in its order; the column
            `variance_ratio` is s2 / var_hat.
        seeds: the training seeds that each cell is the mean over.
    """

    encoders: tuple[str, ...]
    degradations: tuple[str, ...]
    universal: str | None
    frames: "Mapping[Pair, DataFrame]"
    seeds: Mapping[Pair, tuple[str, ...]]

    def cell(self, encoder: str, degradation: str) -> "DataFrame | None":
        """One row an image; None where the study has no such cell."""
        return self.frames.get((encoder, degradation))

    def has(self, column: str) -> bool:
        """Whether all cells hold that column, without gaps."""
        return all(has_column(cell, column) for cell in self.frames.values())

    def rows(self) -> "DataFrame":
        """All cells in one table, with the columns encoder, degradation and image_id."""
        import pandas as pd

        return pd.concat(cell.reset_index() for cell in self.frames.values()).reset_index(drop=True)

    def mismatched(self, degradation: str) -> list[str]:
        """The encoders trained on one other degradation, where both they and the matched encoder have results."""
        if self.cell(degradation, degradation) is None:
            return []
        others = [e for e in self.encoders if e not in (degradation, self.universal, UNSEEN)]
        return [e for e in others if self.cell(e, degradation) is not None]

    def mismatched_pairs(self) -> list[Pair]:
        return [(encoder, degradation) for degradation in self.degradations for encoder in self.mismatched(degradation)]

    def matched_pairs(self) -> list[Pair]:
        return self.pairs_of(*self.degradations, where=lambda encoder, degradation: encoder == degradation)

    def pairs_of(self, *encoders: str, where: Callable[[str, str], bool] = lambda *_: True) -> list[Pair]:
        """These encoders' cells that have results."""
        pairs = [(encoder, degradation) for encoder in encoders for degradation in self.degradations]
        return [pair for pair in pairs if pair in self.frames and where(*pair)]

    def matrix(self, estimate: "Callable[[DataFrame], Estimate]") -> list[list[Estimate]]:
        """An estimate for each cell, encoders x degradations."""
        return [
            [ABSENT if (cell := self.cell(e, d)) is None else estimate(cell) for d in self.degradations]
            for e in self.encoders
        ]

    def lost(self, column: str, encoder: str, degradation: str) -> "Series | None":
        """Per image, how much worse `encoder` does than the matched one; None where either is missing.

        Raises:
            UserError: if they were tested on different images.
        """
        mine, matched = self.cell(encoder, degradation), self.cell(degradation, degradation)
        if mine is None or matched is None:
            return None
        return lost(mine, matched, column, names=f"the {encoder} and the matched encoder on {degradation}")

    def loss(self, column: str, encoder: str, degradation: str) -> Estimate:
        """The mean of `lost`."""
        lost = self.lost(column, encoder, degradation)
        return ABSENT if lost is None else mean_interval(lost)

    def mismatch_losses(self, degradations: Sequence[str]) -> "Series":
        """PSNR lost, one value per image: mean over mismatched encoders, then over degradations."""
        losses = []
        for degradation in degradations:
            cells = [self.lost("psnr", e, degradation) for e in self.mismatched(degradation)]
            if cells:
                losses.append(over_images([cell for cell in cells if cell is not None]))
        return over_images(losses)


def read_grid(results: "StudyResults", rule: str = OWN, seed: str | None = None) -> Grid:
    """The cells of one start rule, of one training seed or (None) the mean over all.

    Results without an axis `variance` know one rule, and all their rows are its.

    Raises:
        UserError: without the axes encoder and degradation, or with others of several values that it cannot tell apart.
    """
    if ENCODER not in results.axes or DEGRADATION not in results.axes:
        raise UserError(
            f"this report needs two axes, encoder and degradation; the results have: {', '.join(results.axes)}"
        )
    rows = results.frame.assign(variance_ratio=results.frame["s2"] / results.frame["var_hat"])
    for axis, labels in results.axes.items():
        if axis == VARIANCE and rule in labels:
            rows = rows[rows[VARIANCE] == rule]
        elif (
            axis == VARIANCE
            and (others := [label for label in labels if label not in (TRUE, *CONTROLS)])
            and len(others) == 1
        ):
            rows = rows[rows[VARIANCE] == others[0]]  # the user has chosen another rule for all cells
        elif axis not in (ENCODER, DEGRADATION, SEED) and len(labels) > 1:
            raise UserError(
                f"this report cannot show several values of {axis} ({', '.join(labels)}) side by side: give it one"
            )
    if SEED in results.axes:
        # in the seeds' order, so that what cannot be averaged is the first seed's
        rows = rows.iloc[rows[SEED].map(results.axes[SEED].index).argsort(kind="stable")]
        rows = rows if seed is None else rows[rows[SEED].isin([seed, NO_SEED])]
    return _grid(tuple(results.axes[ENCODER]), tuple(results.axes[DEGRADATION]), rows)


def seeds_of(results: "StudyResults") -> list[str]:
    """The encoders' training seeds, in order; empty where the results do not tell them apart."""
    return [seed for seed in results.axes.get(SEED, []) if seed != NO_SEED]


def first_seed(results: "StudyResults") -> str | None:
    """The seed that all encoders and rules have."""
    return next(iter(seeds_of(results)), None)


def _grid(labels: tuple[str, ...], degradations: tuple[str, ...], rows: "DataFrame") -> Grid:
    left_out = {f"{_ALL_BUT}{degradation}": degradation for degradation in degradations}
    frames, seeds = {}, {}
    for key, cell in rows.groupby([ENCODER, DEGRADATION], observed=True):
        label, degradation = map(str, key)
        if left_out.get(label, degradation) != degradation:
            continue  # it was trained on this degradation, so it has nothing to generalise to
        pair = (UNSEEN if label in left_out else label, degradation)
        frames[pair] = _by_image(cell)
        seeds[pair] = tuple(dict.fromkeys(cell[SEED])) if SEED in cell else ()
    encoders = [label for label in labels if label != NO_ENCODER and label not in left_out]
    universals = [label for label in encoders if label not in degradations]
    if any(encoder == UNSEEN for encoder, _ in frames):
        encoders.append(UNSEEN)
    return Grid(tuple(encoders), degradations, universals[-1] if universals else None, frames, seeds)


def _by_image(rows: "DataFrame") -> "DataFrame":
    """One row an image: means over the seeds, and the first seed's of what is no number."""
    if rows["image_id"].is_unique:
        return rows.set_index("image_id").sort_index()
    numbers = set(rows.select_dtypes(["number", "bool"]).columns)
    how = {column: "mean" if column in numbers else "first" for column in rows.columns.drop("image_id")}
    means: DataFrame = rows.groupby("image_id").agg(how)
    return means
