"""The page of the estimators study: what they restore, and what they know of their own error."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from studies._rows import mean_over, means_table, table
from studies.estimators.results import QUICK, RESIDUAL, TRAINED, Estimators
from workbench.metrics import mean_interval
from workbench.reporting import Section, Words, readable

WORDS = Words(Path(__file__).with_name("templates"))
NAMES = {RESIDUAL: "residual", QUICK: "quick", TRAINED: "trained"}
CLOSE_DB = 0.3
"""A fitted estimator that restores within this of the trained one is close to it."""
CALIBRATED = 0.1
"""The mean of s2 / var_hat of a calibrated variance is 1 up to this."""
COLUMNS = ("psnr_degraded", "psnr_decoded", "psnr", "ssim", "lpips", "nfe", "seconds")
Found = Mapping[str, Estimators]


def answer(found: Found) -> list[str]:
    """What the fitted estimator loses to the trained one, gains over the residual, and whether it is calibrated."""
    lost = {name: mean_interval(one) for name, cell in found.items() if (one := cell.gain(TRAINED, QUICK)) is not None}
    ratios = {name: float(one.ratio(QUICK).mean()) for name, one in found.items() if QUICK in one.cells}
    return WORDS.sentences(
        lost=lost,
        close=sum(one.mean <= CLOSE_DB for one in lost.values()),
        worst=max(lost.items(), key=lambda item: item[1].mean, default=None),
        close_db=CLOSE_DB,
        gain=mean_over(cell.gain(QUICK, RESIDUAL) for cell in found.values()),
        decoded=mean_over(cell.gain(QUICK, RESIDUAL, "psnr_decoded") for cell in found.values()),
        calibrated=sum(abs(ratio - 1) <= CALIBRATED for ratio in ratios.values()),
        ratios=ratios,
        tolerance=100 * CALIBRATED,
    )


def restored(found: Found) -> Section:
    """Restorations from each estimate."""
    cells = {_name(degradation, name): rows for degradation, one in found.items() for name, rows in one.cells.items()}
    return WORDS.section("restored", table=means_table(cells, COLUMNS, "degradation, estimator"))


def estimates(found: Found) -> Section:
    """What each estimator knows of its own error."""
    rows: dict[str, dict[str, object]] = {}
    for degradation, one in found.items():
        for name, cell in one.cells.items():
            low, high = np.quantile(one.ratio(name), [0.1, 0.9])
            rows[_name(degradation, name)] = {
                "error variance (1)": mean_interval(cell["s2"]),
                "true / predicted (1)": mean_interval(one.ratio(name)),
                "10 % (1)": low,
                "90 % (1)": high,
                "rank correlation (1)": one.rank(name),
            }
    return WORDS.section("estimates", table=table(rows, "degradation, estimator", 3))


def _name(degradation: str, estimator: str) -> str:
    return f"{readable(degradation)}, {NAMES.get(estimator, estimator)}"
