"""A user's y as an operator takes it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.degradations import Degradation


def given(operator: Degradation, y: Tensor, params: Mapping[str, Tensor]) -> tuple[Tensor, list[str]]:
    """y as it is taken, and the lines that say what was converted."""
    measurement, lines = operator.given_measurement(y, torch.zeros(len(y)), torch.arange(len(y)), params)
    return measurement.y, lines
