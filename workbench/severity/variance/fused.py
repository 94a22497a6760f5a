"""Trust the severity encoder unless the measurement contradicts it."""

from typing import ClassVar, Literal

from workbench.severity.variance.base import Evidence, Need, Variance, VarianceSource, own_variance, required
from workbench.severity.variance.residual import explained_variance


class Fused(VarianceSource):
    """The severity encoder's variance, raised if the residual contradicts it; see `severity.calibration.fusion`."""

    kind: Literal["fused"] = "fused"
    reads: ClassVar[Need] = Need.VAR_HAT | Need.OPERATOR | Need.FUSION
    scales_var_hat: ClassVar[bool] = True

    def __call__(self, evidence: Evidence) -> Variance:
        usual = required(evidence.fusion, self.asker, Need.FUSION)
        return Variance(*usual.fused(own_variance(evidence.estimate), explained_variance(evidence, self.asker)))
