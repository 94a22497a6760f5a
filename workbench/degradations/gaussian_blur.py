"""Blur by an isotropic Gaussian."""

from typing import ClassVar, Literal

import torch

from workbench.core.tensors import Ids, Images, Measurements, Severities
from workbench.degradations import physics
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import Given

MIN_STD, MAX_STD = 0.3, 3.0  # pixels, at severity 0 and 1
RADIUS = 9  # pixels: three times the largest std


class GaussianBlur(Degradation):
    """Convolution with an isotropic Gaussian of 0.3 px (severity 0) to 3 px (severity 1) standard deviation."""

    kind: Literal["gaussian_blur"] = "gaussian_blur"

    linear: ClassVar[bool] = True
    identity_db: ClassVar[float] = 40.0
    severity_range: ClassVar[str] = "std of the Gaussian 0.3 -> 3 px, linear"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`filter` (batch, 1, 19, 19): exp(-r^2 / (2 std^2)) sampled at the pixel centres, then scaled to sum to 1."""
        offset = torch.arange(-RADIUS, RADIUS + 1, device=severity.device, dtype=severity.dtype)
        std = MIN_STD + (MAX_STD - MIN_STD) * severity[:, None]
        profile = torch.exp(-0.5 * (offset / std) ** 2)
        profile = profile / profile.sum(1, keepdim=True)
        return {"filter": (profile[:, :, None] * profile[:, None, :])[:, None]}

    def A(self, x: Images, params: Params) -> Measurements:
        """Convolve x with each image's filter; borders repeat the edge pixel."""
        return physics.blur(params["filter"], x).A(x)

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """The transposed convolution; contributions to the border's padding are added to the edge pixel."""
        return physics.blur(params["filter"], y).A_adjoint(y)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A kernel of any odd size, divided by its sum if that is not 1."""
        given = Given(self.kind, params, ("filter",), image_shape)
        return given.taken({"filter": given.kernel("filter")})

    def describe(self, severity: float) -> str:
        """The standard deviation in pixels."""
        return f"std {MIN_STD + (MAX_STD - MIN_STD) * severity:.2f} px"
