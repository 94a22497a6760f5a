"""Solvers: one file each, sharing the reverse step."""

from typing import Annotated

from pydantic import Field

from workbench.solvers.base import Guided, Networks, Precision, Solver, Step
from workbench.solvers.controls import DecodeOnly, NoGuidance
from workbench.solvers.ldps import LDPS

AnySolver = Annotated[LDPS | NoGuidance | DecodeOnly, Field(discriminator="kind")]

__all__ = ["LDPS", "AnySolver", "DecodeOnly", "Guided", "Networks", "NoGuidance", "Precision", "Solver", "Step"]
