"""Saturation: a dynamic range that is wider than the detector's."""

from typing import ClassVar, Literal

from workbench.core.tensors import Ids, Images, Measurements, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import Given

MAX_GAIN = 3.0  # at severity 1


class Clipping(Degradation):
    """Contrast is stretched about middle grey, and what leaves the range is lost: y = clip(1/2 + gain (x - 1/2), 0, 1).

    Restoring it is high dynamic range recovery. A gain of 2, at severity 0.5, is the setting of DAPS (arXiv
    2407.01521), whose images are on [-1, 1]. Where y is clipped, A has no gradient: the prior decides.
    """

    kind: Literal["clipping"] = "clipping"

    linear: ClassVar[bool] = False
    identity_db: ClassVar[float] = 100.0
    severity_range: ClassVar[str] = "gain of the contrast 1 -> 3, linear"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`gain` (batch, 1, 1, 1)."""
        return {"gain": 1 + (MAX_GAIN - 1) * severity[:, None, None, None]}

    def A(self, x: Images, params: Params) -> Measurements:
        """The clipped images."""
        return (0.5 + params["gain"].to(x) * (x - 0.5)).clamp(0, 1)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A gain of at least 1."""
        given = Given(self.kind, params, ("gain",), image_shape)
        return given.taken({"gain": given.numbers("gain", 1, 1, 1, low=1, high=1000, meaning="of the contrast")})

    def severity_of(self, params: Params) -> Severities:
        """By the gain."""
        return ((params["gain"].flatten() - 1) / (MAX_GAIN - 1)).clamp(0, 1)

    def describe(self, severity: float) -> str:
        """The gain."""
        return f"gain {1 + (MAX_GAIN - 1) * severity:.2f}"
