"""Severity corrected by the measurement: what other start rules make good of a severity encoder's misjudgement.

A rule is named after the variance that its start matches. The gap is what the same encoder would gain by a start from
the true variance of its error, PSNR(true) - PSNR(own prediction), and a rule closes the part of it that it gains. That
is a yardstick and no upper bound: the error is more than its variance, and an earlier start can do better still. All
cells are those of the first training seed, so that every comparison is paired by image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from studies._equal_cost import LABELS as CONTROLS
from studies._robustness_figures import grid_map
from studies._robustness_grid import (
    NO_ENCODER,
    OWN,
    TRUE,
    UNSEEN,
    VARIANCE,
    Grid,
    Pair,
    first_seed,
    read_grid,
    seeds_of,
)
from studies._rows import ABSENT, over_images
from workbench.metrics import Estimate, mean_interval, ratio_of_means
from workbench.reporting import (
    QUANTITIES,
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
from workbench.reporting.figures import Scale

if TYPE_CHECKING:
    from pandas import Series

    from workbench.results import StudyResults

_FLAGGING = "fused"
"""The rule that flags the images on which it distrusts the encoder."""
_LEADS = ("fused", "residual")
"""Which rule the report speaks about, the first of them that the results hold."""
_LEAST_GAP = 0.05
"""dB: parts of a smaller gap are not shown, however certain it is."""
_ENOUGH = 0.5
"""A pair on which the rule closes less of the gap than this is named."""
_MOST_NAMED = 8
_MEANINGS = {
    OWN: "the variance that the encoder predicts, as everywhere above",
    "residual": "the variance that explains what the estimate leaves unexplained of the measurement",
    "max": "the larger of the encoder's prediction and the residual's",
    "fused": "the encoder's prediction, raised where the residual contradicts it; such images are flagged",
    "mahalanobis": "the encoder's prediction, raised with the distance of its features from the usual, as fitted to "
    "true errors on validation images of all families: it has seen the tested ones, as no other rule has",
    TRUE: "the true variance, which only a study knows: no upper bound, since the error is more than its variance (a "
    "wrong brightness, say), and an earlier start can do better",
}
_NAMES = {OWN: "own prediction", TRUE: "truth"}


@dataclass(frozen=True)
class Remedy:
    """The cells of every start rule, of one training seed.

    Attributes:
        rules: rule -> its grid, the encoder's own prediction first and the truth last.
        lead: the rule that the report speaks about.
        seed: the training seed where there are several; None where there is one.
    """

    rules: Mapping[str, Grid]
    lead: str
    seed: str | None = None

    @property
    def own(self) -> Grid:
        return self.rules[OWN]

    def groups(self) -> dict[str, list[Pair]]:
        """Cells by how their encoder knows the degradation; only those with a matched encoder to be set against."""
        own = self.own
        found = {
            "matched": own.matched_pairs(),
            "mismatched": own.mismatched_pairs(),
            "universal": own.pairs_of(own.universal) if own.universal else [],
            "unseen": own.pairs_of(UNSEEN),
            "no encoder": [(NO_ENCODER, degradation) for degradation in own.degradations],
        }
        held = {pair for grid in self.rules.values() for pair in grid.frames}
        kept = {
            name: [(e, d) for e, d in pairs if (e, d) in held and (d, d) in own.frames] for name, pairs in found.items()
        }
        return {name: pairs for name, pairs in kept.items() if pairs}

    def holding(self, pairs: Sequence[Pair], *rules: str) -> list[Pair]:
        """The pairs that have results with all of these rules."""
        return [pair for pair in pairs if all(r in self.rules and pair in self.rules[r].frames for r in rules)]

    def mean(self, rule: str, column: str, pairs: Sequence[Pair]) -> "Series":
        """A column, one value per image: its mean over the pairs."""
        return over_images([self.rules[rule].frames[p][column].astype(float) for p in self.holding(pairs, rule)])

    def gain(self, rule: str, over: str, pairs: Sequence[Pair]) -> "Series":
        """PSNR of one rule over another's, one value per image."""
        both = self.holding(pairs, rule, over)
        return over_images([self.rules[rule].frames[p]["psnr"] - self.rules[over].frames[p]["psnr"] for p in both])

    def lost(self, rule: str, pairs: Sequence[Pair]) -> "Series":
        """PSNR lost against the matched encoder and its own prediction, one value per image."""
        matched, mine = self.own.frames, self.rules[rule].frames
        return over_images([matched[d, d]["psnr"] - mine[e, d]["psnr"] for e, d in self.holding(pairs, rule)])

    def gap(self, pairs: Sequence[Pair]) -> Estimate:
        """PSNR that the truth gains over the encoder's own prediction."""
        return mean_interval(self.gain(TRUE, OWN, pairs))

    def closed(self, rule: str, pairs: Sequence[Pair]) -> Estimate:
        """The part of the gap that a rule closes; absent where the truth is not shown to gain anything of note."""
        all_three = self.holding(pairs, OWN, rule, TRUE)
        gap = self.gap(all_three)
        if not (gap.low > 0 and gap.mean >= _LEAST_GAP):
            return ABSENT
        return ratio_of_means(self.gain(rule, OWN, all_three), self.gain(TRUE, OWN, all_three))

    def cost(self, rule: str, column: str, pairs: Sequence[Pair]) -> Estimate:
        """A cost in the unit that is shown; absent where it was not measured."""
        if not self.rules[rule].has(column):
            return ABSENT
        return mean_interval(self.mean(rule, column, pairs) * QUANTITIES[column].scale)

    def start_share(self, rule: str, pairs: Sequence[Pair]) -> Estimate:
        """The part of the time that goes into the estimate and the choice of the start."""
        if not self.rules[rule].has("start_seconds"):
            return ABSENT
        return ratio_of_means(self.mean(rule, "start_seconds", pairs), self.mean(rule, "seconds", pairs))

    def distrusted(self, rule: str, pairs: Sequence[Pair]) -> Estimate:
        """The part of the images that the rule flags; absent for rules that flag none."""
        if rule != _FLAGGING or not self.rules[rule].has("distrusted"):
            return ABSENT
        return mean_interval(self.mean(rule, "distrusted", pairs))


