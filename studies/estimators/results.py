"""Rows of the estimators study, by degradation and estimator."""

from collections.abc import Mapping
from dataclasses import dataclass

from pandas import DataFrame, Series
from scipy.stats import spearmanr

from studies._rows import cells_by, difference
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults

RESIDUAL, QUICK, TRAINED = "none", "quick", "encoder"
"""The estimators, by their labels."""
ALSO_TRAINED = "unet"
"""The label of a trained encoder with a network of its own."""


@dataclass(frozen=True)
class Estimators:
    """One degradation's rows, by image id, of each estimator."""

    cells: Mapping[str, DataFrame]

    def gain(self, of: str, over: str, column: str = "psnr") -> Series | None:
        """By how much an estimator raises a column, one value per image; None if one of the two is missing."""
        if of not in self.cells or over not in self.cells:
            return None
        return difference(self.cells[of], self.cells[over], column, "the estimators")

    def variance(self, name: str) -> Series:
        """The estimator's own variance of each image: of E(y), that which explains the residual."""
        return self.cells[name]["start_variance" if name == RESIDUAL else "var_hat"]

    def ratio(self, name: str) -> Series:
        """True over predicted variance of each image: 1 on average if it is calibrated, more if over-confident."""
        return self.cells[name]["s2"] / self.variance(name)

    def rank(self, name: str) -> float:
        """Spearman's correlation of the predicted and the true variance."""
        return float(spearmanr(self.variance(name), self.cells[name]["s2"]).statistic)


def read(results: StudyResults) -> dict[str, Estimators]:
    """The cells of each degradation.

    Raises:
        UserError: if cells cannot be told apart, or there is no fitted estimator.
    """
    found = {
        str(degradation): Estimators(cells_by(rows, _name))
        for degradation, rows in results.frame.groupby("degradation", sort=False)
    }
    if not any(QUICK in one.cells for one in found.values()):
        raise UserError("these results hold no estimator of kind quick")
    return found


def _name(row: Series) -> str:
    label = str(row["estimator"])
    return TRAINED if label == ALSO_TRAINED else label
