"""Trust the more pessimistic of encoder and measurement."""

from typing import ClassVar, Literal

import torch

from workbench.severity.variance.base import Evidence, Need, Variance, VarianceSource, own_variance
from workbench.severity.variance.residual import explained_variance


class Max(VarianceSource):
    """The larger of the severity encoder's variance and that which explains the residual of the measurement."""

    kind: Literal["max"] = "max"
    reads: ClassVar[Need] = Need.VAR_HAT | Need.OPERATOR

    def __call__(self, evidence: Evidence) -> Variance:
        residual = explained_variance(evidence, self.asker)
        return Variance(torch.maximum(own_variance(evidence.estimate), residual))