def read_remedy(results: "StudyResults") -> Remedy | None:
    """The rules' cells; None where the results hold no rule beside the encoder's own prediction and the truth."""
    labels = results.axes.get(VARIANCE, [])
    others = [rule for rule in labels if rule not in (OWN, TRUE, *CONTROLS)]
    if OWN not in labels or not others:
        return None
    rules = [OWN, *others, *([TRUE] if TRUE in labels else [])]
    seed = first_seed(results)
    grids = {rule: read_grid(results, rule, seed) for rule in rules}
    lead = next((rule for rule in _LEADS if rule in others), others[0])
    return Remedy(grids, lead, seed if len(seeds_of(results)) > 1 else None)


def remedy_sentences(remedy: Remedy, most: int = 1) -> list[str]:
    """What the leading rule closes and costs, what that gap is worth, and where it fails, naming at most so many pairs.

    What the gap is worth is left out without results of the truth.
    """
    groups = remedy.groups()
    if not groups:
        return []
    said = (_closing_sentence(remedy, groups), _truth_sentence(remedy, groups), _failing_sentence(remedy, groups, most))
    return [sentence for sentence in said if sentence]


def remedy_section(results: "StudyResults") -> Section | None:
    """What each start rule loses, closes and costs, for encoders that know the degradation or do not."""
    remedy = read_remedy(results)
    if remedy is None or not (groups := remedy.groups()):
        return None
    num_pairs = len(_judged(remedy, groups))
    text = Markup().join(paragraph(sentence) for sentence in remedy_sentences(remedy, _MOST_NAMED))
    text += paragraph(
        "A severity encoder cannot know that it is out of its depth, but the measurement can tell: an estimate as good "
        "as predicted would explain it up to its noise. The start matches the variance of the estimate's error as told "
        "by one of these rules:"
    ) + Markup("<ul>{}</ul>").format(
        Markup().join(
            Markup("<li><strong>{}</strong>: {}</li>").format(rule_name(rule), _MEANINGS.get(rule, "another variance"))
            for rule in remedy.rules
        )
    )
    text += paragraph(
        "The gap is the PSNR that the truth gains over the same encoder's own prediction; a rule closes the part of it "
        "that it gains, left out where the gap is uncertain or below 0.05 dB. It is a yardstick and no upper bound, so "
        "a part can exceed 100 %: compare the costs, too. A rule that starts earlier spends more evaluations; how much "
        "of its gain an earlier start of all images would have, this comparison does not say. Everything is compared "
        "on the same images, with encoders of one training seed; a rule that was not tried on all cells of a group is "
        f"in the tables only, with the number of its cells. Of {num_pairs} pairs about "
        f"{number(0.025 * num_pairs, 0)} would seem to lose by chance alone."
    )
    text += _group_maps(remedy, groups) + _rivals(remedy, groups) + _pair_maps(remedy) + _table(remedy, groups)
    return Section("Severity corrected by the measurement", text)


