"""Rows of the few-steps study, by degradation and method."""

from collections.abc import Mapping
from dataclasses import dataclass

from pandas import DataFrame, Series

from studies._rows import cells_by, difference, lost, over_images, require_axes
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.reporting import readable

Method = str
"""A solver and the steps of its chain, as the tables name them."""


@dataclass(frozen=True)
class Methods:
    """Rows by image id of every degradation and method; the first method is the one that others are compared with."""

    cells: Mapping[str, Mapping[Method, DataFrame]]

    @property
    def names(self) -> list[Method]:
        """The methods, the first one first."""
        return list(next(iter(self.cells.values())))

    def mean(self, method: Method, column: str) -> Series:
        """A column averaged over the degradations: one value per image."""
        return over_images([own[method][column] for own in self.cells.values()])

    def gain(self, method: Method, column: str) -> Series:
        """By how much a method is better than the first one, averaged over the degradations: one value per image."""
        first = self.names[0]
        return over_images([lost(own[first], own[method], column, name) for name, own in self.cells.items()])

    def diffusion(self, method: Method, degradation: str) -> Series:
        """By how many dB the restored image exceeds the decoded estimate, one value per image."""
        rows = self.cells[degradation][method]
        gained: Series = rows["psnr"] - rows["psnr_decoded"]
        return gained

    def psnr_gain(self, method: Method, degradation: str) -> Series:
        """By how many dB a method exceeds the first one on a degradation, one value per image."""
        own = self.cells[degradation]
        return difference(own[method], own[self.names[0]], "psnr", degradation)


def read(results: StudyResults) -> Methods:
    """The cells of each degradation.

    Raises:
        UserError: unless every degradation has the same methods, or if they were tested on different images.
    """
    require_axes(results, ("share", "steps", "degradation"), alone=True)
    found = {
        str(degradation): cells_by(rows, _name)
        for degradation, rows in results.frame.groupby("degradation", sort=False)
    }
    first = next(iter(found.values()))
    if any(own.keys() != first.keys() for own in found.values()):
        raise UserError("every degradation needs the same solvers and steps")
    return Methods(found)


def _name(row: Series) -> Method:
    share = str(row["share"])  # of MMPS; in its place the label of a solver that has none
    try:
        solver = f"MMPS, share {float(share):g}"
    except ValueError:
        solver = "MMPS" if share == "None" else readable(share)
    return f"{solver}, {row['steps']} steps"
