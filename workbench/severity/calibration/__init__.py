"""What is fitted to a severity encoder on validation images of its own training degradation.

`recalibration` makes its variance right on average, `conformal` bounds the true one, and `fusion` says what is usual
for it, so that what is unusual can be told.
"""

from workbench.severity.calibration.conformal import check_sample, promised_range
from workbench.severity.calibration.fusion import Fusion
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
    "Recalibration",
    "Temperature",
    "Unchanged",
    "check_sample",
    "promised_range",
]
