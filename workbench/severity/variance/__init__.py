"""The variance that a start is matched to: one source per file, and the family of all user-selectable sources."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from workbench.core.families import Open, named
from workbench.severity.variance.base import Evidence, Need, Variance, VarianceSource, own_variance
from workbench.severity.variance.encoder import Encoder
from workbench.severity.variance.fused import Fused
from workbench.severity.variance.mahalanobis import Mahalanobis
from workbench.severity.variance.max import Max
from workbench.severity.variance.non_blind import NonBlind
from workbench.severity.variance.oracle import Oracle
from workbench.severity.variance.recalibrated import AtRisk, Recalibrated
from workbench.severity.variance.residual import Residual

__all__ = [
    "AnyVariance",
    "AtRisk",
    "Encoder",
    "Evidence",
    "Fused",
    "Mahalanobis",
    "Max",
    "Need",
    "NonBlind",
    "Oracle",
    "Recalibrated",
    "Residual",
    "Variance",
    "VarianceSource",
    "own_variance",
]


AnyVariance = Annotated[
    Encoder | Residual | Max | Fused | Mahalanobis | NonBlind | Oracle,
    Field(discriminator="kind"),
    Open(VarianceSource),
    BeforeValidator(named),
]
