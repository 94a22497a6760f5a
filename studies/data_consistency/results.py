"""Rows of the data-consistency study as cells by degradation and guidance scale.

Differences are paired with reverse diffusion from the same start without guidance, image by image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studies._rows import difference, log_crossing, put
from workbench.config import UserError
from workbench.metrics import Estimate

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

UNGUIDED = "no_guidance"


@dataclass(frozen=True)
class Guidance:
    """One degradation's cells, each with one row per image, indexed by image id.

    Attributes:
        unguided: without guidance.
        guided: guidance scale, ascending -> rows.
    """

    unguided: "DataFrame"
    guided: "Mapping[float, DataFrame]"

    def gain(self, scale: float, column: str = "psnr") -> "Series":
        """By how much guidance raises a column, image by image."""
        return difference(self.guided[scale], self.unguided, column, "guided and unguided chains")

    @property
    def best(self) -> float:
        """The scale of the highest mean PSNR on these test images."""
        return max(self.guided, key=lambda scale: float(self.guided[scale]["psnr"].mean()))

    @property
    def at_end(self) -> bool:
        """Whether the best scale is an end of the sweep."""
        return self.best in (min(self.guided), max(self.guided))

    def helps_until(self) -> Estimate | None:
        """The scale from the best on at which guidance is no better than none; None where it still is at the last."""
        scales = [scale for scale in self.guided if scale >= self.best]
        return log_crossing(scales, [-self.gain(scale) for scale in scales])

    def fits_noise_from(self) -> Estimate | None:
        """The scale at which the mean residual falls to the noise's; None where it stays above it."""
        return log_crossing(list(self.guided), [1 - cell["residual_ratio"] for cell in self.guided.values()])


def read(results: "StudyResults") -> dict[str, Guidance]:
    """The cells of each degradation.

    Raises:
        UserError: for a degradation without an unguided cell, or without a guided one.
    """
    found = {}
    for degradation, rows in results.frame.groupby("degradation", sort=False):
        cells: dict[str, DataFrame] = {}
        for (label, _), cell in rows.groupby(["guidance", "cell"], observed=True):
            put(cells, str(label), cell.set_index("image_id").sort_index(), f"guidance {label} on {degradation}")
        unguided = cells.pop(UNGUIDED, None)
        if unguided is None or not cells:
            raise UserError(f"{degradation} needs cells with and without guidance")
        found[str(degradation)] = Guidance(unguided, {scale: cells[str(scale)] for scale in sorted(map(float, cells))})
    return found