def _group_maps(remedy: Remedy, groups: Mapping[str, list[Pair]]) -> Markup:
    """Groups of encoders x rules."""
    import pandas as pd

    closing = {rule: grid for rule, grid in remedy.rules.items() if rule not in (OWN, TRUE)}

    def drawn(
        title: str,
        decimals: int,
        estimate: Callable[[str, list[Pair]], Estimate],
        rules: Mapping[str, Grid] = remedy.rules,
        scale: Scale = "sequential",
    ) -> Markup:
        lines = {
            # over other cells than its neighbours' a mean would mislead
            name: [estimate(rule, pairs) if remedy.holding(pairs, rule) == pairs else ABSENT for rule in rules]
            for name, pairs in groups.items()
        }
        table = pd.DataFrame.from_dict(lines, orient="index", columns=[rule_name(rule) for rule in rules])
        known = table.map(lambda value: not math.isnan(value.mean))
        table = table.loc[known.any(axis=1), known.any(axis=0)]
        if table.empty:
            return Markup()
        figure = heat_map(
            table.to_numpy().tolist(),
            list(table.index),
            list(table.columns),
            title=title,
            row_title="encoder",
            column_title="variance matched",
            decimals=decimals,
            scale=scale,
        )
        return svg(figure, f"Heat map, {title}: rows are groups of encoders, columns rules of the start")

    figures = [
        drawn(
            "PSNR lost against the matched encoder, dB",
            2,
            lambda rule, pairs: mean_interval(remedy.lost(rule, pairs)),
            scale="diverging",
        ),
        drawn("Part of the gap closed, %", 0, lambda rule, pairs: remedy.closed(rule, pairs).scaled(100), closing),
        drawn("Mean NFE of an image", 1, lambda rule, pairs: mean_interval(remedy.mean(rule, "nfe", pairs))),
        drawn("Mean compute of an image, GFLOP", 1, lambda rule, pairs: remedy.cost(rule, "flops", pairs)),
        drawn(
            "Part of the time spent on the start, %", 1, lambda rule, pairs: remedy.start_share(rule, pairs).scaled(100)
        ),
    ]
    return side_by_side([figure for figure in figures if figure])


def _pair_maps(remedy: Remedy) -> Markup:
    """Encoders x degradations with the leading rule."""
    lead, own = remedy.lead, remedy.own
    name = readable(lead)

    def matrix(estimate: Callable[[list[Pair]], Estimate], *rules: str) -> list[list[Estimate]]:
        cells = [[remedy.holding([(e, d)], lead, *rules) for d in own.degradations] for e in own.encoders]
        return [[estimate(pair) if pair else ABSENT for pair in line] for line in cells]

    gained = matrix(lambda pair: mean_interval(remedy.gain(lead, OWN, pair)), OWN)
    nfe = matrix(lambda pair: mean_interval(remedy.mean(lead, "nfe", pair)))
    figures = [
        grid_map(own, gained, f"PSNR that {name} gains over the own prediction, dB", 2, "diverging", red="low"),
        grid_map(own, nfe, f"Mean NFE of an image, {name}", 1),
    ]
    if not math.isnan(remedy.distrusted(lead, own.pairs_of(*own.encoders)).mean):
        flagged = matrix(lambda pair: remedy.distrusted(lead, pair).scaled(100))
        figures.append(grid_map(own, flagged, "Images on which the encoder is distrusted, %", 0))
    return side_by_side(figures)


