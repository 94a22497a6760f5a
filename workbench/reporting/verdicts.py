"""How reports describe a severity encoder's calibration: figures with headings, and verdicts in words.

ẑ is the encoder's latent, e = ẑ - z0 its error, σ̂² the predicted variance, s² the true variance, and z = e / σ̂.
"""

import numpy as np

from workbench.metrics import Estimate
from workbench.metrics.calibration import Calibration, holding_channel
from workbench.reporting.formats import p_value

TOLERANCE = 0.1
"""Tolerance of s² / σ̂² around 1 within which a prediction is called calibrated."""
CALIBRATED, OVER_CONFIDENT = "calibrated", "over-confident"
TITLES = {
    "ratio": "s² / σ̂² (1)",
    "ratio_db": "SNR wrong by, dB (0)",
    "ence": "ENCE (0)",
    "nll": "NLL, nats per element",
    "crps": "CRPS",
    "bias": "mean z (0)",
    "kurtosis": "kurtosis (3)",
    "channel_spread": "spread over channels (0)",
    "position_spread": "spread over positions (0)",
    "neighbour_correlation": "neighbours' correlation (0)",
    "channel_correlation": "channels' correlation (0)",
    "effective_share": "effective share of elements (1)",
    "forward_share": "cov(e, ẑ) / var(e) (0 or 1)",
}
"""Headings of figures; brackets give the value for the error that SNR matching assumes."""


def columns(one: Calibration, *names: str) -> dict[str, Estimate]:
    """Figures by their headings."""
    return {TITLES[name]: one.figures[name] for name in names}


def confidence(one: Calibration) -> str:
    """Whether the predicted variance is calibrated within the tolerance, over-confident or under-confident."""
    ratio = one.figures["ratio"]
    if ratio.low > 1 + TOLERANCE:
        return OVER_CONFIDENT
    if ratio.high < 1 - TOLERANCE:
        return "under-confident"
    return CALIBRATED if ratio.within(1 - TOLERANCE, 1 + TOLERANCE) else "not decided"


def verdict(one: Calibration) -> dict[str, object]:
    """The strengths and weaknesses of an encoder's errors, in figures and words: one row of a table."""
    law, kurtosis = next(iter(one.fits.values())), one.figures["kurtosis"]
    return {
        **columns(one, "ratio"),
        "level": confidence(one),
        **columns(one, "bias", "kurtosis"),
        "tails": ("heavier than" if kurtosis.low > 3 else "lighter than" if kurtosis.high < 3 else "as") + " Gaussian",
        "p, if Gaussian": p_value(one.p_values["shape_ks"]),
        "likeliest law": law.family.capitalize() if law.df is None else f"Student t, df {law.df:.0f}",
        **columns(one, "neighbour_correlation", "channel_correlation", "effective_share", "forward_share"),
        "channel": holding_channel(one.figures["forward_share"]).replace("undecided", "not decided"),
    }


def scores(one: Calibration) -> dict[str, object]:
    """How well its predicted variance fits the size of its errors: one row of a table."""
    coverage = one.curves["coverage"]
    return {
        **columns(one, "ratio_db", "ence"),
        "ENCE by chance": one.floors["ence"],
        "coverage of 90 %": coverage.estimates[int(np.abs(coverage.x - 0.9).argmin())],
        **columns(one, "nll", "crps"),
    }
