"""The page of the data-consistency study: quality and residual against the guidance scale."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from studies._rows import has_column, intervals, means, means_table, over_images, table
from studies.data_consistency.results import Guidance
from workbench.metrics import Estimate, mean_interval
from workbench.reporting import (
    QUANTITIES,
    Line,
    MainFigure,
    Section,
    Words,
    curves,
    number,
    readable,
    side_by_side,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))
Found = Mapping[str, Guidance]


def answer(found: Found) -> list[str]:
    """What guidance gains, where it stops helping, and where it fits noise."""
    gains = {name: g.gain(g.best) for name, g in found.items()}
    ends = {name: end for name, g in found.items() if (end := g.helps_until()) is not None}
    fits = {name: scale for name, g in found.items() if (scale := g.fits_noise_from()) is not None}
    most = max(gains, key=lambda name: float(gains[name].mean()))
    return WORDS.sentences(
        gain=mean_interval(over_images(list(gains.values()))),
        most=(most, mean_interval(gains[most])) if len(gains) > 1 else None,
        ends=_earliest(ends),
        fits=_earliest(fits),
        open_ends=[name for name, g in found.items() if g.at_end],
    )


def main_figure(found: Found) -> MainFigure:
    """PSNR that guidance gains, against its scale."""
    caption = "PSNR gained over the same starts without guidance, paired by image, against the guidance scale."
    return MainFigure(_gain(found, "psnr"), "PSNR gained by guidance against its scale, per degradation", caption)


def quality_section(found: Found) -> Section | None:
    """What guidance changes of the other qualities; None without any."""
    cells = [cell for g in found.values() for cell in (g.unguided, *g.guided.values())]
    shown = [column for column in ("ssim", "ssim_valid", "lpips") if all(has_column(cell, column) for cell in cells)]
    figures = [
        svg(_gain(found, column), f"{QUANTITIES[column].label} against the guidance scale, per degradation")
        for column in shown
    ]
    return WORDS.section("quality", figures=side_by_side(figures)) if figures else None


def residual_section(found: Found) -> Section:
    """How far restored images contradict their measurements."""
    panels = {
        name: {
            "guided": Line(list(g.guided), means(list(g.guided.values()), "residual_ratio")),
            "no guidance": Line(list(g.guided), means([g.unguided], "residual_ratio") * len(g.guided)),
        }
        for name, g in found.items()
    }
    figure = curves(
        panels, title="Residual against the guidance scale", x_label="guidance scale", y_label="residual / noise std",
        log_x=True, y_marks={"noise alone": 1},
    )  # fmt: skip
    rows = {}
    for name, g in found.items():
        at_best = g.guided[g.best]
        residuals = g.unguided["residual_ratio"], at_best["residual_ratio"]
        fitted = 100 * (residuals[1] < 1)
        until, noise = g.helps_until(), g.fits_noise_from()
        gain, without, with_it, below = intervals([g.gain(g.best), *residuals, fitted])
        rows[readable(name)] = {
            "best scale": g.best,
            "PSNR above no guidance, dB": gain,
            "residual, no guidance": without,
            "residual at best": with_it,
            "images below 1, %": below,
            "helps until scale": until or "\N{EN DASH}",
            "fits noise from scale": noise or "\N{EN DASH}",
        }
    decimals = {"images below 1, %": 0, "helps until scale": 1, "fits noise from scale": 1}
    return WORDS.section(
        "residual",
        figure=svg(figure, "Residual over noise against guidance scale, per degradation"),
        table=table(rows, "degradation", decimals),
    )


def table_section(found: Found) -> Section:
    """All means."""
    cells = {
        f"{readable(name)}, {label}": cell
        for name, g in found.items()
        for label, cell in {"no guidance": g.unguided, **{number(s, 2): cell for s, cell in g.guided.items()}}.items()
    }
    columns = ("psnr", "ssim", "ssim_valid", "lpips", "residual_ratio", "nfe", "seconds")
    return Section("Every setting", means_table(cells, columns, "degradation, guidance scale"), folded=True)


SECTIONS = (residual_section, quality_section, table_section)
"""The page's sections, in order."""


def _earliest(scales: Mapping[str, Estimate]) -> tuple[str, Estimate] | None:
    """The degradation where the scale is smallest, and that scale; None without any."""
    return min(scales.items(), key=lambda item: item[1].mean, default=None)


def _gain(found: Found, column: str) -> "Figure":
    quantity = QUANTITIES[column]
    panels = {
        name: {"guided": Line(list(g.guided), intervals([g.gain(scale, column) for scale in g.guided]))}
        for name, g in found.items()
    }
    return curves(
        panels, title=f"{quantity.label} above no guidance", x_label="guidance scale", y_label=quantity.title,
        log_x=True, zero=True,
    )  # fmt: skip
