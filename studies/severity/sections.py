"""Figures and tables of the severity study."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from studies._rows import table
from studies._trivial import trivial_table
from studies.severity.results import Series, SeverityResults
from workbench.metrics import mean_interval, ordering_accuracy, own_ordering_accuracy, spearman_across
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
MAP = "Heat map of true over predicted variance"


def answer(found: SeverityResults) -> list[str]:
    """Order, calibration, trivial predictors, other noise, other degradations."""
    home = found.home
    if home is None:
        return ["These results hold no encoder on the degradation and noise that it was trained with: they cannot say."]
    one = found.series[home]
    share, ratio = one.in_order.mean, one.mean_calibration.mean
    wrong = "over-confident" if ratio > 1 else "under-confident"
    return WORDS.sentences(
        home=home,
        one=one,
        series=found.series,
        order="Yes" if share >= NEARLY_ALWAYS else "Largely" if share >= MOSTLY else "Hardly",
        confidence="calibrated" if 1 / CALIBRATED <= ratio <= CALIBRATED else wrong,
        noise=found.farthest_noise,
        other=found.other_with_least_order,
    )


def main_figure(found: SeverityResults) -> MainFigure:
    """The first calibration map."""
    title, view = next(iter(found.views.items()))
    caption = "Mean over images; above 1 (red) the encoder is over-confident, below 1 (blue) under-confident."
    return MainFigure(_calibration_map(title, view), f"{MAP}, {title}", caption)


def level(found: SeverityResults) -> Section:
    """Prediction and truth at each level."""
    rows = {
        key.name: {
            "true / predicted (1)": one.mean_calibration,
            "rank correlation with the level": spearman_across(one.var_hat, one.columns["severity"]),
            "two images in order, %": one.in_order.scaled(100),
            "one image in order, %": own_ordering_accuracy(one.var_hat).scaled(100),
        }
        for key, one in found.series.items()
    }
    figures = [svg(_level_figure(title, view), f"Lines over the level, {title}") for title, view in found.views.items()]
    return WORDS.section("level", figures=side_by_side(figures), summary=table(rows, "encoder, tested on"))


def calibration(found: SeverityResults) -> Section | None:
    """True over predicted variance at each level, of the views that the main figure does not show."""
    _, *views = found.views.items()
    maps = [svg(_calibration_map(title, view), f"{MAP}, {title}") for title, view in views]
    return WORDS.section("calibration", maps=side_by_side(maps)) if maps else None


def ordering(found: SeverityResults) -> Section:
    """Of two measurements, which is the more degraded?"""
    figures = [
        svg(_ordering_figure(title, view), f"Lines of pairs in order over levels apart, {title}")
        for title, view in found.views.items()
    ]
    return WORDS.section("ordering", folded=True, figures=side_by_side(figures))


def trivial(found: SeverityResults) -> Section:
    """Does the prediction know more of the error than the level, the residual or the variance of y?"""
    tables = {key.name: one.columns for key, one in found.series.items()}
    # at one level the known severity is one number, which ranks nothing
    within = {key: {name: one[name] for name in one if name != "severity"} for key, one in tables.items()}
    within = {key: one for key, one in within.items() if {*one} > {"var_hat", "s2"}}
    return WORDS.section(
        "trivial",
        folded=True,
        whole=trivial_table(tables, "all levels together"),
        within=trivial_table(within, "among images at one level", within=True) if within else "",
    )


def _calibration_map(title: str, view: Mapping[str, Series]) -> "Figure":
    matrix = list(zip(*[one.calibration for one in view.values()], strict=True))
    levels = [f"{level:g}" for level in next(iter(view.values())).levels]
    title = f"True over predicted variance: {title}"
    return heat_map(matrix, levels, list(view), title=title, row_title="level", scale="ratio", span=4)


def _level_figure(title: str, view: Mapping[str, Series]) -> "Figure":
    panels = {
        name: {
            label: Line(one.levels.tolist(), [mean_interval(column) for column in values.T])
            for label, values in (("predicted", one.var_hat), ("true", one.s2))
        }
        for name, one in view.items()
    }
    y_label = "variance of the latent's error, latents' = 1"
    return curves(panels, title=capital(title), x_label="level", y_label=y_label, zero=True)


def _ordering_figure(title: str, view: Mapping[str, Series]) -> "Figure":
    panels: dict[str, dict[str, Line]] = {}
    for panel, score in (("two images", ordering_accuracy), ("one image at two levels", own_ordering_accuracy)):
        panels[panel] = {}
        for name, one in view.items():
            apart = range(1, min(FARTHEST, len(one.levels) - 1) + 1)
            panels[panel][name] = Line(list(apart), [score(one.var_hat, steps).scaled(100) for steps in apart])
    x_label, y_label = "levels apart", "pairs in order, %"
    return curves(panels, title=capital(title), x_label=x_label, y_label=y_label, y_marks={"chance": 50})
