"""All start rules."""

from typing import Annotated

from pydantic import Field

from workbench.families import Open
from workbench.severity.control import EqualCost
from workbench.severity.situation import StartRule
from workbench.severity.start import Fixed, Full, Official, OracleGaussian, OracleVariance, SNRMatch

AnyStart = Annotated[
    SNRMatch | Official | Fixed | Full | OracleVariance | OracleGaussian | EqualCost,
    Field(discriminator="kind"),
    Open(StartRule),
]
