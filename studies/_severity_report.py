"""What the severity study says: its answer, and the sections of its page.

The prediction is var_hat and the truth s2, the variances of the error of the encoder's latent. "In order" means that of
two measurements at different levels the more degraded one has the larger prediction.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studies._severity_levels import UNIVERSAL, Key, Series, read_series
from studies._trivial import TRIVIAL, trivial_gain, trivial_of, trivial_table, trivial_text
from workbench.metrics import (
    Estimate,
    mean_interval,
    ordering_accuracy,
    own_ordering_accuracy,
    spearman_across,
    spearman_within,
)
from workbench.reporting import (
    MainFigure,
    Section,
    heat_map,
    html_table,
    listed,
    number,
    paragraph,
    percent,
    readable,
    side_by_side,
    spoken,
    svg,
)
from workbench.reporting.curves import Line, curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.metrics.statistics import Values
    from workbench.results import StudyResults

NEARLY_ALWAYS, MOSTLY = 0.9, 0.75
"""Shares of pairs in order from which the answer is yes, or largely yes; 0.5 is chance."""
HONEST = 1.25
"""A true variance within this factor of the predicted one, either way, is called honest."""
FARTHEST = 5
"""Levels that are farther apart are nearly always in order."""


@dataclass(frozen=True)
class View:
    """Series that stand side by side: what they have in common, and each by what it differs in."""

    title: str
    columns: Mapping[str, Series]


def answer(results: "StudyResults") -> list[str]:
    """A few paragraphs of a sentence or two, each with the figures that it rests on."""
    series = read_series(results)
    home = next((key for key in series if key.is_matched), None)
    if home is None:
        return ["These results hold no encoder on the degradation and noise that it was trained with: they cannot say."]
    said = [_order_sentence(home, series[home]), _error_sentence(series[home])]
    if generalised := _noise_sentence(home, series):
        said.append(generalised)
    if others := [key for key in series if key.is_matched and key.degradation != home.degradation]:
        said.append(_others_sentence(others, series))
    return said


def level_section(results: "StudyResults") -> Section:
    """Prediction and truth at each level."""
    import pandas as pd

    series = read_series(results)
    text = paragraph(
        "The same test images were degraded at every level. Lines are means over them of what the encoder predicts and "
        "of what is true; where the two part, the encoder misjudges itself."
    )
    columns = ["with the level", "with the true variance, all levels", "with the true variance, within a level"]
    rows = {
        key.name: [
            spearman_across(one.var_hat, one.level_of_each),
            spearman_across(one.var_hat, one.s2),
            spearman_within(one.var_hat, one.s2),
        ]
        for key, one in series.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    caption = "Rank correlation (Spearman) of the prediction; intervals resample images, each with all its levels"
    figures = [svg(_level_figure(view), f"Lines over the level, {view.title}") for view in views(series)]
    return Section(
        "Does the prediction follow the level?", text + side_by_side(figures) + html_table(table, 2, caption)
    )


def calibration_section(results: "StudyResults") -> Section:
    """True over predicted variance at each level."""
    text = paragraph(
        "The true variance over the predicted one, mean over images: 1 is honest, above 1 (red) the encoder trusts "
        "itself too much, below 1 (blue) too little."
    )
    figures = [
        svg(calibration_map(view), f"Heat map of true over predicted variance, {view.title}")
        for view in views(read_series(results))
    ]
    return Section("Does it know how wrong it is?", text + side_by_side(figures))


def ordering_section(results: "StudyResults") -> Section:
    """Of two measurements, which is the more degraded?"""
    import pandas as pd

    series = read_series(results)
    columns = ["two images", "two images, neighbouring levels", "one image", "one image, neighbouring levels"]
    rows = {
        key.name: [
            score(one.var_hat, apart).scaled(100)
            for score in (ordering_accuracy, own_ordering_accuracy)
            for apart in (None, 1)
        ]
        for key, one in series.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    text = paragraph(
        "How often the more degraded of two measurements has the larger prediction, over all pairs of levels: of two "
        "different images, and of one image at two levels, where what is in the image has no part. Half is chance."
    )
    figures = [
        svg(_ordering_figure(view), f"Lines of pairs in order over levels apart, {view.title}")
        for view in views(series)
    ]
    caption = "Pairs in order, %"
    return Section("Which of two is more degraded?", text + side_by_side(figures) + html_table(table, 1, caption))


def trivial_section(results: "StudyResults") -> Section:
    """Does the prediction know more of the error than the level, the residual or the variance of y?"""
    import pandas as pd

    series = read_series(results)
    tables = {key.name: one.columns for key, one in series.items()}
    text = trivial_text(tables) + trivial_table(tables, "all levels together")
    # at one level the known severity is one number, which ranks nothing
    if held := {key.name: {**one.columns, "severity": math.nan} for key, one in series.items() if one.trivial}:
        text += trivial_table(held, "among images at one level", within=True)
        rows = {
            key.name: {
                title: ordering_accuracy(values).scaled(100)
                for title, values in {"encoder (σ̂²)": one.var_hat, **_oriented(one)}.items()
            }
            for key, one in series.items()
            if one.trivial
        }
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("two images at different levels")
        text += html_table(table, 1, "Pairs in order, %; the known severity orders all of them")
    return Section("Does it beat trivial predictors?", text)


def _oriented(one: Series) -> "dict[str, Values]":
    """The trivial predictors but for the level, each with the sign with which it grows with the level."""
    found = {title: values for title, values in trivial_of(one.columns).items() if title != TRIVIAL["severity"]}
    signs = {title: spearman_across(values, one.level_of_each).mean for title, values in found.items()}
    return {title: values if signs[title] >= 0 else -values for title, values in found.items()}


SECTIONS = (level_section, calibration_section, ordering_section, trivial_section)


def main_figure(results: "StudyResults") -> MainFigure:
    """The first calibration map."""
    return MainFigure(calibration_map(views(read_series(results))[0]), "The first calibration map")


def views(series: Mapping[Key, Series]) -> list[View]:
    """What to draw side by side: an encoder over noises, encoders over their own noise, degradations at one noise."""
    return [*_over_noises(series), *_own_noises(series), *_over_degradations(series)] or [
        View(key.name, {f"noise {key.noise}": one}) for key, one in series.items()
    ]


def _over_noises(series: Mapping[Key, Series]) -> Iterator[View]:
    for encoder, trained_noise, degradation in dict.fromkeys(key[:3] for key in series):
        chosen = {f"noise {k.noise}": s for k, s in series.items() if k[:3] == (encoder, trained_noise, degradation)}
        if len(chosen) > 1:
            which = "universal encoder" if encoder == UNIVERSAL else f"{readable(encoder)} encoder"
            trained = "" if encoder == UNIVERSAL else f", trained at noise {trained_noise}"
            yield View(f"{which}{trained}, on {readable(degradation)}", chosen)


def _own_noises(series: Mapping[Key, Series]) -> Iterator[View]:
    for degradation in dict.fromkeys(key.degradation for key in series):
        chosen = {
            f"noise {k.noise}": series[k]
            for k in sorted(series, key=lambda k: float(k.noise))
            if k.is_matched and k.degradation == degradation
        }
        if len(chosen) > 1:
            yield View(f"{readable(degradation)} encoders, each at the noise it was trained at", chosen)


def _over_degradations(series: Mapping[Key, Series]) -> Iterator[View]:
    for noise in dict.fromkeys(key.noise for key in series):
        chosen = {readable(k.degradation): s for k, s in series.items() if k.is_matched and k.noise == noise}
        if len(chosen) > 1:
            yield View(f"each degradation's own encoder, noise {noise}", chosen)


def calibration_map(view: View) -> "Figure":
    """Levels x the view's columns."""
    first, *_ = view.columns.values()
    rows = [f"{level:g}" for level in first.levels]
    matrix = [list(line) for line in zip(*[one.calibration for one in view.columns.values()], strict=True)]
    return heat_map(
        matrix, rows, list(view.columns), title=f"True over predicted variance: {view.title}", row_title="level",
        scale="ratio", span=4,
    )  # fmt: skip


