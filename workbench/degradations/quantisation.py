"""Few grey levels."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from workbench.core.tensors import Ids, Images, Measurements, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import Given

MOST_BITS, LEAST_BITS = 3.0, 1.0


class Quantisation(Degradation):
    """Values are rounded to the middle of one of 8 (severity 0, 3 bits) to 2 (severity 1, 1 bit) equal intervals.

    The number of intervals falls by the same factor for every step of severity. Rounding has no useful gradient; it is
    replaced by that of the identity within [0, 1].
    """

    kind: Literal["quantisation"] = "quantisation"

    linear: ClassVar[bool] = False
    identity_db: ClassVar[float] = 25.0
    surrogate_gradient: ClassVar[bool] = True
    severity_range: ClassVar[str] = "grey levels 8 -> 2 (3 bits to 1), geometric, whole numbers"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`levels` (batch, 1, 1, 1), whole numbers."""
        return {"levels": _levels(severity)[:, None, None, None]}

    def A(self, x: Images, params: Params) -> Measurements:
        """The rounded images."""
        result: Tensor = _Rounded.apply(x, params["levels"].to(x))
        return result

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A whole number of levels."""
        given = Given(self.kind, params, ("levels",), image_shape)
        return given.taken({"levels": given.numbers("levels", 1, 1, 1, low=2, high=65536, whole=True)})

    def severity_of(self, params: Params) -> Severities:
        """By the number of levels."""
        return ((params["levels"].flatten().log2() - MOST_BITS) / (LEAST_BITS - MOST_BITS)).clamp(0, 1)

    def describe(self, severity: float) -> str:
        """The number of levels."""
        return f"{float(_levels(torch.tensor(severity))):.0f} grey levels"


def _levels(severity: Tensor) -> Tensor:
    return torch.exp2(MOST_BITS + (LEAST_BITS - MOST_BITS) * severity).round()


class _Rounded(torch.autograd.Function):
    """Rounding, with the gradient of the identity where nothing is clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        number = torch.minimum((x * levels).floor().clamp(min=0), levels - 1)
        return (number + 0.5) / levels

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * ((x >= 0) & (x <= 1)), None
