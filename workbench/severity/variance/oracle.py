"""The ground truth, known in a study."""

from typing import ClassVar, Literal

from workbench.severity.estimate import error_variance
from workbench.severity.variance.base import Evidence, Need, Variance, VarianceSource, required


class Oracle(VarianceSource):
    """The true error variance s2: the prediction of a perfectly calibrated encoder."""

    kind: Literal["oracle"] = "oracle"
    reads: ClassVar[Need] = Need.TRUTH

    @property
    def label(self) -> str:
        return "true"

    @property
    def asker(self) -> str:
        return "the true error variance"

    def __call__(self, evidence: Evidence) -> Variance:
        truth = required(evidence.truth, self.asker, Need.TRUTH)
        return Variance(error_variance(evidence.estimate.z_hat, truth))
