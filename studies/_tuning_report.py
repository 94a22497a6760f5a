"""What `tune` found: fronts on test images, what matters, what carries over, how many trials it takes."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.metrics import Estimate
from workbench.reporting import (
    QUANTITIES,
    Line,
    Quantity,
    Section,
    curves,
    heat_map,
    html_table,
    listed,
    number,
    paragraph,
    readable,
    side_by_side,
    spoken,
    svg,
)
from workbench.reporting.figures import Red, Scale
from workbench.tuning.found import Found, Tuning, read_tuning
from workbench.tuning.front import Point

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

    from workbench.results import StudyResults

ENOUGH = {"psnr": 0.05, "lpips": 0.002}
"""The search is as good as over when what it has found is this near to what it will find."""


def _found(results: "StudyResults") -> Tuning | None:
    tree = results.evidence.get("tuning")
    return None if tree is None else read_tuning(tree)


def answer(results: "StudyResults") -> list[str]:
    """What tuning gains on each task, what matters, what a setting is worth elsewhere, and what it takes."""
    tuning = _found(results)
    if tuning is None:
        return [f"Nothing is tuned yet: python -m workbench tune {results.name} --preset {results.preset}"]
    return [
        _gain_sentence(tuning),
        *_edge_sentence(tuning),
        *_importance_sentence(tuning),
        *_transfer_sentence(tuning),
        _trials_sentence(tuning),
    ]


def _gain_sentence(tuning: Tuning) -> str:
    quality = QUANTITIES[tuning.goal.quality]
    gains = {name: found.best.gain[tuning.goal.quality] for name, found in tuning.tasks.items()}
    parts = [
        f"{_amount(gain, quality)} on {readable(name)}{_cost_change(tuning, tuning.tasks[name])}"
        for name, gain in gains.items()
    ]
    better = sum(gain.low > 0 if quality.better > 0 else gain.high < 0 for gain in gains.values())
    return (
        f"The setting that is best on validation images{_at_no_more(tuning)} changes {quality.label} on test images by "
        f"{listed(parts)}. It is better, beyond its interval, on {better} of {len(gains)} tasks."
    )


def _amount(estimate: Estimate, quantity: Quantity) -> str:
    return spoken(estimate, quantity.decimals, f" {quantity.unit}" if quantity.unit else "")


def _at_no_more(tuning: Tuning) -> str:
    return "" if tuning.goal.cost == "none" else f" at no more {QUANTITIES[tuning.goal.cost].label} than the default's"


def _cost_change(tuning: Tuning, found: Found) -> str:
    if tuning.goal.cost == "none":
        return ""
    quantity = QUANTITIES[tuning.goal.cost]
    before, after = (
        number(point.test[tuning.goal.cost].mean * quantity.scale, quantity.decimals)
        for point in (found.points[0], found.best)
    )
    return f" ({after} {quantity.unit or quantity.label} instead of {before})"


def _edge_sentence(tuning: Tuning) -> list[str]:
    edges = [f"{', '.join(f.best.at_edge)} on {readable(name)}" for name, f in tuning.tasks.items() if f.best.at_edge]
    return [f"At an edge of what was searched, so that more may be gained beyond: {listed(edges)}."] if edges else []


def _importance_sentence(tuning: Tuning) -> list[str]:
    leaders = []
    for name, found in tuning.tasks.items():
        if shares := found.importance.get(tuning.goal.quality):
            path = max(shares, key=lambda path: shares[path])
            leaders.append(f"{_short(path)} on {readable(name)} ({100 * shares[path]:.0f} %)")
    label = QUANTITIES[tuning.goal.quality].label
    return [f"Of what trials differ in by {label}, most is due to {listed(leaders)}."] if leaders else []


def _transfer_sentence(tuning: Tuning) -> list[str]:
    quantity = QUANTITIES[tuning.goal.quality]
    pairs = [
        (source, used, found.transfer[used])
        for source, found in tuning.tasks.items()
        for used in found.transfer
        if used != source
    ]
    if not pairs:
        return []
    source, used, worst = min(pairs, key=lambda pair: quantity.better * pair[2].quality.mean)
    label = QUANTITIES.get(tuning.goal.cost, quantity).label
    cost = "" if worst.cost is None else f" at {number(worst.cost.mean, 2)} times the {label}"
    loss = f"{_amount(worst.quality, quantity)}{cost} (tuned for {readable(source)}, used on {readable(used)})"
    return [f"Used on another task, a tuned setting differs from that task's own by {loss} in the worst case."]


def _trials_sentence(tuning: Tuning) -> str:
    parts = [f"{_needed(tuning, found)} of {len(found.trials)} on {readable(n)}" for n, found in tuning.tasks.items()]
    near, unit = ENOUGH[tuning.goal.quality], QUANTITIES[tuning.goal.quality].unit
    return (
        f"The search came within {near:g}{f' {unit}' if unit else ''} of the best that it found on "
        f"{tuning.num_val_images} validation images with trial {listed(parts)}."
    )


def _regrets(tuning: Tuning, found: Found) -> list[float]:
    """By how much the best so far, after each trial and at no more cost, is worse than at last; NaN where none is."""
    better = QUANTITIES[tuning.goal.quality].better
    limit = math.inf if tuning.goal.cost == "none" else found.points[0].validation[tuning.goal.cost]
    best, so_far = -math.inf, []
    for trial in found.trials:
        if trial.values is not None and (tuning.goal.cost == "none" or trial.values[-1] <= limit):
            best = max(best, better * trial.values[0])
        so_far.append(best)
    return [so_far[-1] - value if math.isfinite(value) else math.nan for value in so_far]


def _needed(tuning: Tuning, found: Found) -> int:
    """The number of trials after which the best so far is as good as at last, up to ENOUGH."""
    near = ENOUGH[tuning.goal.quality]
    return 1 + next(
        (place for place, regret in enumerate(_regrets(tuning, found)) if regret <= near), len(found.trials) - 1
    )


def front_section(results: "StudyResults") -> Section | None:
    """Quality against cost on test images, and the chosen settings."""
    tuning = _found(results)
    if tuning is None:
        return None
    text = paragraph(
        f"Settings were searched on {tuning.num_val_images} validation images, the same measurements and draws in "
        "every trial; figures are those of test images, differences paired with the default image by image. Tuned is "
        f"the best setting on validation images{_at_no_more(tuning)}. Searched were {_ranges(tuning)}; a star marks a "
        "value at an edge of its range."
    )
    chosen = {
        f"{readable(name)}, {label}": point
        for name, found in tuning.tasks.items()
        for label, point in (("default", found.points[0]), ("tuned", found.best))
    }
    figures = [] if tuning.goal.cost == "none" else [svg(_front_figure(tuning), "Quality against cost, for each task")]
    return Section("What does tuning gain?", text + side_by_side(figures) + _settings_table(tuning, chosen))


def _ranges(tuning: Tuning) -> str:
    """The searched fields and where their values lay."""
    parts = {}
    for found in tuning.tasks.values():
        for path, distribution in found.search.items():
            given = distribution["attributes"]
            values = given.get("choices") or (given["low"], given["high"])
            parts[path] = f"{_short(path)} ({(', ' if 'choices' in given else ' to ').join(map(_value, values))})"
    return listed(list(parts.values()))


def _settings_table(tuning: Tuning, points: "Mapping[str, Point]") -> "Markup":
    """Settings and what they are worth on test images, a row each."""
    import pandas as pd

    goal = tuning.goal
    fields = list(dict.fromkeys(path for found in tuning.tasks.values() for path in found.search))
    rows = {
        name: [
            point.gain[goal.quality],
            *(point.test[column].scaled(QUANTITIES[column].scale) for column in goal.columns),
            *(_value(point.params.get(path)) + ("*" if path in point.at_edge else "") for path in fields),
        ]
        for name, point in points.items()
    }
    titles = {QUANTITIES[column].title: QUANTITIES[column].decimals for column in goal.columns}
    gain = f"{QUANTITIES[goal.quality].title}, above default"
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[gain, *titles, *map(_short, fields)])
    table.index.name = "task, setting"
    return html_table(table, {**titles, gain: QUANTITIES[goal.quality].decimals})


def _front_figure(tuning: Tuning) -> "Figure":
    quality, cost = (QUANTITIES[column] for column in tuning.goal.columns)

    def line(points: "list[int]", found: Found) -> Line:
        chosen = [found.points[place] for place in points]
        costs = [point.test[tuning.goal.cost].mean * cost.scale for point in chosen]
        return Line(costs, [point.gain[tuning.goal.quality] for point in chosen])

    panels = {
        name: {
            "front": line(sorted(range(1, len(f.points)), key=lambda i: f.points[i].test[tuning.goal.cost].mean), f),
            "default": line([0], f),
            "tuned": line([f.chosen], f),
        }
        for name, f in tuning.tasks.items()
    }
    return curves(
        panels, title=f"{quality.label} above the default's on test images", x_label=cost.title,
        y_label=quality.title, log_x=True, zero=True, order=("front", "default", "tuned"),
    )  # fmt: skip


def importance_section(results: "StudyResults") -> Section | None:
    """What trials differ by, and which setting it is due to."""
    import pandas as pd

    tuning = _found(results)
    if tuning is None:
        return None
    columns = {
        f"{readable(name)}, {QUANTITIES[objective].label}": {
            _short(path): 100 * share for path, share in shares.items()
        }
        for name, found in tuning.tasks.items()
        for objective, shares in found.importance.items()
    }
    if not columns:
        return None
    table = pd.DataFrame(columns)
    table.index.name = "setting"
    text = paragraph(
        "The share of the variance between trials, in percent, that is due to each setting alone or with others, by "
        "fANOVA (Hutter et al., ICML 2014) over the ranges that were searched: a wide range makes a setting important."
    )
    return Section("Which settings matter?", text + html_table(table, 0))


def transfer_section(results: "StudyResults") -> Section | None:
    """The matrix of settings and the tasks that they are used on."""
    tuning = _found(results)
    if tuning is None or len(tuning.tasks) < 2:
        return None
    tasks = tuning.tasks
    quality = QUANTITIES[tuning.goal.quality]
    labels = [readable(name) for name in tasks]

    def matrix(values: list[list[Estimate]], title: str, scale: Scale, red: Red) -> "Markup":
        drawn = heat_map(
            values, labels, labels, title=title, row_title="tuned for", column_title="used on", scale=scale, red=red,
            decimals=quality.decimals,
        )  # fmt: skip
        return svg(drawn, f"{title}, for each tuned setting on each task")

    gains = [[found.transfer[used].quality for used in tasks] for found in tasks.values()]
    figures = [
        matrix(gains, f"{quality.title}, above the task's own", "diverging", "low" if quality.better > 0 else "high")
    ]
    costs = [[cost for used in tasks if (cost := f.transfer[used].cost) is not None] for f in tasks.values()]
    if tuning.goal.cost != "none":
        figures.append(matrix(costs, f"{QUANTITIES[tuning.goal.cost].label}, over the task's own", "ratio", "high"))
    text = paragraph(
        "Each task's tuned setting on the test images of every task, with that task's own severity encoder. On the "
        "diagonal nothing is lost by definition."
    )
    return Section("Does a setting carry over?", text + side_by_side(figures))


def trials_section(results: "StudyResults") -> Section | None:
    """How the best so far came near to what the search found."""
    tuning = _found(results)
    if tuning is None:
        return None
    lines = {}
    for name, found in tuning.tasks.items():
        regrets = _regrets(tuning, found)
        steps = [float(place + 1) for place in range(len(regrets))]
        lines[name] = Line(steps, [Estimate(value, math.nan, math.nan, 0) for value in regrets])
    quantity = QUANTITIES[tuning.goal.quality]
    figure = curves(
        {"": lines}, title=f"{quantity.label} still to be found", x_label="trials", y_label=quantity.title, zero=True
    )
    text = paragraph(
        f"By how much the best setting so far{_at_no_more(tuning)} is worse on validation images than the best at last "
        f"(sampler: {tuning.sampler}; the first trial is the default)."
    )
    return Section("How many trials does it take?", text + side_by_side([svg(figure, "Regret against trials")]))


def front_table_section(results: "StudyResults") -> Section | None:
    """Every setting of every front."""
    tuning = _found(results)
    if tuning is None:
        return None
    points = {
        f"{readable(name)}, {'default' if point.trial is None else f'trial {point.trial}'}": point
        for name, found in tuning.tasks.items()
        for point in found.points
    }
    return Section("Every setting of the fronts", _settings_table(tuning, points))


SECTIONS = (front_section, importance_section, transfer_section, trials_section, front_table_section)
"""The page's sections, in order."""


def _short(path: str) -> str:
    return readable(path.rpartition(".")[2])


def _value(value: object) -> str:
    text = "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("-", "\N{MINUS SIGN}") if isinstance(value, int | float) else text
