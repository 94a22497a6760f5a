"""Low-resolution images: the measurements of super-resolution as the user has them.

The operator's measurement has the size of the restored image, with the low resolution in its top left corner and zeros,
not observed, elsewhere. A user has the low resolution alone, and the operator's severity says how large the image was.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from workbench.core.config import UserError
from workbench.degradations import Degradation
from workbench.degradations.base import Params
from workbench.experiments.restore.pictures import Measured, printable

SIZE, MATRICES = "size", ("rows", "columns")
"""Parameters of an operator that makes images smaller, by their own names: the low resolution, the interpolation."""
ANY_SHAPE = (1, 32, 32)
LARGEST = 4
"""No operator makes images more than this much smaller per side."""
NEAR = 3
"""Pixels by which a first guess of the size may be off."""


def makes_smaller(degradation: Degradation) -> bool:
    """Whether the operator, or a part of it, returns smaller images."""
    return _named(_parameters(degradation, 1.0, ANY_SHAPE), SIZE) is not None


def on_canvas(
    degradation: Degradation, severity: float, given: Params, measured: Measured
) -> tuple[Measured, list[str]]:
    """Low-resolution images as the operator returns them, and a message.

    Images that are 0 beyond the low resolution that the severity gives are such measurements already.

    Args:
        given: the user's parameters, with images along the first axis; their interpolation tells the size.

    Raises:
        UserError: if no size of images gives one of this low resolution.
    """
    matrices = [_named(given, name) for name in MATRICES]
    if all(matrix is not None and matrix.ndim == 3 for matrix in matrices):
        full = tuple(matrix.shape[2] for matrix in matrices if matrix is not None)
    elif _is_in_corner(measured.y, _low(degradation, severity, measured.image_shape)):
        full = measured.image_shape[1:]
    else:
        full = _full(degradation, severity, measured)
    height, width = measured.image_shape[1:]
    if full == (height, width):
        return measured, []
    if full[0] < height or full[1] < width:
        raise UserError(f"{printable(measured.names[0])} is {_by((height, width))}, larger than rows and columns say")
    y = functional.pad(measured.y, (0, full[1] - width, 0, full[0] - height))
    return replace(measured, y=y), [f"{_by((height, width))} is the low resolution of {_by((full[0], full[1]))}"]


def check_sizes(degradation: Degradation, params: Params, low: Measured, measured: Measured) -> None:
    """Reject low-resolution images whose size differs from the operator's.

    Args:
        low: the images as the user gave them.
        measured: the same as the operator returns them.

    Raises:
        UserError: with the first one, and the expected size.
    """
    if low.image_shape == measured.image_shape:
        return
    observed = degradation.observed(params)
    seen = torch.ones_like(measured.y) if observed is None else observed.expand_as(measured.y)
    for name, mask in zip(measured.names, seen.any(1), strict=True):
        rows, columns = (int(mask.any(axis).nonzero().max()) + 1 for axis in (1, 0))
        if low.image_shape[1:] != (rows, columns):
            size = low.image_shape[1], low.image_shape[2]
            raise UserError(f"{printable(name)} is {_by(size)}, but {degradation.kind} gives {columns} x {rows}")


def _full(degradation: Degradation, severity: float, measured: Measured) -> tuple[int, int]:
    """Height and width of the image whose low resolution has the size of these. Raises UserError if there is none."""
    channels, *low = measured.image_shape
    large = [LARGEST * side for side in low]
    made = _low(degradation, severity, (channels, large[0], large[1]))
    guess = [round(side * whole / smaller) for side, whole, smaller in zip(low, large, made, strict=True)]
    full = []
    for axis, side in enumerate(low):
        for step in sorted(range(-NEAR, NEAR + 1), key=abs):
            size = list(guess)
            size[axis] = max(1, guess[axis] + step)
            if _low(degradation, severity, (channels, size[0], size[1]))[axis] == side:
                full.append(size[axis])
                break
        else:
            raise UserError(
                f"{printable(measured.names[0])} is {_by((low[0], low[1]))}: {degradation.kind} of severity "
                f"{severity:g} gives this size from no image"
            )
    return full[0], full[1]


def _is_in_corner(y: Tensor, low: tuple[int, int]) -> bool:
    """Whether all images are 0 beyond this height and width, and not within."""
    beyond = y.clone()
    beyond[..., : low[0], : low[1]] = 0
    return low != tuple(y.shape[2:]) and not bool(beyond.any()) and bool(y.any())


def _low(degradation: Degradation, severity: float, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of the measurement of such an image."""
    size = _named(_parameters(degradation, severity, image_shape), SIZE)
    assert size is not None
    height, width = size[0].tolist()
    return height, width


def _parameters(degradation: Degradation, severity: float, image_shape: tuple[int, int, int]) -> Params:
    level = torch.full((1,), severity)
    return degradation.parameters(level, torch.zeros(1, dtype=torch.int64), 0, image_shape)


def _named(params: Mapping[str, Tensor], own: str) -> Tensor | None:
    """The parameter of this name, the operator's own or that of a part."""
    return next((value for name, value in params.items() if name.rpartition(".")[2] == own), None)


def _by(size: tuple[int, int]) -> str:
    """(height, width) in the notation of image sizes, width first."""
    return f"{size[1]} x {size[0]}"
