"""The encoder's variance, corrected by what the operator and the residual say."""

from typing import ClassVar, Literal

from workbench.severity.variance.base import Evidence, Need, Variance, VarianceSource, own_variance, required
from workbench.severity.variance.residual import explained_variance


class NonBlind(VarianceSource):
    """Predicted from the severity encoder's variance, the residual's and the level; see `calibration.non_blind`."""

    kind: Literal["non_blind"] = "non_blind"
    reads: ClassVar[Need] = Need.VAR_HAT | Need.OPERATOR | Need.NON_BLIND

    def __call__(self, evidence: Evidence) -> Variance:
        fit = required(evidence.non_blind, self.asker, Need.NON_BLIND)
        own, residual = own_variance(evidence.estimate), explained_variance(evidence, self.asker)
        measurement = evidence.measurement
        return Variance(*fit.variance(own, residual, measurement.severity, measurement.operator))
