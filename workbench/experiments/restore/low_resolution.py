"""Images smaller than the model's: the measurements of super-resolution as the user has them."""

import torch

from workbench.core.config import UserError
from workbench.core.tensors import Severities
from workbench.degradations import Degradation, SuperResolution
from workbench.degradations.base import Params
from workbench.degradations.super_resolution import MAX_FACTOR
from workbench.experiments.restore.pictures import Measured, printable

SIZE = "size"
"""The parameter of an operator that gives the size of its measurement, by its own name."""


def makes_smaller(degradation: Degradation, image_shape: tuple[int, int, int]) -> bool:
    """Whether the operator, or a part of it, returns smaller images."""
    params = degradation.parameters(torch.ones(1), torch.zeros(1, dtype=torch.int64), 0, image_shape)
    return any(name.rpartition(".")[2] == SIZE for name in params)


def severities(degradation: Degradation, severity: Severities, measured: Measured) -> tuple[Severities, list[str]]:
    """The severity of each image: for super-resolution, the one that its size implies, if it differs from the user's.

    Raises:
        UserError: for a size that no severity gives.
    """
    if not isinstance(degradation, SuperResolution):
        return severity, []
    whole = _whole(measured)
    made = _sizes(degradation, severity, measured)
    levels, other = severity.clone(), {}
    for i, (size, stated) in enumerate(zip(measured.sizes, made, strict=True)):
        if size in (stated, whole):
            continue  # `check_sizes` tests whether an image of full size was upsampled
        levels[i] = (whole[0] / size[0] - 1) / (MAX_FACTOR - 1)
        other[size] = float(levels[i])
    fits = (levels >= 0) & (levels <= 1)
    found = _sizes(degradation, levels.clamp(0, 1), measured)
    for i, size in enumerate(measured.sizes):
        if size != whole and (not fits[i] or found[i] != size):
            least = (round(whole[0] / MAX_FACTOR), round(whole[1] / MAX_FACTOR))
            raise UserError(
                f"{printable(measured.names[i])} is {_by(size)}: {degradation.kind} accepts {_by(least)} "
                f"(severity 1) to {_by(whole)} (severity 0)"
            )
    said = ", ".join(f"{_by(size)} is severity {level:.3g}" for size, level in other.items())
    if not other:
        return levels, _doubts(severity, made, measured)
    return levels, [
        f"--severity {float(severity[0]):g} contradicts the size of the images, which is used instead: {said}"
    ]


def check_sizes(degradation: Degradation, params: Params, measured: Measured) -> None:
    """Reject smaller images whose size differs from the operator's.

    Raises:
        UserError: with the first one, and the expected size.
    """
    observed = degradation.observed(params)
    seen = torch.ones_like(measured.y) if observed is None else observed.expand_as(measured.y)
    for name, size, mask in zip(measured.names, measured.sizes, seen.any(1), strict=True):
        rows, columns = (int(mask.any(axis).nonzero().max()) + 1 for axis in (1, 0))
        if size not in (_whole(measured), (rows, columns)):
            raise UserError(f"{printable(name)} is {_by(size)}, but {degradation.kind} gives {columns} x {rows}")


def _doubts(severity: Severities, made: list[tuple[int, int]], measured: Measured) -> list[str]:
    """A message if images of full size, with the low resolution in their corner, are smaller than the severity says."""
    whole = _whole(measured)
    if any(size != whole for size in measured.sizes):
        return []
    seen = measured.y.ne(0).any(1).any(0)
    rows, columns = (int(seen.any(axis).nonzero().max()) + 1 if bool(seen.any()) else 0 for axis in (1, 0))
    # the remaining size of each side
    share = max(rows / whole[0], columns / whole[1])
    if not round(whole[0] / MAX_FACTOR) <= share * whole[0] < made[0][0]:
        return []
    level = (1 / share - 1) / (MAX_FACTOR - 1)
    line = (
        f"all images are 0 beyond {columns} x {rows} pixels, but --severity {float(severity[0]):g} gives "
        f"{_by(made[0])}: if they were downsampled to that size, use --severity {level:.3g}"
    )
    return [line]


def _whole(measured: Measured) -> tuple[int, int]:
    """Height and width of the model's images."""
    return measured.y.shape[2], measured.y.shape[3]


def _by(size: tuple[int, int]) -> str:
    """(height, width) in the notation of image sizes, width first."""
    return f"{size[1]} x {size[0]}"


def _sizes(degradation: Degradation, severity: Severities, measured: Measured) -> list[tuple[int, int]]:
    """(height, width) of each image at its severity."""
    shape = (measured.y.shape[1], measured.y.shape[2], measured.y.shape[3])
    made = degradation.parameters(severity, torch.arange(len(measured)), 0, shape)[SIZE]
    return [(height, width) for height, width in made.tolist()]
