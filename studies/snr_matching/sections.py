"""The page of the SNR-matching study: quality and cost against the offset, its tolerance, and each rule's regret."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from studies._figures import lines
from studies._rows import mean_over, table
from studies.snr_matching.results import FORWARD, MATCH, MMSE, ORACLES, TOLERATED, Start, Sweep, of
from workbench.metrics import mean_interval
from workbench.reporting import MainFigure, Section, Words, readable, severity_lines, side_by_side

WORDS = Words(Path(__file__).with_name("templates"))
NUM_BINS = 4
NAMES = {"official": "official, c = {:g}", "fixed": "fixed, t = {:g}", "oracle_variance": "true variance, {:+g} dB"}
Sweeps = Mapping[str, Sweep]


def answer(sweeps: Sweeps) -> list[str]:
    """How exact a match must be, what a better start would gain, and what other rules lose."""
    reaches = [sweep.tolerance(FORWARD, sign) for sweep in sweeps.values() for sign in (-1, 1)]
    official = [
        (_named(rule), mean_over(sweep.gain_at_equal_cost(rule) for sweep in sweeps.values()))
        for rule in _rules(sweeps)
        if rule[0] == "official"
    ]
    return WORDS.sentences(
        reach=min([reach for reach in reaches if reach.num_images], key=lambda reach: reach.mean, default=None),
        regret={oracle: mean_over(sweep.regret(MATCH, oracle) for sweep in sweeps.values()) for oracle in ORACLES},
        official=min([one for one in official if one[1].num_images], key=lambda one: one[1].mean, default=None),
        mmse=mean_over(sweep.gains.get((MMSE, 0.0)) for sweep in sweeps.values()),
    )


def main_figure(sweeps: Sweeps) -> MainFigure:
    """PSNR against the offset from the match."""
    panels = {
        name: {match: of(sweep.gains, match) for match in (FORWARD, MMSE) if match in sweep.psnr}
        for name, sweep in sweeps.items()
    }
    caption = (
        "PSNR against the offset from the match, paired with the forward match by image. At 0 dB a start has the SNR "
        "that the severity encoder predicts; left of it the chain begins later and relies on the estimate more."
    )
    title = "PSNR above the forward match"
    return lines(panels, title, "offset, dB", "PSNR, dB", caption, zero=True, x_marks={"match": 0})


def tolerance_section(sweeps: Sweeps) -> Section:
    """How far off the match a start may be."""
    rows = {
        f"{readable(name)}, {readable(match)}": {
            "later by, dB": sweep.tolerance(match, -1).scaled(-1),
            "earlier by, dB": sweep.tolerance(match, +1),
        }
        for name, sweep in sweeps.items()
        for match in (FORWARD, MMSE)
    }
    return WORDS.section("tolerance", tolerated=TOLERATED, table=table(rows, "degradation, match", 1))


def regret_section(sweeps: Sweeps) -> Section:
    """What each rule loses to each image's best start, at which severities, and what it gains for its cost."""
    rows = {
        _named(rule): {
            **{
                f"{readable(name)}, {oracle}": mean_over([sweep.regret(rule, oracle)])
                for name, sweep in sweeps.items()
                for oracle in ORACLES
            },
            "NFE": mean_over(sweep.nfe.get(rule) for sweep in sweeps.values()),
            "SNR matching above it at its NFE": mean_over(sweep.gain_at_equal_cost(rule) for sweep in sweeps.values()),
        }
        for rule in _rules(sweeps)
    }
    # relative to the match, so that the degradations have one scale
    costs = {name: {rule: sweep.by_cost(rule) for rule in sweep.names} for name, sweep in sweeps.items()}
    y_label = "PSNR above the forward match, dB"
    cost = lines(costs, "PSNR for its cost", "mean NFE", y_label, log_x=True, zero=True)
    figures = side_by_side([_regret_by_severity(sweeps).html(), cost.html()])
    return WORDS.section("regret", table=table(rows, "rule"), figures=figures)


def _rules(sweeps: Sweeps) -> list[Start]:
    return list(dict.fromkeys(rule for sweep in sweeps.values() for rule in sweep.rules))


def _named(rule: Start) -> str:
    name, value = rule
    return readable(NAMES.get(name, name).format(value).replace("-", "\N{MINUS SIGN}"))


def _regret_by_severity(sweeps: Sweeps) -> MainFigure:
    edges = np.linspace(0, 1, NUM_BINS + 1).tolist()
    panels = {}
    for name, sweep in sweeps.items():
        bins = np.clip(np.digitize(sweep.severity, edges) - 1, 0, NUM_BINS - 1)
        *_, best = sweep.best.values()  # on other noise where there is a second draw
        lost = sweep.psnr.rsub(best, axis=0)
        panels[name] = {
            _named(rule): [mean_interval(lost[rule].to_numpy()[bins == i]) for i in range(NUM_BINS)]
            for rule in sweep.rules
            if rule[0] in (FORWARD, MMSE, "official") or rule == ("oracle_variance", 0.0)
        }
    figure = severity_lines(panels, edges, title="Regret by severity", y_label="PSNR lost to the best start, dB")
    return MainFigure(figure, "PSNR that rules lose to the best start, against severity, per degradation")
