"""A variance source on top of a recalibrated severity encoder.

`encoder`, `fused` and `mahalanobis` return var_hat v times a factor of at least 1, found by comparing the predicted v
with the residual or with in-distribution features. That factor is applied to the replacement r(v) of v, the
recalibrated variance or a bound:

    variance = source(v) r(v) / v

So a bound remains a bound, up to the maximum variance of 4 (`severity.estimate.MAX_VARIANCE`).
"""

from dataclasses import replace
from typing import ClassVar

from pydantic import SerializeAsAny, model_validator

from workbench.core.bounds import Probability
from workbench.core.tensors import Scalars
from workbench.severity.calibration.recalibration import AnyRecalibration, Recalibration, Unchanged
from workbench.severity.variance.base import Evidence, Need, Variance, VarianceSource, own_variance, required


class Recalibrated(VarianceSource):
    """Another source, with the severity encoder's variance calibrated on average."""

    kind: str = "recalibrated"
    setting: ClassVar[str] = "recalibration"
    of: SerializeAsAny[VarianceSource]
    method: AnyRecalibration = Unchanged()

    @model_validator(mode="after")
    def _is_of_the_encoder(self) -> "Recalibrated":
        if not self.of.scales_var_hat:
            raise ValueError(
                f"{self.setting} applies to the severity encoder's variance, but {self.of.kind} does not scale it: "
                "set variance=encoder, fused or mahalanobis"
            )
        return self

    @property
    def needs(self) -> Need:
        return self.of.needs | Need.RECALIBRATION

    @property
    def label(self) -> str:
        return self.of.label

    @property
    def asker(self) -> str:
        return f"start.{self.setting}={self.method.kind}"

    def __call__(self, evidence: Evidence) -> Variance:
        answer, own = self.of(evidence), own_variance(evidence.estimate)
        fit = required(evidence.recalibration, self.asker, Need.RECALIBRATION)
        return replace(answer, value=answer.value * self.stand_in(fit, own) / own)

    def stand_in(self, fit: Recalibration, var_hat: Scalars) -> Scalars:
        """The replacement of var_hat."""
        return fit.apply(var_hat)


class AtRisk(Recalibrated):
    """Another source, with a bound instead of var_hat: s2 exceeds it with at most this probability."""

    kind: str = "at_risk"
    setting: ClassVar[str] = "risk"
    risk: Probability

    @property
    def asker(self) -> str:
        return f"start.{self.setting}={self.risk}"

    def stand_in(self, fit: Recalibration, var_hat: Scalars) -> Scalars:
        return fit.bound(var_hat, self.risk)
