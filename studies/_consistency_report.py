"""What the data-consistency study says: quality and residual against the guidance scale, under each forward model.

Differences are paired with reverse diffusion from the same start without guidance, image by image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studies._rows import difference, has_column, put
from workbench.config import UserError
from workbench.metrics import Estimate, first_crossing, mean_interval
from workbench.reporting import (
    QUANTITIES,
    Line,
    MainFigure,
    Section,
    column_estimate,
    curves,
    html_table,
    listed,
    number,
    paragraph,
    readable,
    side_by_side,
    spoken,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

    from workbench.results import StudyResults

UNGUIDED = "no_guidance"
_LABEL = "no guidance"


@dataclass(frozen=True)
class Guidance:
    """One degradation's cells, each with one row per image, indexed by image id.

    Attributes:
        unguided: without guidance.
        guided: guidance scale, ascending -> rows.
    """

    unguided: "DataFrame"
    guided: "dict[float, DataFrame]"

    def gain(self, scale: float, column: str = "psnr") -> "Series":
        """By how much guidance raises a column, image by image."""
        return difference(self.guided[scale], self.unguided, column, "guided and unguided chains")

    @property
    def best(self) -> float:
        """The scale of the highest mean PSNR."""
        return max(self.guided, key=lambda scale: float(self.guided[scale]["psnr"].mean()))

    def helps_until(self) -> Estimate | None:
        """The scale from the best on at which guidance is no better than none; None where it still is at the last.

        Interpolated in the logarithm of the scale.
        """
        return self._crossing([s for s in self.guided if s >= self.best], lambda scale: -self.gain(scale))

    def fits_noise_from(self) -> Estimate | None:
        """The scale at which the mean residual falls to the noise's; None where it stays above it."""
        return self._crossing(list(self.guided), lambda scale: 1 - self.guided[scale]["residual_ratio"])

    def _crossing(self, scales: "list[float]", values: "Callable[[float], Series]") -> Estimate | None:
        """The scale at which the mean of `values` first reaches 0."""
        rows = [values(scale) for scale in scales]
        if not any(row.mean() >= 0 for row in rows):
            return None
        if len(scales) < 2 or rows[0].mean() >= 0:
            return Estimate(scales[0], np.nan, np.nan, len(rows[0]))
        found = first_crossing(np.log2(scales), np.stack(rows), 0.0)
        return Estimate(2**found.mean, 2**found.low, 2**found.high, found.num_images)


def read_guidance(results: "StudyResults") -> dict[str, Guidance]:
    """The cells of each degradation.

    Raises:
        UserError: for a degradation without an unguided cell, or without a guided one.
    """
    found = {}
    for degradation, rows in results.frame.groupby("degradation", sort=False):
        cells: dict[str, DataFrame] = {}
        for _, cell in rows.groupby("cell"):
            label = str(cell["guidance"].iloc[0])
            put(cells, label, cell.set_index("image_id").sort_index(), f"guidance {label} on {degradation}")
        unguided = cells.pop(UNGUIDED, None)
        if unguided is None or not cells:
            raise UserError(f"{degradation} needs cells with and without guidance")
        guided = {float(label): cell for label, cell in cells.items()}
        found[str(degradation)] = Guidance(unguided, dict(sorted(guided.items())))
    return found


def answer(results: "StudyResults") -> list[str]:
    """What guidance gains at best, where it stops helping, and where it fits noise."""
    found = read_guidance(results)
    return [_best_sentence(found), _limit_sentence(found), _noise_sentence(found)]


def _best_sentence(found: dict[str, Guidance]) -> str:
    parts = [
        f"{spoken(mean_interval(g.gain(g.best)), 2)} dB on {readable(name)} (scale {g.best:g}{_edge(g)})"
        for name, g in found.items()
    ]
    return f"At the scale that is best on these images, guidance changes PSNR by {listed(parts)}."


def _edge(guidance: Guidance) -> str:
    """A warning where the best scale is an end of the sweep."""
    return ", an end of the sweep" if guidance.best in (min(guidance.guided), max(guidance.guided)) else ""


def _limit_sentence(found: dict[str, Guidance]) -> str:
    limits = {name: g.helps_until() for name, g in found.items()}
    ended = [f"{spoken(limit, 1)} on {readable(name)}" for name, limit in limits.items() if limit is not None]
    still = [readable(name) for name, limit in limits.items() if limit is None]
    said = [f"Guidance is worse than none beyond a scale of {listed(ended)}."] if ended else []
    said += [f"It still helps at the largest scale on {listed(still)}."] if still else []
    return " ".join(said)


