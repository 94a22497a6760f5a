"""Figures and tables of the severity study."""

import math
from collections.abc import Mapping
from pathlib import Path

from studies._figures import lines
from studies._rows import table
from studies._trivial import trivial_ranks, trivial_table
from studies.severity.results import Key, Series, ratio, views
from workbench.metrics import (
    Estimate,
    mean_interval,
    mean_intervals,
    ordering_accuracy,
    own_ordering_accuracy,
    spearman_across,
)  # fmt: skip
from workbench.reporting import MainFigure, Section, Words, capital, heat_map, side_by_side

WORDS = Words(Path(__file__).with_name("templates"))
NEARLY_ALWAYS, MOSTLY = 0.9, 0.75
"""Shares of pairs in order from which the answer is yes, or largely yes; 0.5 is chance."""
CALIBRATED = 1.25
"""A true variance within this factor of the predicted one, either way, is called calibrated."""
Found = Mapping[Key, Series]


def answer(found: Found) -> list[str]:
    """Order, calibration, trivial predictors, other noise, other degradations; of the first matched encoder."""
    home = next((key for key in found if key.is_matched), None)
    if home is None:
        return ["These results hold no encoder on the degradation and noise that it was trained with: they cannot say."]
    in_order, calibration = ordering_accuracy(found[home]["var_hat"]), _calibration(found[home])
    wrong = "over-confident" if calibration.mean > 1 else "under-confident"
    ranks = trivial_ranks(found[home])
    noises = {key: _calibration(found[key]) for key in found if key[:3] == home[:3] and key != home}
    others = {
        key: ordering_accuracy(found[key]["var_hat"])
        for key in found
        if key.is_matched and key.degradation != home.degradation
    }
    return WORDS.sentences(
        home=home,
        order="Yes" if in_order.mean >= NEARLY_ALWAYS else "Largely" if in_order.mean >= MOSTLY else "Hardly",
        in_order=in_order,
        confidence="calibrated" if 1 / CALIBRATED <= calibration.mean <= CALIBRATED else wrong,
        calibration=calibration,
        gain=ranks.gain,
        best_trivial=max(ranks.trivial, key=lambda name: abs(ranks.trivial[name].mean)),
        noise=max(noises.items(), key=lambda noise: abs(math.log(noise[1].mean)), default=None),
        other=min(others.items(), key=lambda other: other[1].mean, default=None),
    )


def main_figure(found: Found) -> MainFigure:
    """True over predicted variance at each level, of what stands side by side first."""
    return _calibration_map(*next(iter(views(found).items())))


def levels(found: Found) -> Section:
    """Prediction and truth at each level, their ratio, and how well the prediction orders levels."""
    rows = {
        key.name: {
            "true / predicted (1)": _calibration(one),
            "rank correlation with the level": spearman_across(one["var_hat"], one["severity"]),
            "two images in order, %": ordering_accuracy(one["var_hat"]).scaled(100),
            "at neighbouring levels, %": ordering_accuracy(one["var_hat"], 1).scaled(100),
            "one image in order, %": own_ordering_accuracy(one["var_hat"]).scaled(100),
        }
        for key, one in found.items()
    }
    shown = views(found)
    y_label = "variance of the latent's error, latents' = 1"
    figures = [
        lines(
            {name: {"predicted": one["var_hat"], "true": one["s2"]} for name, one in view.items()},
            capital(title),
            "level",
            y_label,
            zero=True,
        )
        for title, view in shown.items()
    ]
    maps = [_calibration_map(*view) for view in [*shown.items()][1:]]
    drawn = side_by_side([figure.html() for figure in figures + maps])
    return WORDS.section("levels", figures=drawn, summary=table(rows, "encoder, tested on"))


def trivial(found: Found) -> Section:
    """Does the prediction know more of the error than the level, the residual or the variance of y?"""
    tables = {key.name: one for key, one in found.items()}
    # at one level the known severity is one number, which ranks nothing
    within = {key: {name: one[name] for name in one if name != "severity"} for key, one in tables.items()}
    within = {key: one for key, one in within.items() if {*one} > {"var_hat", "s2"}}
    return WORDS.section(
        "trivial",
        folded=True,
        whole=trivial_table(tables, "all levels together"),
        within=trivial_table(within, "among images at one level", within=True) if within else "",
    )


def _calibration(series: Series) -> Estimate:
    """True over predicted variance, mean over levels; an image counts once."""
    return mean_interval(ratio(series).mean(axis=1))


def _calibration_map(title: str, view: Mapping[str, Series]) -> MainFigure:
    ratios = [ratio(one) for one in view.values()]
    matrix = list(zip(*map(mean_intervals, ratios), strict=True))
    rows = [f"{level:g}" for level in ratios[0]]
    heading = f"True over predicted variance: {title}"
    figure = heat_map(matrix, rows, list(view), title=heading, row_title="level", scale="ratio", span=4)
    caption = "Mean over images; above 1 (red) the encoder is over-confident, below 1 (blue) under-confident."
    return MainFigure(figure, f"Heat map, {heading}", caption)