def _rivals(remedy: Remedy, groups: Mapping[str, list[Pair]]) -> Markup:
    """The leading rule against each other rule, on the cells that both were tried on."""
    import pandas as pd

    lead, name = remedy.lead, rule_name(remedy.lead)
    rows = {}
    for rule in remedy.rules:
        for group, pairs in groups.items():
            both = remedy.holding(pairs, lead, rule)
            if rule not in (lead, TRUE) and both:
                rows[f"{rule_name(rule)}: {group}"] = [
                    str(len(both)),
                    mean_interval(remedy.gain(lead, rule, both)),
                    remedy.closed(lead, both).scaled(100),
                    ABSENT if rule == OWN else remedy.closed(rule, both).scaled(100),
                    mean_interval(remedy.mean(lead, "nfe", both)),
                    mean_interval(remedy.mean(rule, "nfe", both)),
                ]
    columns = ["cells", f"PSNR that {name} gains, dB", f"gap closed by {name}, %", "by the other rule, %",
               f"NFE of {name}", "of the other rule"]  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "against: encoders"
    decimals = {columns[1]: 2, columns[2]: 0, columns[3]: 0, columns[4]: 1, columns[5]: 1}
    return html_table(table, decimals, f"{name.capitalize()} against each other rule, on the cells that have both")


