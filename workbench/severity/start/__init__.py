"""Start rules, one per file, and the family of all."""

from typing import Annotated

from pydantic import Field

from workbench.core.families import Open
from workbench.severity.start.allocated import Allocated, Allocating, Allocation, Curves
from workbench.severity.start.base import ChoosesStart, Start, StartRule
from workbench.severity.start.budget import Budget, Costs, Outcomes
from workbench.severity.start.equal_cost import CONTROL_NAMES, Control, EqualCost, Spending, spend
from workbench.severity.start.fixed import Fixed
from workbench.severity.start.full import Full
from workbench.severity.start.matched import Channel, Matched
from workbench.severity.start.missing_noise import MissingNoise
from workbench.severity.start.official import Official
from workbench.severity.start.oracle import OracleGaussian, OracleVariance
from workbench.severity.start.snr_match import SNRMatch, asked_of_encoder

__all__ = [
    "CONTROL_NAMES",
    "Allocated",
    "Allocating",
    "Allocation",
    "AnyStart",
    "Budget",
    "Channel",
    "ChoosesStart",
    "Control",
    "Costs",
    "Curves",
    "EqualCost",
    "Fixed",
    "Full",
    "Matched",
    "MissingNoise",
    "Official",
    "OracleGaussian",
    "OracleVariance",
    "Outcomes",
    "SNRMatch",
    "Spending",
    "Start",
    "StartRule",
    "asked_of_encoder",
    "spend",
]

AnyStart = Annotated[
    SNRMatch | Official | Fixed | Full | OracleVariance | OracleGaussian | EqualCost | MissingNoise | Allocated,
    Field(discriminator="kind"),
    Open(StartRule),
]
