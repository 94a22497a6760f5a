"""Figures and tables of the severity study."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from studies._tables import table
from studies._trivial import trivial_table, trivial_text
from studies.severity.results import Series, SeverityResults, View
from workbench.metrics import Estimate, mean_interval, ordering_accuracy, own_ordering_accuracy
from workbench.reporting import Line, MainFigure, Section, Words, capital, curves, heat_map, side_by_side, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = Words(Path(__file__).with_name("templates"))
NEARLY_ALWAYS, MOSTLY = 0.9, 0.75
"""Shares of pairs in order from which the answer is yes, or largely yes; 0.5 is chance."""
CALIBRATED = 1.25
"""A true variance within this factor of the predicted one, either way, is called calibrated."""
FARTHEST = 5
"""Levels that are farther apart are nearly always in order."""


def answer(found: SeverityResults) -> list[str]:
    """Order, calibration, trivial predictors, other noise, other degradations."""
    home = found.home
    if home is None:
        return ["These results hold no encoder on the degradation and noise that it was trained with: they cannot say."]
    one = found.series[home]
    share, ratio = one.in_order.mean, one.mean_calibration.mean
    return WORDS.sentences(
        home=home,
        one=one,
        series=found.series,
        order="Yes" if share >= NEARLY_ALWAYS else "Largely" if share >= MOSTLY else "Hardly",
        confidence="calibrated"
        if 1 / CALIBRATED <= ratio <= CALIBRATED
        else f"{'over' if ratio > 1 else 'under'}-confident",
        noise=found.farthest_noise,
        other=found.other_with_least_order,
    )


def main_figure(found: SeverityResults) -> MainFigure:
    """The first calibration map."""
    view = found.views[0]
    caption = "Mean over images; above 1 (red) the encoder is over-confident, below 1 (blue) under-confident."
    return MainFigure(_calibration_map(view), f"Heat map of true over predicted variance, {view.title}", caption)


def level(found: SeverityResults) -> Section:
    """Prediction and truth at each level."""
    rows = {key.name: {**one.ranks, "true / predicted (1)": one.mean_calibration} for key, one in found.series.items()}
    caption = "Spearman's correlation of the prediction, and calibration over all levels"
    figures = [svg(_level_figure(view), f"Lines over the level, {view.title}") for view in found.views]
    return WORDS.section("level", figures=side_by_side(figures), ranks=table(rows, 2, caption))


def calibration(found: SeverityResults) -> Section | None:
    """True over predicted variance at each level, of the views that the main figure does not show."""
    maps = [
        svg(_calibration_map(view), f"Heat map of true over predicted variance, {view.title}")
        for view in found.views[1:]
    ]
    return WORDS.section("calibration", maps=side_by_side(maps)) if maps else None


def ordering(found: SeverityResults) -> Section:
    """Of two measurements, which is the more degraded?"""
    rows = {
        key.name: {
            "two images": one.in_order.scaled(100),
            "neighbouring levels": ordering_accuracy(one.var_hat, 1).scaled(100),
            "one image": one.own_in_order.scaled(100),
            "one image, neighbouring levels": own_ordering_accuracy(one.var_hat, 1).scaled(100),
        }
        for key, one in found.series.items()
    }
    figures = [svg(_ordering_figure(view), f"Lines of pairs in order over levels apart, {view.title}")
               for view in found.views]  # fmt: skip
    shares = table(rows, 1, "Pairs in order, %")
    return WORDS.section("ordering", folded=True, figures=side_by_side(figures), shares=shares)


def trivial(found: SeverityResults) -> Section:
    """Does the prediction know more of the error than the level, the residual or the variance of y?"""
    columns = {key.name: one.columns for key, one in found.series.items()}
    tables = trivial_text(columns) + trivial_table(columns, "all levels together")
    held = {key.name: one for key, one in found.series.items() if one.trivial}
    if held:
        # at one level the known severity is one number, which ranks nothing
        within = {name: {**one.columns, "severity": math.nan} for name, one in held.items()}
        tables += trivial_table(within, "among images at one level", within=True)
        rows = {
            name: {
                title: ordering_accuracy(values).scaled(100)
                for title, values in {"encoder (σ̂²)": one.var_hat, **one.oriented_trivial}.items()
            }
            for name, one in held.items()
        }
        caption = "Pairs in order, %; the known severity orders all of them"
        tables += table(rows, 1, caption, "two images at different levels")
    return WORDS.section("trivial", folded=True, tables=tables)


def _calibration_map(view: View) -> "Figure":
    first, *_ = view.columns.values()
    matrix = [list(line) for line in zip(*[one.calibration for one in view.columns.values()], strict=True)]
    return heat_map(
        matrix, [f"{level:g}" for level in first.levels], list(view.columns),
        title=f"True over predicted variance: {view.title}", row_title="level", scale="ratio", span=4,
    )  # fmt: skip


def _level_figure(view: View) -> "Figure":
    panels = {
        name: {
            label: Line(one.levels.tolist(), [mean_interval(column) for column in values.T])
            for label, values in (("predicted", one.var_hat), ("true", one.s2))
        }
        for name, one in view.columns.items()
    }
    return curves(
        panels, title=capital(view.title), x_label="level", y_label="variance of the latent's error, latents' = 1",
        zero=True,
    )  # fmt: skip


def _ordering_figure(view: View) -> "Figure":
    panels = {}
    for panel, score in (("two images", ordering_accuracy), ("one image at two levels", own_ordering_accuracy)):
        panels[panel] = {name: _ordering_line(score, one) for name, one in view.columns.items()}
    return curves(
        panels, title=capital(view.title), x_label="levels apart", y_label="pairs in order, %", y_marks={"chance": 50}
    )


def _ordering_line(score: Callable[..., Estimate], one: Series) -> Line:
    apart = range(1, min(FARTHEST, len(one.levels) - 1) + 1)
    return Line([float(steps) for steps in apart], [score(one.var_hat, steps).scaled(100) for steps in apart])
