"""Why encoders transfer: how alike degradations are in latent space, and whether that says what transfer costs.

Rows are severity encoders by the degradation that they were trained on, columns the degradations tested on, as in
`_robustness_grid`. A loss is PSNR against the matched encoder on the same measurement, in dB; positive is worse.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from studies._likeness_inputs import NUM_SEVERITY_BINS, LikenessInputs, Matrix, likeness_inputs
from studies._robustness_grid import DEGRADATION, Pair, read_grid
from studies._robustness_severity import early_or_late
from workbench.metrics import (
    Estimate,
    MantelResult,
    average_linkage,
    classical_map,
    mantel_test,
    mean_interval,
)
from workbench.reporting import (
    Section,
    dendrogram,
    heat_map,
    html_table,
    labelled_scatter,
    listed,
    number,
    paragraph,
    point_map,
    readable,
    severity_lines,
    side_by_side,
    spoken,
    svg,
)

if TYPE_CHECKING:
    from workbench.results import StudyResults

BREAK_DB = 0.5
"""An encoder breaks where it is shown (lower end of the interval) to lose more than this."""
MIN_OBJECTS = 4
"""A Mantel test on fewer degradations cannot reach p = 0.05: its smallest p is 1 / n!."""
ALPHA = 0.05
CORRECTED = "two-sided, corrected for all tried"

EVIDENCE = "likeness"
"""Under which name the results hold what `likeness_evidence` gives."""


def read_likeness(results: "StudyResults") -> LikenessInputs | None:
    """The inputs from a study's results; None where these hold no evidence of likeness, or of one degradation only."""
    evidence = results.evidence.get(EVIDENCE)
    if evidence is None or len({*evidence["names"]} & {*results.axes[DEGRADATION]}) < 2:
        return None
    return likeness_inputs(read_grid(results).rows(), evidence)


def answer_sentences(inputs: LikenessInputs) -> list[str]:
    """Whether likeness says what transfers, and which few degradations to train on: short, for any reader."""
    return [_short_link_sentence(inputs), _short_training_sentence(inputs)]


def alike_section(inputs: LikenessInputs) -> Section:
    """Distances as matrices, a tree and a map."""
    figures = [
        svg(
            heat_map(
                _plain(distances, inputs.num_images),
                inputs.names,
                inputs.names,
                title=_capital(name),
                decimals=1,
            ),
            f"Heat map, {name} between each two degradations",
        )
        for name, distances in inputs.distances().items()
    ]
    tree = dendrogram(
        inputs.latents, inputs.names, title="Who joins whom", unit="Fréchet distance of latents (average linkage)"
    )
    mapped = classical_map(inputs.latents)
    title = "Degradations on a map"
    plane = point_map(mapped.points, inputs.names, title=title, unit="distance as of latents, same scale on both axes")
    figures += [
        svg(tree, "Dendrogram of the degradations by the Fréchet distance of their latents"),
        svg(plane, "Map of the degradations by the Fréchet distance of their latents"),
    ]
    if inputs.by_severity is not None:
        figures.append(_distance_by_severity(inputs, inputs.by_severity))
    text = paragraph(
        f"The same {inputs.num_images:,} images are degraded by each degradation, at severities uniform on [0, 1], and "
        "encoded by the autoencoder's clean encoder E. The Fréchet distance (2-Wasserstein distance between Gaussians "
        "of the same mean and covariance) is the root of what FID is the square of, in units of a latent's standard "
        "deviation, summed over its elements. Two independent sets of so many images of one degradation would lie "
        f"{number(float(inputs.sampling.min()), 1)} to {number(float(inputs.sampling.max()), 1)} apart; as all "
        "degradations share their images here, the noise in this matrix is smaller."
    ) + paragraph(
        "Errors are e = E(y) − z0. Their Fréchet distance holds what an encoder must undo: the systematic part (mean) "
        "and its scatter (covariance). The spectral distance compares how the power of e is spread over spatial "
        "frequencies, whatever its level: the logarithm sees weak frequencies, which the other distances overlook."
    )
    text += paragraph(
        f"The map is classical scaling: {number(100 * mapped.explained, 0)} % of the eigenvalues' sum lie in its "
        f"plane, and its distances differ from the true ones by {number(100 * mapped.stress, 0)} % (stress-1)."
    )
    return Section("Which degradations are alike?", paragraph(alike_sentence(inputs)) + text + side_by_side(figures))


