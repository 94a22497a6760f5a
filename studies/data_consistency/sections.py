"""The page of the data-consistency study: quality and residual against the guidance scale."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from studies._rows import has_column, intervals, mean_over, table
from studies.data_consistency.results import Guidance
from workbench.metrics import mean_interval, mean_intervals
from workbench.reporting import QUANTITIES, Line, MainFigure, Section, Words, curves, readable, side_by_side, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))
DASH = "\N{EN DASH}"
Found = Mapping[str, Guidance]


def answer(found: Found) -> list[str]:
    """What guidance gains, where it stops helping, and where it fits noise."""
    gains = {name: one.gains()[one.best] for name, one in found.items()}
    most = max(gains, key=lambda name: float(gains[name].mean()))
    ends = [(name, at) for name, one in found.items() if (at := one.helps_until())]
    fits = [(name, at) for name, one in found.items() if (at := one.fits_noise_from())]
    return WORDS.sentences(
        gain=mean_over(gains.values()),
        most=(most, mean_interval(gains[most])) if len(gains) > 1 else None,
        ends=min(ends, key=lambda end: end[1].mean, default=None),
        fits=min(fits, key=lambda fit: fit[1].mean, default=None),
        open_ends=[name for name, one in found.items() if one.at_end],
    )


def main_figure(found: Found) -> MainFigure:
    """PSNR that guidance gains, against its scale."""
    caption = "PSNR gained over the same starts without guidance, paired by image, against the guidance scale."
    return MainFigure(_gain(found, "psnr"), "PSNR gained by guidance against its scale, per degradation", caption)


def residual_section(found: Found) -> Section:
    """How far restored images contradict their measurements."""
    panels, rows = {}, {}
    for name, one in found.items():
        unguided, *guided = mean_intervals(one.residuals)
        panels[name] = {"guided": Line(one.scales, guided), "no guidance": Line(one.scales, [unguided] * len(guided))}
        gain, fitted = intervals([one.gains()[one.best], 100 * (one.residuals[one.best] < 1)])
        rows[readable(name)] = {
            "best scale": one.best,
            "PSNR above no guidance, dB": gain,
            "residual, no guidance": unguided,
            "residual at best": guided[one.scales.index(one.best)],
            "images below 1, %": fitted,
            "helps until scale": one.helps_until() or DASH,
            "fits noise from scale": one.fits_noise_from() or DASH,
        }
    figure = curves(
        panels, title="Residual against the guidance scale", x_label="guidance scale", y_label="residual / noise std",
        log_x=True, y_marks={"noise alone": 1},
    )  # fmt: skip
    return WORDS.section(
        "residual",
        figure=svg(figure, "Residual over noise against guidance scale, per degradation"),
        table=table(rows, "degradation", {"images below 1, %": 0, "helps until scale": 1, "fits noise from scale": 1}),
    )


def quality_section(found: Found) -> Section | None:
    """What guidance changes of the other qualities; None without any."""
    cells = [cell for one in found.values() for cell in one.cells.values()]
    figures = [
        svg(_gain(found, column), f"{QUANTITIES[column].label} against the guidance scale, per degradation")
        for column in ("ssim", "ssim_valid", "lpips")
        if all(has_column(cell, column) for cell in cells)
    ]
    return WORDS.section("quality", figures=side_by_side(figures)) if figures else None


def _gain(found: Found, column: str) -> "Figure":
    panels = {name: {"guided": Line(one.scales, mean_intervals(one.gains(column)))} for name, one in found.items()}
    return curves(
        panels, title=f"{QUANTITIES[column].label} above no guidance", x_label="guidance scale",
        y_label=QUANTITIES[column].title, log_x=True, zero=True,
    )  # fmt: skip
