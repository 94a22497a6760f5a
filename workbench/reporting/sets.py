"""The page's section on figures of all images of a cell together: FID and KID."""

import math
from typing import TYPE_CHECKING, Any

from workbench.metrics import Estimate
from workbench.reporting.labels import QUANTITIES, Quantity, readable
from workbench.reporting.page import Section, paragraph
from workbench.reporting.tables import html_table

if TYPE_CHECKING:
    from workbench.experiments.results import StudyResults

NOTE = (
    "How far the set of restored images is from the set of the same images, clean: low does not mean that each image "
    "is like its own. With fewer images FID is higher, so only values of the same number of images can be compared. "
    "KID has an interval over images, FID has none."
)


def set_section(results: "StudyResults") -> Section | None:
    """A table with one row per cell; None if there are no such metrics."""
    import pandas as pd

    if not results.sets:
        return None
    names = list(dict.fromkeys(name for figures in results.sets.values() for name in figures))
    labels = results.frame.drop_duplicates("cell").set_index("cell")[list(results.axes)]
    rows = {
        ", ".join(dict.fromkeys(readable(str(label)) for label in labels.loc[cell])): {
            QUANTITIES.get(name, Quantity(name)).title: _estimate(name, figures.get(name)) for name in names
        }
        for cell, figures in results.sets.items()
    }
    decimals = {quantity.title: quantity.decimals for quantity in QUANTITIES.values()}
    table = html_table(pd.DataFrame.from_dict(rows, orient="index"), decimals)
    return Section("Sets of images: FID and KID", table + paragraph(NOTE))


def _estimate(name: str, figure: dict[str, Any] | None) -> Estimate:
    if figure is None:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean, low, high = (math.nan if figure[key] is None else float(figure[key]) for key in ("mean", "low", "high"))
    return Estimate(mean, low, high, figure["num_images"]).scaled(QUANTITIES.get(name, Quantity(name)).scale)
