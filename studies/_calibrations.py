"""What studies say of a `Calibration`: its figures as columns of a table, and whether the variance is calibrated."""

from workbench.metrics import Estimate
from workbench.metrics.calibration import Calibration

TOLERANCE = 0.1
"""By how much s² / σ̂² may differ from 1 where a prediction is called calibrated."""
CALIBRATED = "calibrated"
TITLES = {
    "ratio": "s² / σ̂² (1)",
    "ratio_db": "SNR wrong by, dB (0)",
    "ence": "ENCE (0)",
    "nll": "NLL, nats per element",
    "crps": "CRPS",
    "bias": "mean z (0)",
    "kurtosis": "kurtosis (3)",
    "shape_ks": "KS from a Gaussian (0)",
    "channel_spread": "spread over channels (0)",
    "position_spread": "spread over positions (0)",
    "neighbour_correlation": "neighbours' correlation (0)",
    "channel_correlation": "channels' correlation (0)",
    "effective_share": "effective share of elements (1)",
    "forward_share": "cov(e, ẑ) / var(e) (0 or 1)",
}
"""Headings of figures; in brackets what they are for the error that SNR matching assumes."""


def columns(one: Calibration, *names: str) -> dict[str, Estimate]:
    """Figures by their headings."""
    return {TITLES[name]: one.figures[name] for name in names}


def confidence(one: Calibration) -> str:
    """Whether the predicted variance is calibrated within the tolerance, over-confident or under-confident."""
    ratio = one.figures["ratio"]
    if ratio.low > 1 + TOLERANCE:
        return "over-confident"
    if ratio.high < 1 - TOLERANCE:
        return "under-confident"
    return CALIBRATED if ratio.within(1 - TOLERANCE, 1 + TOLERANCE) else "not decided"
