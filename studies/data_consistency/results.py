"""Rows of the data-consistency study by guidance scale: everything is paired with the same start without guidance."""

from collections.abc import Mapping
from dataclasses import dataclass

from pandas import DataFrame

from studies._rows import cells_by, log_crossing, paired
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.metrics import Estimate

NO_GUIDANCE, UNGUIDED = "no_guidance", 0.0
"""The chain without guidance: its label, and the scale under which it stands."""
WEIGHED = "mmps"
"""The label of guidance without a scale."""


@dataclass(frozen=True)
class Guidance:
    """One degradation's rows, by image id, by guidance scale, ascending from `UNGUIDED`; and those of MMPS."""

    cells: Mapping[float, DataFrame]
    weighed: DataFrame | None = None

    def gains(self, column: str = "psnr") -> DataFrame:
        """By how much each scale raises a column: one row per image, one column per scale."""
        values = paired(self.cells, column)
        return values.sub(values[UNGUIDED], axis=0).drop(columns=UNGUIDED)

    @property
    def residuals(self) -> DataFrame:
        """Over the noise's standard deviation: one row per image, one column per scale."""
        return paired(self.cells, "residual_ratio")

    @property
    def best(self) -> float:
        """The scale of the highest mean PSNR on these test images."""
        gains = self.gains()
        return float(gains.columns.to_numpy()[gains.mean().argmax()])

    def helps_until(self) -> Estimate | None:
        """The scale from the best on at which guidance is no better than none; None where it still is at the last."""
        return log_crossing(-self.gains().loc[:, self.best :])

    def fits_noise_from(self) -> Estimate | None:
        """The scale at which the mean residual falls to the noise's; None where it stays above it."""
        return log_crossing(1 - self.residuals.drop(columns=UNGUIDED))


def read(results: StudyResults) -> dict[str, Guidance]:
    """The cells of each degradation.

    Raises:
        UserError: for a degradation without an unguided cell, or without a guided one.
    """
    found = {}
    for degradation, rows in results.frame.groupby("degradation", sort=False):
        own = rows["guidance"] == WEIGHED
        weighed = cells_by(rows[own], lambda row: WEIGHED).get(WEIGHED)
        cells = cells_by(rows[~own], lambda row: UNGUIDED if row["guidance"] == NO_GUIDANCE else float(row["guidance"]))
        if UNGUIDED not in cells or len(cells) == 1:
            raise UserError(f"{degradation} needs cells with and without guidance")
        found[str(degradation)] = Guidance(dict(sorted(cells.items())), weighed)
    return found