def _level_figure(view: View) -> "Figure":
    panels = {
        name: {
            label: Line(one.levels.tolist(), [mean_interval(column) for column in table.T])
            for label, table in (("predicted", one.var_hat), ("true", one.s2))
        }
        for name, one in view.columns.items()
    }
    return curves(
        panels, title=_capital(view.title), x_label="level", y_label="variance of the latent's error, latents' = 1",
        zero=True,
    )  # fmt: skip


def _ordering_figure(view: View) -> "Figure":
    panels = {}
    for panel, score in (("two images", ordering_accuracy), ("one image at two levels", own_ordering_accuracy)):
        panels[panel] = {name: _ordering_line(score, one) for name, one in view.columns.items()}
    return curves(
        panels, title=_capital(view.title), x_label="levels apart", y_label="pairs in order, %", y_marks={"chance": 50}
    )


def _ordering_line(score: Callable[..., Estimate], one: Series) -> Line:
    apart = range(1, min(FARTHEST, len(one.levels) - 1) + 1)
    return Line([float(steps) for steps in apart], [score(one.var_hat, steps).scaled(100) for steps in apart])


def _order_sentence(key: Key, one: Series) -> str:
    two, own = ordering_accuracy(one.var_hat), own_ordering_accuracy(one.var_hat)
    verdict = "Yes" if two.mean >= NEARLY_ALWAYS else "Largely" if two.mean >= MOSTLY else "Hardly"
    return (
        f"{verdict}: on {readable(key.degradation)} with noise of {key.noise}, which it was trained on, the encoder "
        f"gives the more degraded of two images the larger prediction in {percent(two)} of all pairs at different "
        f"levels, and of one image at two levels in {percent(own)}. The rank correlation of prediction and level is "
        f"{spoken(spearman_across(one.var_hat, one.level_of_each), 2)}."
    )