def _table(remedy: Remedy, groups: Mapping[str, list[Pair]]) -> Markup:
    """Every group with every rule, folded away."""
    import pandas as pd

    columns = ["cells", "PSNR, dB", "lost, dB", "short of the truth, dB", "gap closed, %", "NFE", "GFLOP", "time, ms",
               "start's time, %", "flagged, %"]  # fmt: skip
    rows = {}
    for group, pairs in groups.items():
        for rule in remedy.rules:
            if held := remedy.holding(pairs, rule):
                rows[f"{group}: {rule_name(rule)}"] = [
                    str(len(held)),
                    mean_interval(remedy.mean(rule, "psnr", held)),
                    mean_interval(remedy.lost(rule, held)),
                    mean_interval(remedy.gain(TRUE, rule, held)),
                    ABSENT if rule in (OWN, TRUE) else remedy.closed(rule, held).scaled(100),
                    mean_interval(remedy.mean(rule, "nfe", held)),
                    remedy.cost(rule, "flops", held),
                    remedy.cost(rule, "seconds", held),
                    remedy.start_share(rule, held).scaled(100),
                    remedy.distrusted(rule, held).scaled(100),
                ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index.name = "encoder: variance matched"
    decimals = {"NFE": 1, "GFLOP": 1, "time, ms": 0, "gap closed, %": 0, "start's time, %": 1, "flagged, %": 0}
    caption = (
        "Means over a group's cells, image by image. Lost: against the matched encoder with its own prediction; the "
        "gap is what the own prediction is short of the truth. Cells were timed one after another on a machine that "
        "may have been shared: times of different rules compare roughly, their FLOPs exactly"
    )
    return Markup("<details><summary>All figures by group and rule</summary>{}</details>").format(
        html_table(table, decimals, caption)
    )


def _closing_sentence(remedy: Remedy, groups: Mapping[str, list[Pair]]) -> str:
    lead = remedy.lead
    both = {name: held for name, pairs in groups.items() if (held := remedy.holding(pairs, lead, OWN))}
    if not both:
        return f"No cell has results both with {rule_name(lead)} and with the encoder's own prediction."
    group = next((name for name in ("mismatched", "unseen") if name in both), next(iter(both)))
    pairs = both[group]
    how = {
        "fused": "Checking the encoder's prediction against the measurement, and raising it where they disagree,",
        "residual": "Starting from the error that the measurement's residual shows, not from the encoder's prediction,",
    }.get(lead, f"Starting from the variance {readable(lead)!r}, not from the encoder's prediction,")
    closed = remedy.closed(lead, pairs)
    verb = (
        "was not shown to close a gap"
        if math.isnan(closed.mean)
        else f"closes {percent(closed)} of the gap to a start from the true variance of its error"
    )
    before, after = (mean_interval(remedy.lost(rule, pairs)) for rule in (OWN, lead))
    cost_before, cost = (float(remedy.mean(rule, "nfe", pairs).mean()) for rule in (OWN, lead))
    share = remedy.start_share(lead, pairs).mean
    time = "" if math.isnan(share) else f", and {number(100 * share, 0)} % of the time is spent on the start"
    who = f"{group} encoders{f' (training seed {remedy.seed})' if remedy.seed else ''}"
    flops = [remedy.cost(rule, "flops", pairs).mean for rule in (lead, OWN)]
    compute = "" if any(map(math.isnan, flops)) else f" ({number(flops[0], 1)} GFLOP instead of {number(flops[1], 1)})"
    return (
        f"{how} {verb}: {who} then lose {spoken(after, 2)} dB instead of {number(before.mean, 2)} dB, with "
        f"{number(cost, 0)} network evaluations per image instead of {number(cost_before, 0)}{compute}{time}."
    )


def _truth_sentence(remedy: Remedy, groups: Mapping[str, list[Pair]]) -> str:
    """That the truth is no upper bound, its cost, and what is closed on each degradation; empty without the truth."""
    lead = remedy.lead
    group = next((name for name in ("mismatched", "unseen") if name in groups), next(iter(groups)))
    pairs = remedy.holding(groups[group], lead, OWN, TRUE)
    if not pairs:
        return ""
    above = [pair for pair in pairs if float(remedy.gain(lead, TRUE, [pair]).mean()) > 0]
    shown = sum(mean_interval(remedy.gain(lead, TRUE, [pair])).low > 0 for pair in above)
    nfe, nfe_true = (float(remedy.mean(rule, "nfe", pairs).mean()) for rule in (lead, TRUE))
    text = (
        f"The true variance, at {number(nfe_true, 0)} network evaluations where {rule_name(lead)} takes "
        f"{number(nfe, 0)}, is a yardstick and no upper bound: {rule_name(lead)} does better on {len(above)} of "
        f"{len(pairs)} pairs ({shown} beyond their intervals)"
    )
    if above:
        there, there_true = (float(remedy.mean(rule, "nfe", above).mean()) for rule in (lead, TRUE))
        text += f", there with {number(there, 0)} evaluations instead of {number(there_true, 0)}"
    tested = {d: [pair for pair in pairs if pair[1] == d] for d in remedy.own.degradations}
    parts = {d: remedy.closed(lead, mine) for d, mine in tested.items() if mine}
    known = [f"{percent(part)} on {readable(d)}" for d, part in parts.items() if not math.isnan(part.mean)]
    none = [readable(d) for d, part in parts.items() if math.isnan(part.mean)]
    if known:
        text += f". It closes {listed(known)}"
    if none:
        least = number(_LEAST_GAP, 2)
        text += f"{'; no' if known else '. No'} gap of {least} dB or more was shown on {listed(none)}"
    return f"{text}."


def _failing_sentence(remedy: Remedy, groups: Mapping[str, list[Pair]], most: int) -> str:
    """Where the leading rule does harm, where it closes little, and what is lost without any encoder."""
    lead, judged = remedy.lead, _judged(remedy, groups)
    gains = {pair: mean_interval(remedy.gain(lead, OWN, [pair])) for pair in judged}
    worse = sorted((pair for pair in judged if gains[pair].high < 0), key=lambda pair: gains[pair].mean)
    parts = {pair: remedy.closed(lead, [pair]) for pair in judged}
    known = [pair for pair in judged if not math.isnan(parts[pair].mean)]
    short = sorted((pair for pair in known if parts[pair].mean < _ENOUGH), key=lambda pair: parts[pair].mean)
    text = f"It was shown to do worse than the encoder's own prediction on {len(worse)} of {len(judged)} pairs"
    text += _named(worse, lambda pair: f"by {number(-gains[pair].mean, 2)} dB", most)
    if known:
        text += f", and closes less than half of the gap on {len(short)} of the {len(known)} that have one"
        text += _named(short, lambda pair: f"{number(100 * parts[pair].mean, 0)} %", most)
    if "no encoder" in groups:
        rule = next(r for r in (*_LEADS, *remedy.rules) if remedy.holding(groups["no encoder"], r))
        lost = mean_interval(remedy.lost(rule, groups["no encoder"]))
        text += f". Without any severity encoder, from the measurement alone, {spoken(lost, 2)} dB are lost"
    return f"{text}."


def _judged(remedy: Remedy, groups: Mapping[str, list[Pair]]) -> list[Pair]:
    """The pairs on which the leading rule can be set against the encoder's own prediction."""
    return remedy.holding([pair for pairs in groups.values() for pair in pairs], remedy.lead, OWN)


def _named(pairs: Sequence[Pair], figure: Callable[[Pair], str], most: int) -> str:
    """The first pairs with their figures, and how many more there are, in parentheses; empty without pairs."""
    names = [f"{readable(encoder)} on {readable(degradation)} {figure((encoder, degradation))}"
             for encoder, degradation in pairs[:most]]  # fmt: skip
    if len(pairs) > most:
        names.append(f"{len(pairs) - most} more")
    return f" ({listed(names)})" if names else ""


def rule_name(rule: str) -> str:
    """A rule in words."""
    return _NAMES.get(rule, readable(rule))
