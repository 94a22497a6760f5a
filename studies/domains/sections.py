"""The page of the domains study: what holds in each domain, what starts gain, and what the error is like."""

from pathlib import Path

from markupsafe import Markup

from studies._rows import has_column, intervals, mean_over, table
from studies.domains.results import ASSUMPTIONS, CCDF, MATCHED, MISSING, PURE, Domains, Operator
from workbench.metrics import mean_interval
from workbench.reporting import QUANTITIES, Line, MainFigure, Section, Words, curves, picture_strip, readable

WORDS = Words(Path(__file__).with_name("templates"))
ORDERED = 0.5
"""Spearman's correlation from which a prediction is said to order the true error."""
NAMES = {MATCHED: "SNR match", PURE: "pure noise", MISSING: "one start, missing noise", CCDF: "one start, full noise"}


def answer(found: Domains) -> list[str]:
    """Where severity is ordered and right, what the matched start saves and gains, and what breaks."""
    over_noise = {o.name: mean_interval(o.gain(o.pure[o.quality])) for o in found.operators}
    return WORDS.sentences(
        num=len(found.operators),
        domains=list(dict.fromkeys(readable(o.domain) for o in found.operators)),
        ordered=[o.name for o in found.operators if o.rank >= ORDERED],
        right=[o.name for o in found.operators if "the variance is right" not in o.broken()],
        savings=[o.savings for o in found.operators],
        better=[name for name, gain in over_noise.items() if gain.low > 0],
        worse=[name for name, gain in over_noise.items() if gain.high < 0],
        over_fixed=mean_over(o.gain(o.best_fixed()[1]) for o in found.operators),
        shown=[o.name for o in found.operators if mean_interval(o.gain(o.best_fixed()[1])).low > 0],
        first={o.name: o.broken()[0] for o in found.operators if o.broken()},
    )


def example(found: Domains) -> str | None:
    """The matched start of the first operator."""
    return str(found.operators[0].matched["cell"].iloc[0])


def main_figure(found: Domains) -> MainFigure:
    """Quality against cost of every start, one panel an operator."""
    panels = {
        f"{readable(o.domain)}:\n{readable(o.name)}": {
            NAMES[rule]: _line(o, rule) for rule in (MATCHED, MISSING, CCDF, PURE)
        }
        for o in found.operators
    }
    figure = curves(
        panels,
        title="PSNR (sound: SI-SDR) against mean cost",
        x_label="NFE",
        y_label="dB",
        log_x=True,
        order=list(NAMES.values()),
    )
    caption = (
        "Fixed starts give all images the same number of evaluations, with the noise that each one lacks or in full."
    )
    return MainFigure(figure, "Quality against network evaluations of each start, one panel an operator", caption)


def domains_section(found: Domains) -> Section:
    """What severity says, what a matched start is worth, and pictures, domain by domain."""
    parts = []
    for domain in dict.fromkeys(o.domain for o in found.operators):
        own = [o for o in found.operators if o.domain == domain]
        rows = {
            readable(o.name): {
                "rank correlation": o.rank,
                "of the known severity": o.rank_of_severity,
                "true / predicted variance": o.ratio,
                "degraded, dB": o.matched["psnr_degraded"],
                "decoded": o.matched["psnr_decoded"],
                "restored": o.matched["psnr"],
                "ceiling": o.matched["psnr_ceiling"],
                **{
                    QUANTITIES[column].title: o.matched[column]
                    for column in ("si_sdr_degraded", "si_sdr", "log_spectral_distance")
                    if has_column(o.matched, column)
                },
            }
            for o in own
        }
        strips = [
            Markup("<h3>{}</h3>").format(f"{readable(domain)}: {readable(o.name)}") + strip
            for o in own
            if (strip := picture_strip(found.results, str(o.matched["cell"].iloc[0])))
        ]
        parts.append(table(rows, "operator", 2, readable(domain)) + Markup().join(strips))
    return WORDS.section("domains", parts=Markup().join(parts))


def starts_section(found: Domains) -> Section:
    """What a matched start saves and gains."""
    rows = {}
    for o in found.operators:
        rule, fixed = o.best_fixed()
        rows[_name(o)] = {
            "NFE": mean_interval(o.matched["nfe"]),
            "times fewer than pure noise": o.savings,
            "over pure noise, dB": o.gain(o.pure[o.quality]),
            "over the best fixed start": o.gain(fixed),
            "which is": NAMES[rule],
            "PSNR over the decoded estimate": o.matched["psnr"] - o.matched["psnr_decoded"],
            "residual / noise": o.matched["residual_ratio"],
        }
    return WORDS.section("starts", table=table(rows, "operator", 2))


def errors_section(found: Domains) -> Section:
    """What the latent error is like, and which assumption breaks first."""
    rows = {
        _name(o): {
            "true / predicted variance": o.ratio,
            "kurtosis": o.matched["error_kurtosis"],
            "neighbours correlate": o.matched["error_neighbours"],
            "correlation with the estimate": o.matched["error_estimate"],
            "does not hold": "; ".join(o.broken()) or "none",
        }
        for o in found.operators
    }
    limits = {name: one.tolerance for name, one in ASSUMPTIONS.items()}
    return WORDS.section("errors", table=table(rows, "operator", 2), limits=limits)


def _name(operator: Operator) -> str:
    return f"{readable(operator.domain)}, {readable(operator.name)}"


def _line(operator: Operator, rule: str) -> Line:
    cells = {MATCHED: [operator.matched], PURE: [operator.pure]}.get(rule) or operator.fixed(rule)
    return Line([float(rows["nfe"].mean()) for rows in cells], intervals([rows[operator.quality] for rows in cells]))
