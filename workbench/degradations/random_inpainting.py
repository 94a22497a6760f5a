"""Pixels dropped at random."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import ADDED_LATER
from workbench.core.tensors import Ids, Images, Measurements, Severities
from workbench.degradations import physics
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import NOISE_ALONE, Given, check_values, zero_where_unobserved

MAX_DROPPED = 0.9  # fraction of the pixels at severity 1


class RandomInpainting(Degradation):
    """Each pixel is dropped, in all its channels, with a probability from 0 (severity 0) to 90 % (severity 1).

    Noise and residual are defined on the kept pixels; y is 0 where a pixel was dropped. For a given image and seed, the
    pixels kept at a severity are also kept at any lower one, and at least one pixel is always kept.

    With `dropped` as_zeros, dropped pixels are measured too: as 0 plus noise. Then no pixel is unobserved, and norms
    are over all of them. The authors of Flash-Diffusion use this convention, and their step sizes are for such norms:
    if 60 % of the pixels are dropped and the residual is noise, they are sqrt(1 / 0.4) = 1.6 times those of the kept
    ones.
    """

    kind: Literal["random_inpainting"] = "random_inpainting"
    dropped: Literal["excluded", "as_zeros"] = Field(
        "excluded",
        description="dropped pixels: not measured, or measured as 0 plus noise",
        json_schema_extra=ADDED_LATER,
    )

    linear: ClassVar[bool] = True
    identity_db: ClassVar[float] = 100.0
    draws_parameters: ClassVar[bool] = True
    severity_range: ClassVar[str] = "probability that a pixel is dropped 0 -> 90 %, linear"
    unobserved: ClassVar[str] = "where the mask drops"
    when_it_is_not_zero: ClassVar[str] = (
        "if the mask is inverted, pass 1 - mask; if it belongs to another image, pass each image's own; if the image "
        "was never masked, multiply it by the mask"
    )

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`mask` (batch, 1, height, width): 1 where a pixel is kept, 0 where it is dropped."""
        draw = randomness.uniform(ids, (seed, "mask"), (1, *image_shape[1:])).to(severity.device)
        kept = draw >= MAX_DROPPED * severity[:, None, None, None]
        kept |= draw == draw.amax((1, 2, 3), keepdim=True)
        return {"mask": kept.to(severity.dtype)}

    def A(self, x: Images, params: Params) -> Measurements:
        """The kept pixels of x, and 0 where pixels are dropped."""
        return physics.inpainting(params["mask"], x).A(x)

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """The same masking, which is its own adjoint."""
        return physics.inpainting(params["mask"], y).A_adjoint(y)

    def observed(self, params: Params) -> Tensor | None:
        """The mask, or everything if dropped pixels are measured as zeros."""
        return params["mask"] if self.dropped == "excluded" else None

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A mask of zeros and ones; 0 and 255 are converted."""
        given = Given(self.kind, params, ("mask",), image_shape)
        return given.taken({"mask": given.mask("mask")})

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """y with zeros where the mask drops; if dropped pixels are measured, values at the noise level are kept."""
        if self.dropped == "excluded" or self.noise_std == 0:
            return super().given_values(y, params, observed)
        check_values(y)
        level = torch.full((len(y),), self.noise_std, dtype=y.dtype, device=y.device)
        zeroed, lines = zero_where_unobserved(y, params["mask"], self.unobserved, self.when_it_is_not_zero, level)
        num_dropped = (params["mask"] == 0).expand_as(y).flatten(1).sum(1).clamp(min=1)
        rms = ((y - zeroed).flatten(1).square().sum(1) / num_dropped).sqrt()
        return torch.where((rms <= NOISE_ALONE * level).reshape(-1, 1, 1, 1), y, zeroed), lines

    def describe(self, severity: float) -> str:
        """The fraction of pixels dropped."""
        return f"{100 * MAX_DROPPED * severity:.0f} % dropped"
