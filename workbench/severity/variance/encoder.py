"""Trust the severity encoder."""

from typing import ClassVar, Literal

from workbench.severity.variance.base import Evidence, Need, Variance, VarianceSource, own_variance


class Encoder(VarianceSource):
    """The severity encoder's own variance, var_hat."""

    kind: Literal["encoder"] = "encoder"
    reads: ClassVar[Need] = Need.VAR_HAT
    scales_var_hat: ClassVar[bool] = True

    def __call__(self, evidence: Evidence) -> Variance:
        return Variance(own_variance(evidence.estimate))
