"""Fits to a severity encoder on validation images, of its own training degradation unless stated.

`recalibration` calibrates its variance on average, `conformal` bounds the true variance, and `fusion` stores
in-distribution statistics, so that unusual inputs can be detected. `non_blind` fits its variance to an operator.
"""

from workbench.severity.calibration.conformal import check_sample, promised_range
from workbench.severity.calibration.fusion import Fusion
from workbench.severity.calibration.non_blind import NonBlindFit, OfOperator
from workbench.severity.calibration.recalibration import (
    AnyRecalibration,
    Factor,
    Isotonic,
    Recalibration,
    Temperature,
    Unchanged,
)

__all__ = [
    "AnyRecalibration",
    "Factor",
    "Fusion",
    "Isotonic",
    "NonBlindFit",
    "OfOperator",
    "Recalibration",
    "Temperature",
    "Unchanged",
    "check_sample",
    "promised_range",
]
