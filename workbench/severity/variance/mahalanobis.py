"""Trust the severity encoder as far as its features are in-distribution."""

from typing import ClassVar, Literal

from workbench.core.config import UserError
from workbench.severity.variance.base import Evidence, Need, Variance, VarianceSource, own_variance, required


class Mahalanobis(VarianceSource):
    """The severity encoder's variance, raised if its features are out of distribution (arXiv 1807.03888)."""

    kind: Literal["mahalanobis"] = "mahalanobis"
    reads: ClassVar[Need] = Need.VAR_HAT | Need.FUSION
    scales_var_hat: ClassVar[bool] = True

    def __call__(self, evidence: Evidence) -> Variance:
        own, features = own_variance(evidence.estimate), evidence.estimate.features
        usual = required(evidence.fusion, self.asker, Need.FUSION)
        if features is None:
            raise UserError(f"{self.asker} needs a severity encoder that returns features")
        return Variance(usual.by_distance(own, features).to(own))