def _error_sentence(one: Series) -> str:
    means = [estimate.mean for estimate in one.calibration]
    ratio = one.mean_calibration.mean
    verdict = "is honest" if 1 / HONEST <= ratio <= HONEST else f"trusts itself too {'much' if ratio > 1 else 'little'}"
    return (
        f"It {verdict} about its own error: the true variance is {spoken(one.mean_calibration, 2)} times the predicted "
        f"one ({number(min(means), 2)} to {number(max(means), 2)} over the levels), with a rank correlation of "
        f"{spoken(spearman_across(one.var_hat, one.s2), 2)} over all levels and of "
        f"{spoken(spearman_within(one.var_hat, one.s2), 2)} among images at one level. {_trivial_sentence(one)}"
    )


def _trivial_sentence(one: Series) -> str:
    """What the prediction has over trivial predictors, over all levels and, where they can rank there, within one."""
    held = trivial_of(one.columns)
    ranks = {title: spearman_across(values, one.s2).mean for title, values in held.items()}
    best = max(ranks, key=lambda title: abs(ranks[title]))
    gain = trivial_gain(one.columns)
    verdict = "beats" if gain.low > 0 else "does worse than" if gain.high < 0 else "cannot be told from"
    text = (
        f"By rank it {verdict} the best of {len(held)} trivial predictors over all levels, {best} "
        f"({number(abs(ranks[best]), 2)}; the difference is {spoken(gain, 2)})"
    )
    if one.trivial:
        text += f"; among images at one level the difference is {spoken(trivial_gain(one.columns, within=True), 2)}"
    return f"{text}."


def _noise_sentence(home: Key, series: Mapping[Key, Series]) -> str:
    """How the encoder does with other noise, and those that know it; empty without other noise."""
    other = [key for key in series if key[:3] == home[:3] and key.noise != home.noise]
    if not other:
        return ""
    text = (
        f"With noise that it was not trained on, the true variance becomes {_calibrations(other, series)} times the "
        f"predicted one, and {_orders(other, series)} of pairs stay in order."
    )
    noises = {key.noise for key in other}
    retrained = [k for k in series if k.is_matched and k.degradation == home.degradation and k.noise in noises]
    universal = [
        k for k in series if k.encoder == UNIVERSAL and k.degradation == home.degradation and k.noise in noises
    ]
    for keys, who in ((retrained, "Encoders trained with that noise"), (universal, "The universal encoder")):
        if keys:
            text += f" {who}: {_calibrations(keys, series)} times, and {_orders(keys, series)} in order."
    return text


def _others_sentence(keys: list[Key], series: Mapping[Key, Series]) -> str:
    parts = [
        f"{percent(ordering_accuracy(series[key].var_hat))} of pairs on {readable(key.degradation)} "
        f"(true over predicted {spoken(series[key].mean_calibration, 2)})"
        for key in keys
    ]
    return f"Encoders of other degradations order {listed(parts)}."


def _calibrations(keys: list[Key], series: Mapping[Key, Series]) -> str:
    """How far from honest at each noise: "1.2 (noise 0.1) and 0.8 (noise 0)"."""
    return listed([f"{spoken(series[key].mean_calibration, 2)} (noise {key.noise})" for key in keys])


def _orders(keys: list[Key], series: Mapping[Key, Series]) -> str:
    """The shares of pairs in order, in the order of the keys: "93 %, 95 % and 80 %"."""
    return listed([f"{number(100 * ordering_accuracy(series[key].var_hat).mean, 0)} %" for key in keys])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
