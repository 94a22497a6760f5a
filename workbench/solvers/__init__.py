"""Solvers, one per file, sharing the reverse step."""

from typing import Annotated

from pydantic import Field

from workbench.core.families import Open
from workbench.solvers.base import Guided, Networks, Precision, Solver, Step, weights_type
from workbench.solvers.controls import DecodeOnly, NoGuidance
from workbench.solvers.gml_dps import GMLDPS
from workbench.solvers.ldps import LDPS
from workbench.solvers.ldps_few import LDPSFew
from workbench.solvers.mmps import MMPS
from workbench.solvers.psld import PSLD
from workbench.solvers.resample import ReSample

AnySolver = Annotated[
    LDPS | GMLDPS | PSLD | ReSample | LDPSFew | MMPS | NoGuidance | DecodeOnly,
    Field(discriminator="kind"),
    Open(Solver),
]

__all__ = [
    "GMLDPS",
    "LDPS",
    "MMPS",
    "PSLD",
    "AnySolver",
    "DecodeOnly",
    "Guided",
    "LDPSFew",
    "Networks",
    "NoGuidance",
    "Precision",
    "ReSample",
    "Solver",
    "Step",
    "weights_type",
]