def _noise_sentence(found: dict[str, Guidance]) -> str:
    fits = {name: g.fits_noise_from() for name, g in found.items()}
    begins = [f"{spoken(scale, 1)} on {readable(name)}" for name, scale in fits.items() if scale is not None]
    never = [readable(name) for name, scale in fits.items() if scale is None]
    text = "The mean residual falls to the noise's, so that noise is fitted, at a scale of"
    said = [f"{text} {listed(begins)}."] if begins else []
    said += [f"It stays above the noise at every scale on {listed(never)}."] if never else []
    return " ".join(said)


def quality_section(results: "StudyResults") -> Section:
    """What guidance gains at each scale."""
    found = read_guidance(results)
    figures = [svg(_gain_figure(found, "psnr"), "PSNR gained by guidance against its scale, for each degradation")]
    figures += [
        svg(_gain_figure(found, column), f"{QUANTITIES[column].label} against the guidance scale, each degradation")
        for column in ("ssim", "ssim_valid", "lpips")
        if all(has_column(cell, column) for g in found.values() for cell in (g.unguided, *g.guided.values()))
    ]
    text = paragraph(
        "Each chain begins at the same matched start; without guidance it never looks at the measurement again. "
        "Differences are paired, image by image: above 0, a higher figure than without guidance (for LPIPS less is "
        "better)."
    )
    return Section("Where does guidance help?", text + side_by_side(figures))


def _gain_figure(found: dict[str, Guidance], column: str) -> "Figure":
    quantity = QUANTITIES[column]
    panels = {
        name: {"guided": Line(list(g.guided), [mean_interval(g.gain(scale, column)) for scale in g.guided])}
        for name, g in found.items()
    }
    return curves(
        panels, title=f"{quantity.label} above no guidance", x_label="guidance scale", y_label=quantity.title,
        log_x=True, zero=True,
    )  # fmt: skip


def residual_section(results: "StudyResults") -> Section:
    """How far restored images contradict their measurements."""
    import pandas as pd

    found = read_guidance(results)
    panels = {
        name: {
            "guided": Line(list(g.guided), [column_estimate(cell, "residual_ratio") for cell in g.guided.values()]),
            _LABEL: Line(list(g.guided), [column_estimate(g.unguided, "residual_ratio")] * len(g.guided)),
        }
        for name, g in found.items()
    }
    figure = curves(
        panels, title="Residual against the guidance scale", x_label="guidance scale", y_label="residual / noise std",
        log_x=True, y_marks={"noise alone": 1},
    )  # fmt: skip
    rows = {
        readable(name): [
            g.best,
            mean_interval(g.gain(g.best)),
            column_estimate(g.unguided, "residual_ratio"),
            column_estimate(g.guided[g.best], "residual_ratio"),
            mean_interval(100 * (g.guided[g.best]["residual_ratio"] < 1)),
        ]
        for name, g in found.items()
    }
    columns = [
        "best scale", "PSNR above no guidance, dB", "residual, no guidance", "residual at best", "images below 1, %",
    ]  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "degradation"
    text = paragraph(
        "The rms residual over observed entries, in units of the noise's standard deviation. The true image leaves 1; "
        "a residual below it means that the chain has fitted noise, one far above it that the measurement still "
        "contradicts the image. The best scale is the one with the highest mean PSNR on these test images."
    )
    figures = side_by_side([svg(figure, "Residual over noise against guidance scale, for each degradation")])
    return Section("Does guidance fit the noise?", text + figures + html_table(table, {"images below 1, %": 0}))


def table_section(results: "StudyResults") -> Section:
    """All means."""
    import pandas as pd

    found = read_guidance(results)
    shown = [
        column
        for column in ("psnr", "ssim", "ssim_valid", "lpips", "residual_ratio", "nfe", "seconds")
        if all(has_column(cell, column) for g in found.values() for cell in (g.unguided, *g.guided.values()))
    ]
    rows = {
        f"{readable(name)}, {label}": [column_estimate(cell, column) for column in shown]
        for name, g in found.items()
        for label, cell in ((_LABEL, g.unguided), *((number(scale, 2), cell) for scale, cell in g.guided.items()))
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[QUANTITIES[column].title for column in shown])
    table.index.name = "degradation, guidance scale"
    decimals = {QUANTITIES[column].title: QUANTITIES[column].decimals for column in shown}
    return Section("Every setting", html_table(table, decimals))


SECTIONS = (quality_section, residual_section, table_section)
"""The page's sections, in order."""


def main_figure(results: "StudyResults") -> MainFigure:
    """PSNR against the guidance scale."""
    return MainFigure(_gain_figure(read_guidance(results), "psnr"), "PSNR against the guidance scale")
