"""Super-resolution: antialiased downsampling."""

import functools
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from workbench.core.tensors import Ids, Images, Measurements, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import Given, refuse

MAX_FACTOR = 4.0  # at severity 1
MAX_OFF_ONE = 1e-3  # tolerance of the sum of an interpolation's weights, for rounding
MAX_WEIGHT = 2.0  # weight of a pixel in an interpolation; bicubic weights are smaller


class SuperResolution(Degradation):
    """The image downsampled by 1 (severity 0) to 4 times (severity 1) per side by antialiased bicubic interpolation.

    The low resolution is a whole number of pixels, round(side / factor), so it may differ between images. For batching,
    y has the size of x with the low-resolution image in its top left corner and zeros, not observed, elsewhere; noise
    and residual are defined on the low-resolution image. A severity encoder reads y upsampled to the size of x.
    """

    kind: Literal["super_resolution"] = "super_resolution"

    linear: ClassVar[bool] = True
    identity_db: ClassVar[float] = 100.0
    severity_range: ClassVar[str] = "reduction of each side 1 -> 4 times, linear, to whole pixels"
    unobserved: ClassVar[str] = "beyond the low-resolution image"
    when_it_is_not_zero: ClassVar[str] = (
        "y is the low-resolution image in the top left corner and 0 elsewhere: pass the image before upsampling"
    )

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`size` (batch, 2), the low height and width, and the interpolation matrices `rows` and `columns`.

        The matrices are (batch, height, height) and (batch, width, width), with zeros beyond the low resolution.
        """
        factor = 1 + (MAX_FACTOR - 1) * severity.double()
        size = torch.stack([(side / factor).round().clamp(min=1).long() for side in image_shape[1:]], dim=1)
        rows, columns = (
            torch.stack([_resize(side, low, side) for low in size[:, axis].tolist()]).to(severity)
            for axis, side in enumerate(image_shape[1:])
        )
        return {"size": size, "rows": rows, "columns": columns}

    def A(self, x: Images, params: Params) -> Measurements:
        """rows x columns^T for each image and channel."""
        rows, columns = (params[name][:, None].to(x) for name in ("rows", "columns"))
        return rows @ x @ columns.mT

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """rows^T y columns for each image and channel."""
        rows, columns = (params[name][:, None].to(y) for name in ("rows", "columns"))
        return rows.mT @ y @ columns

    def observed(self, params: Params) -> Tensor:
        """1 on the low-resolution image, (batch, 1, height, width)."""
        inside = (
            torch.arange(params[name].shape[1], device=params[name].device) < params["size"][:, axis, None]
            for axis, name in enumerate(("rows", "columns"))
        )
        down, right = inside
        return (down[:, :, None] & right[:, None, :])[:, None].to(params["rows"].dtype)

    def view(self, y: Measurements, params: Params) -> Images:
        """The low-resolution image upsampled to the size of x by bicubic interpolation."""
        enlarged = []
        for image, (height, width) in zip(y, params["size"].tolist(), strict=True):
            low = image[None, :, :height, :width]
            enlarged.append(F.interpolate(low, y.shape[2:], mode="bicubic", align_corners=False))
        return torch.cat(enlarged)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """Sizes within the image's, and interpolation matrices whose rows sum to 1 within the size and are 0 beyond."""
        given = Given(self.kind, params, ("size", "rows", "columns"), image_shape)
        sides = image_shape[1:]
        size = given.numbers("size", 2, low=1, high=max(sides), whole=True, meaning="height and width in pixels").long()
        matrices = {}
        for axis, (name, side) in enumerate(zip(("rows", "columns"), sides, strict=True)):
            refuse(size[:, axis] > side, f"size of {self.kind} is larger than the images, {sides[0]} x {sides[1]}")
            matrices[name] = given.numbers(name, side, side, low=-MAX_WEIGHT, high=MAX_WEIGHT)
            inside = torch.arange(side) < size[:, axis, None]
            off = (matrices[name].sum(2) - inside.to(matrices[name])).abs() > MAX_OFF_ONE
            refuse(
                (off | (matrices[name].any(2) & ~inside)).any(1),
                f"{name} of {self.kind} must have rows of sum 1 up to size, and zeros beyond",
            )
        return given.taken({"size": size, **matrices})

    def describe(self, severity: float) -> str:
        """The downsampling factor per side."""
        return f"{1 + (MAX_FACTOR - 1) * severity:.1f} x smaller"


@functools.lru_cache(maxsize=1024)
def _resize(side: int, low: int, padded: int) -> Tensor:
    """The matrix of torch's antialiased bicubic interpolation from `side` to `low` pixels, zero rows to `padded`."""
    # the interpolation of each unit vector is a column of its matrix
    matrix = F.interpolate(torch.eye(side)[None, None], (low, side), mode="bicubic", antialias=True)[0, 0]
    return F.pad(matrix, (0, 0, 0, padded - low))
