"""The severity encoder of a cell: how to train it, or that there is none."""

from typing import Annotated

from pydantic import Field

from workbench.core.families import Open
from workbench.severity.estimator import EstimatorRecipe
from workbench.severity.fitted import FittedRecipe
from workbench.severity.quick import Quick
from workbench.severity.reconstructor import Reconstructor
from workbench.severity.trained import SeverityRecipe
from workbench.severity.unet_encoder import UNetSeverity
from workbench.severity.untrained import NoEncoder

__all__ = ["AnyFitted", "AnySeverity", "SeverityRecipe", "TrainedSeverity", "UNetSeverity"]

TrainedSeverity = Annotated[SeverityRecipe | UNetSeverity, Field(discriminator="kind"), Open(SeverityRecipe)]
"""Severity encoders that are trained here."""
AnyFitted = Annotated[Quick | Reconstructor, Field(discriminator="kind"), Open(FittedRecipe)]
"""Estimators that are fitted to the operator at hand in seconds."""
AnySeverity = Annotated[
    SeverityRecipe | UNetSeverity | Quick | Reconstructor | NoEncoder,
    Field(discriminator="kind"),
    Open(EstimatorRecipe),
]
"""Those, and what needs no training."""