def link_section(inputs: LikenessInputs) -> Section:
    """Loss against distance, and Mantel's test."""
    import pandas as pd

    short = abbreviations(inputs.names)
    pairs = list(inputs.lost)
    text = paragraph(
        "Pairs that share a degradation are not independent, so the degradations are permuted, rows and columns of the "
        "loss matrix jointly (Mantel 1967), and not the pairs. Losses are asymmetric and are used as they are, all off "
        "the diagonal, by rank (Spearman). Several distances were tried, the first of them named beforehand; the table "
        "holds them all, with two-sided p as they are and multiplied by the number of distances (Bonferroni), which is "
        "what a claim about likeness must pass. The losses are means over images and over trainings, of the very "
        "degradations that were chosen: what they say of others, n degradations cannot tell."
    )
    title = "Does likeness say which encoder transfers?"
    if not pairs:
        return Section(title, paragraph(link_sentence(inputs)) + text)
    estimates = [mean_interval(inputs.lost[pair]) for pair in pairs]
    labels = [f"{short[encoder]}→{short[degradation]}" for encoder, degradation in pairs]
    shown = list(inputs.distances().items())
    figures = [
        svg(
            labelled_scatter(
                [distances[inputs.place(pair)] for pair in pairs],
                estimates,
                labels,
                title=f"Loss against the {name.removesuffix(', dB')}",
                x_label=_capital(name),
                y_label="PSNR lost against the matched encoder, dB",
            ),
            f"Scatter plot of the transfer loss of each pair against the {name}",
        )
        for name, distances in shown
    ]
    legend = "; ".join(f"{short[name]} {readable(name)}" for name in inputs.names)
    legend_text = paragraph(f"A→B: the encoder trained on A, tested on B, with its interval. {legend}.")
    tests = {name: _test(inputs, distances) for name, distances in shown}
    known = {name: found for name, found in tests.items() if found and not math.isnan(found.r)}
    rows = {name: _test_row(found, len(shown)) for name, found in known.items()}
    columns = ["Spearman r", "p, one-sided", "p, two-sided", CORRECTED, "permutations"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "loss against"
    caption = f"Mantel's test over n = {len(inputs.names)} degradations; one-sided: farther apart, more lost"
    decimals = dict.fromkeys(columns[1:4], 4)
    tested = html_table(table, decimals, caption) if rows else Markup()
    all_pairs = pd.DataFrame(
        [
            [*(float(distances[inputs.place(pair)]) for _, distances in shown), estimate]
            for pair, estimate in zip(pairs, estimates, strict=True)
        ],
        index=pd.Index([f"{readable(e)} → {readable(d)}" for e, d in pairs], name="trained on → tested on"),
        columns=[*(_capital(name) for name, _ in shown), "PSNR lost, dB"],
    )
    folded = Markup("<details><summary>All pairs</summary>{}</details>").format(html_table(all_pairs, 2))
    html = paragraph(link_sentence(inputs)) + text + tested + side_by_side(figures) + legend_text + folded
    return Section(title, html)


def severity_section(inputs: LikenessInputs) -> Section:
    """At which level a mismatched encoder breaks, and whether it starts too early or too late there."""
    import pandas as pd

    title = "At which severity does a mismatched encoder break?"
    if not inputs.lost:
        return Section(title, paragraph(break_sentence(inputs)))
    losses, starts = inputs.lost_by_severity, inputs.start_error_by_severity
    mean_loss, mean_start = inputs.mean_by_severity
    edges = _edges()
    loss_label, start_label = "PSNR lost against the matched encoder, dB", "start timestep minus the oracle's"
    figures = [
        _lines({"": {"mean": mean_loss}}, "Mean over mismatched encoders: loss", loss_label, edges, (), BREAK_DB),
        _lines({"": {"mean": mean_start}}, "Mean over mismatched encoders: start", start_label, edges, (), None),
        _lines(_panels(inputs, losses), "Loss by degradation tested on", loss_label, edges, inputs.names, BREAK_DB),
        _lines(_panels(inputs, starts), "Start by degradation tested on", start_label, edges, inputs.names, None),
    ]
    counts = [estimate.num_images for line in losses.values() for estimate in line]
    num = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    text = paragraph(
        "A severity encoder breaks at the first bin of severity where it is shown to lose more than "
        f"{BREAK_DB} dB (dashed): where the lower end of the loss's interval lies above that. Each bin holds {num} "
        "images of a pair; lines stand beside each other so that their 95 % intervals can be told apart."
    ) + paragraph(
        "A start below the oracle's (negative) joins too late: it adds too little noise and trusts ẑ too much. A start "
        "above it (positive) joins too early: it begins with more noise than it needs and throws away what ẑ had right."
    )
    rows = {
        readable(encoder): [_break_cell(losses, starts, (encoder, d)) for d in inputs.names] for encoder in inputs.names
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[readable(d) for d in inputs.names])
    table.index.name = "trained on \\ tested on"
    caption = "The bin of severity where each encoder breaks, and its start there"
    html = paragraph(break_sentence(inputs)) + text + side_by_side(figures) + html_table(table, 2, caption)
    return Section(title, html)


def training_section(inputs: LikenessInputs) -> Section:
    """Which few degradations to train on."""
    import pandas as pd

    choices = training_choices(inputs.loss)
    title = "What should an encoder be trained on?"
    text = paragraph(
        "For each number k, all choices of k degradations to train an encoder on each are compared, and each tested "
        "degradation is given to the best of the k; the choice with the smallest worst loss is shown, the smaller mean "
        "among equals. One encoder trained on a mixture of the k may do better or worse than this."
    )
    if not choices:
        return Section(title, paragraph(training_sentence(inputs)) + text)
    rows = {
        str(len(choice.chosen)): [
            ", ".join(readable(inputs.names[i]) for i in choice.chosen),
            choice.worst,
            readable(inputs.names[choice.worst_at]),
            choice.mean,
        ]
        for choice in choices
    }
    columns = ["trained on", "worst loss, dB", "where", "mean loss, dB"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "encoders"
    return Section(title, paragraph(training_sentence(inputs)) + text + html_table(table, 2))


def _of_results(section: Callable[[LikenessInputs], Section]) -> "Callable[[StudyResults], Section | None]":
    @wraps(section)
    def of_results(results: "StudyResults") -> Section | None:
        inputs = read_likeness(results)
        return None if inputs is None else section(inputs)

    return of_results


SECTIONS = tuple(map(_of_results, (alike_section, link_section, severity_section, training_section)))
"""The page's sections on likeness, in order; without evidence of it they are None."""


@dataclass(frozen=True)
class TrainingChoice:
    """Degradations to train on, by position: the worst loss that is left, where it is, and the mean over all tested."""

    chosen: tuple[int, ...]
    worst: float
    worst_at: int
    mean: float


def training_choices(loss: Matrix, most: int = 3) -> list[TrainingChoice]:
    """For k = 1 ... `most`, the k training families that minimise the worst loss over all tested ones.

    `loss` is (encoders, degradations) with 0 on its diagonal; each tested degradation counts the least loss among the
    chosen. All choices are tried, so none is better; k goes no further than n - 1. Empty where a loss is unknown.
    """
    n = len(loss)
    if not np.isfinite(loss).all():
        return []
    found = []
    for k in range(1, min(most, n - 1) + 1):
        candidates = []
        for chosen in itertools.combinations(range(n), k):
            left = loss[list(chosen)].min(0)
            candidates.append(TrainingChoice(chosen, float(left.max()), int(left.argmax()), float(left.mean())))
        found.append(min(candidates, key=lambda choice: (choice.worst, choice.mean)))
    return found


def groups(distances: Matrix) -> list[list[int]]:
    """Objects that average linkage joins before the largest step in its heights; one group where there is no step."""
    from scipy.cluster.hierarchy import fcluster

    tree = average_linkage(distances)
    heights = np.concatenate([[0.0], tree[:, 2]])
    step = int(np.diff(heights).argmax())
    labels = fcluster(tree, heights[step] * (1 + 1e-9), criterion="distance")
    return [[int(i) for i in np.flatnonzero(labels == label)] for label in dict.fromkeys(labels)]


def abbreviations(names: Sequence[str]) -> dict[str, str]:
    """A short name for each: initials of its words, more letters of the first word where two would be alike."""
    found: dict[str, str] = {}
    for name in names:
        first, *others = readable(name).split()
        rest = "".join(word[0] for word in others).upper()
        candidates = [first[:length].capitalize() + rest for length in range(1 if others else 2, len(first) + 1)]
        free = [c for c in candidates if c not in found.values()]
        found[name] = free[0] if free else f"{candidates[-1]}{len(found)}"
    return found


def alike_sentence(inputs: LikenessInputs) -> str:
    """Which degradations are most and least alike, and how they group."""
    n = len(inputs.names)
    nearest = _nearest(inputs)
    distance = number(float(inputs.latents[nearest]), 1)
    if n == 2:
        return f"In latent space {_both(inputs, nearest)} lie a Fréchet distance of {distance} apart."
    farthest = max(itertools.combinations(range(n), 2), key=lambda pair: inputs.latents[pair])
    text = (
        f"In latent space {_both(inputs, nearest)} are most alike (Fréchet distance {distance}), "
        f"{_both(inputs, farthest)} least ({number(float(inputs.latents[farthest]), 1)})"
    )
    found = groups(inputs.latents)
    if not 1 < len(found) < n:
        return f"{text}; no groups stand out."
    parts = "; ".join(listed([readable(inputs.names[i]) for i in group]) for group in found)
    return f"{text}; average linkage groups them as: {parts}."


def link_sentence(inputs: LikenessInputs) -> str:
    """Whether an encoder loses more between degradations that lie farther apart, with Mantel's test."""
    n = len(inputs.names)
    if n < MIN_OBJECTS:
        return (
            f"Whether likeness says what transfers cannot be concluded from n = {n} degradations: Mantel's test "
            f"permutes them, and its smallest possible p is 1/{math.factorial(n)}."
        )
    found = _test(inputs, inputs.latents)
    if found is None:
        return (
            "Whether likeness says what transfers was not tested: some encoders have no results on some degradations."
        )
    if math.isnan(found.r):
        return "Whether likeness says what transfers cannot be tested: all losses, or all distances, are equal."
    how = "all" if found.exact else "the identity and random ones, in all"
    figures = (
        f"Spearman r = {number(found.r, 2)} over the {n * (n - 1)} ordered pairs, one-sided p = {_p(found.p_greater)}, "
        f"two-sided {_p(found.p_two_sided)} ({how} {found.num_permutations:,} permutations of the n = {n} degradations)"
    )
    return f"{_link_verdict(inputs, found)}: {figures}{_tried(inputs, found)}."


def _link_verdict(inputs: LikenessInputs, found: MantelResult) -> str:
    """What may be said of the link: it must pass the correction for all distances that were tried."""
    linked = found.r > 0 and found.p_two_sided <= ALPHA
    if linked and _corrected(found, len(inputs.distances())) <= ALPHA:
        return "The farther apart the latents of two degradations lie, the more an encoder loses between them"
    if linked:
        return (
            "A hint, and not more, that an encoder loses more between degradations whose latents lie farther apart, "
            "which does not pass a correction for the distances tried"
        )
    return "That an encoder loses more between degradations that lie farther apart was not shown"


def _tried(inputs: LikenessInputs, found: MantelResult) -> str:
    """The p that is corrected for all distances that were tried, and what the others gave."""
    others = {name: _test(inputs, d) for name, d in list(inputs.distances().items())[1:]}
    known = [
        f"{name.removesuffix(', dB')} {number(o.r, 2)} (p = {_p(o.p_two_sided)})" for name, o in others.items() if o
    ]
    count = len(inputs.distances())
    text = f"; corrected for the {count} distances tried, p = {_p(_corrected(found, count))}"
    return f"{text}; the others, two-sided: {listed(known)}" if known else text


def _corrected(found: MantelResult, num_tried: int) -> float:
    """Bonferroni: two-sided p times the number of hypotheses."""
    return min(1.0, num_tried * found.p_two_sided)


def _short_link_sentence(inputs: LikenessInputs) -> str:
    n = len(inputs.names)
    found = _test(inputs, inputs.latents) if n >= MIN_OBJECTS else None
    if found is None or math.isnan(found.r):
        return link_sentence(inputs)
    return (
        f"{_link_verdict(inputs, found)} (rank correlation {number(found.r, 2)} over the {n * (n - 1)} pairs, "
        f"two-sided p = {_p(found.p_two_sided)} by permuting the n = {n} degradations{_tried(inputs, found)}). "
        f"Most alike are {_both(inputs, _nearest(inputs))}."
    )


def _short_training_sentence(inputs: LikenessInputs) -> str:
    choices = training_choices(inputs.loss)
    if not choices:
        return training_sentence(inputs)
    parts = [
        f"{_NUMBERS[len(choice.chosen)]} on {listed([readable(inputs.names[i]) for i in choice.chosen])} "
        f"({number(choice.worst, 2)} dB)"
        for choice in choices
    ]
    return f"Of encoders trained on one degradation each, with the worst loss that is left: {'; '.join(parts)}."


def break_sentence(inputs: LikenessInputs) -> str:
    """At which severity mismatched encoders break, and how they start there."""
    if not inputs.lost:
        return "At which severity a mismatched encoder breaks cannot be said: none was tested on another degradation."
    mean_loss, mean_start = inputs.mean_by_severity
    breaks = _first_break(mean_loss)
    firsts = {pair: _first_break(line) for pair, line in inputs.lost_by_severity.items()}
    never = [pair for pair, first in firsts.items() if first is None]
    count = f"of {len(firsts)} pairs, {len(firsts) - len(never)} break somewhere"
    if never and len(never) <= 3:
        count += f" ({listed([f'{readable(e)} on {readable(d)}' for e, d in never])} never)"
    if breaks is None:
        return f"On average mismatched encoders are not shown to lose more than {BREAK_DB} dB at any severity; {count}."
    text = (
        f"On average a mismatched encoder breaks at severity {_bin_name(breaks)}, where it loses "
        f"{spoken(mean_loss[breaks], 2)} dB and starts {early_or_late(mean_start[breaks])}"
    )
    worst = max(
        (k for k in range(breaks, NUM_SEVERITY_BINS) if mean_loss[k].num_images), key=lambda k: mean_loss[k].mean
    )
    if worst != breaks:
        text += (
            f"; it loses most at {_bin_name(worst)}, {spoken(mean_loss[worst], 2)} dB, where it starts "
            f"{early_or_late(mean_start[worst])}"
        )
    return f"{text}; {count}."


def training_sentence(inputs: LikenessInputs) -> str:
    """Which one, two and three degradations to train on."""
    choices = training_choices(inputs.loss)
    if not choices:
        return "What to train on cannot be said: some encoders have no results on some degradations."
    parts = []
    for choice in choices:
        k = len(choice.chosen)
        names = listed([readable(inputs.names[i]) for i in choice.chosen])
        lead = "With one encoder, train it on" if k == 1 else f"with {_NUMBERS[k]}, on"
        parts.append(
            f"{lead} {names} (worst loss {number(choice.worst, 2)} dB, on {readable(inputs.names[choice.worst_at])})"
        )
    return f"{'; '.join(parts)}."


_NUMBERS = {1: "one", 2: "two", 3: "three"}


def _test(inputs: LikenessInputs, distances: Matrix) -> MantelResult | None:
    """Mantel's test of the loss against these distances; None where losses are missing."""
    return mantel_test(distances, inputs.loss) if np.isfinite(inputs.loss).all() else None


def _test_row(found: MantelResult, num_tried: int) -> list[float | str]:
    how = f"{found.num_permutations:,} ({'all' if found.exact else 'random'})"
    return [found.r, found.p_greater, found.p_two_sided, _corrected(found, num_tried), how]


def _p(value: float) -> str:
    return number(value, 4 if value < 0.01 else 3)


def _nearest(inputs: LikenessInputs) -> tuple[int, int]:
    """The two degradations that are most alike, by position."""
    return min(itertools.combinations(range(len(inputs.names)), 2), key=lambda pair: inputs.latents[pair])


def _both(inputs: LikenessInputs, pair: tuple[int, int]) -> str:
    return " and ".join(readable(inputs.names[i]) for i in pair)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _plain(matrix: Matrix, num_images: int) -> list[list[Estimate]]:
    return [[Estimate(float(value), math.nan, math.nan, num_images) for value in row] for row in matrix]


def _edges() -> list[float]:
    return [round(edge, 3) for edge in np.linspace(0, 1, NUM_SEVERITY_BINS + 1)]


def _bin_name(index: int) -> str:
    low, high = _edges()[index : index + 2]
    return f"{number(low, 1)} to {number(high, 1)}"


def _first_break(line: Sequence[Estimate]) -> int | None:
    return next((k for k, estimate in enumerate(line) if estimate.low > BREAK_DB), None)


def _break_cell(
    losses: Mapping[Pair, Sequence[Estimate]], starts: Mapping[Pair, Sequence[Estimate]], pair: Pair
) -> str:
    if pair not in losses:
        return "–" if pair[0] == pair[1] else "n/a"
    first = _first_break(losses[pair])
    if first is None:
        return "never"
    error = starts[pair][first]
    words = "too late" if error.high < 0 else "too early" if error.low > 0 else "on time"
    return f"{_bin_name(first)}, {words}"


def _panels(
    inputs: LikenessInputs, lines: Mapping[Pair, Sequence[Estimate]]
) -> dict[str, dict[str, Sequence[Estimate]]]:
    """Degradation tested on -> encoder -> its line."""
    panels = {d: {e: lines[e, d] for e in inputs.names if (e, d) in lines} for d in inputs.names}
    return {degradation: group for degradation, group in panels.items() if group}


def _lines(
    panels: Mapping[str, Mapping[str, Sequence[Estimate]]],
    title: str,
    label: str,
    edges: Sequence[float],
    order: Sequence[str],
    threshold: float | None,
) -> Markup:
    figure = severity_lines(panels, edges, title=title, y_label=label, order=order, threshold=threshold)
    return svg(figure, f"{title}: {label}, by severity")


def _distance_by_severity(inputs: LikenessInputs, by_severity: Matrix) -> Markup:
    """Each degradation's mean distance to the others in each bin of severity, and what sampling alone would give."""
    n = len(inputs.names)
    means = by_severity.sum(2) / (n - 1)
    lines = {name: _unlimited(means[:, i]) for i, name in enumerate(inputs.names)}
    if inputs.sampling_by_severity is not None:
        lines["sampling alone (at most)"] = _unlimited(inputs.sampling_by_severity)
    title = "Distance to the others, by severity"
    figure = severity_lines(
        {"": lines}, _edges(), title=title, y_label="mean Fréchet distance of latents", order=tuple(lines)
    )
    return svg(figure, f"{title}: mean Fréchet distance of each degradation's latents to the others'")


def _unlimited(values: Matrix) -> list[Estimate]:
    return [Estimate(float(value), math.nan, math.nan, 0) for value in values]
