"""The page of the data-consistency study: quality and residual against the guidance scale."""

from collections.abc import Mapping
from pathlib import Path

from pandas import DataFrame

from studies._figures import lines
from studies._rows import difference, has_column, intervals, lost, mean_over, table
from studies.data_consistency.results import UNGUIDED, Guidance
from workbench.metrics import mean_interval
from workbench.reporting import QUANTITIES, MainFigure, Section, Words, readable, side_by_side

WORDS = Words(Path(__file__).with_name("templates"))
DASH = "\N{EN DASH}"
Found = Mapping[str, Guidance]


def answer(found: Found) -> list[str]:
    """What guidance gains, where it stops helping, and where it fits noise."""
    gains = {name: one.gains() for name, one in found.items()}
    best = {name: gains[name][one.best] for name, one in found.items()}
    most = max(best, key=lambda name: float(best[name].mean()))
    ends = [(name, at) for name, one in found.items() if (at := one.helps_until())]
    fits = [(name, at) for name, one in found.items() if (at := one.fits_noise_from())]
    return WORDS.sentences(
        gain=mean_over(best.values()),
        most=(most, mean_interval(best[most])) if len(best) > 1 else None,
        ends=min(ends, key=lambda end: end[1].mean, default=None),
        fits=min(fits, key=lambda fit: fit[1].mean, default=None),
        open_ends=[name for name, one in found.items() if one.best in gains[name].columns[[0, -1]]],
    )


def main_figure(found: Found, column: str = "psnr") -> MainFigure:
    """What guidance gains of a quality, against its scale."""
    quantity = QUANTITIES[column]
    return lines(
        {name: {"guided": one.gains(column)} for name, one in found.items()},
        f"{quantity.label} above no guidance", "guidance scale", quantity.title,
        f"{quantity.label} above that of the same starts without guidance, paired by image.", log_x=True, zero=True,
    )  # fmt: skip


def residual_section(found: Found) -> Section:
    """How far restored images contradict their measurements."""
    panels, rows = {}, {}
    for name, one in found.items():
        residuals = one.residuals
        guided, at_best = residuals.drop(columns=UNGUIDED), residuals[one.best]
        panels[name] = {"guided": guided, "no guidance": DataFrame(dict.fromkeys(guided, residuals[UNGUIDED]))}
        gain, without, left, fitted = intervals(
            [one.gains()[one.best], residuals[UNGUIDED], at_best, 100 * (at_best < 1)]
        )
        rows[readable(name)] = {
            "best scale": one.best,
            "PSNR above no guidance, dB": gain,
            "residual, no guidance": without,
            "residual at best": left,
            "images below 1, %": fitted,
            "helps until scale": one.helps_until() or DASH,
            "fits noise from scale": one.fits_noise_from() or DASH,
        }
    figure = lines(
        panels, "Residual against the guidance scale", "guidance scale", "residual / noise std",
        log_x=True, y_marks={"noise alone": 1},
    )  # fmt: skip
    decimals = {"images below 1, %": 0, "helps until scale": 1, "fits noise from scale": 1}
    return WORDS.section("residual", figure=figure.html(), table=table(rows, "degradation", decimals))


def weighed_section(found: Found) -> Section | None:
    """MMPS beside the best scale of each degradation; None without it."""
    rows = {}
    for name, one in found.items():
        if one.weighed is None:
            continue
        best = one.cells[one.best]
        rows[readable(name)] = {
            "best scale": one.best,
            "PSNR gained over the best scale, dB": difference(one.weighed, best, "psnr", name),
            "LPIPS gained": lost(best, one.weighed, "lpips", name) if has_column(best, "lpips") else DASH,
            "residual": one.weighed["residual_ratio"],
            "NFE": one.weighed["nfe"].mean(),
            "NFE at the best scale": best["nfe"].mean(),
            "GFLOP": one.weighed["flops"].mean() / 1e9,
            "GFLOP at the best scale": best["flops"].mean() / 1e9,
        }
    decimals = dict.fromkeys(("NFE", "NFE at the best scale", "GFLOP", "GFLOP at the best scale"), 1)
    return WORDS.section("weighed", table=table(rows, "degradation", decimals)) if rows else None


def quality_section(found: Found) -> Section | None:
    """What guidance changes of the other qualities; None without any."""
    cells = [cell for one in found.values() for cell in one.cells.values()]
    columns = [
        name for name in ("ssim", "ssim_valid", "lpips", "dists") if all(has_column(cell, name) for cell in cells)
    ]
    figures = side_by_side([main_figure(found, column).html() for column in columns])
    qualities = [QUANTITIES[name].label for name in columns]
    return WORDS.section("quality", figures=figures, qualities=qualities) if columns else None
