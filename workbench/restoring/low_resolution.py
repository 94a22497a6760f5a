"""Pictures of fewer pixels than the model's images: what super-resolution measures, as the user has it."""

import torch

from workbench.config import UserError
from workbench.degradations import Degradation, SuperResolution
from workbench.degradations.base import Params
from workbench.degradations.super_resolution import MAX_FACTOR
from workbench.restoring.pictures import Measured, printable
from workbench.tensors import Severities

SIZE = "size"
"""The parameter of an operator that says how large the picture is that it makes, by its own name."""


def makes_smaller(degradation: Degradation, image_shape: tuple[int, int, int]) -> bool:
    """Whether the operator, or a part of it, makes pictures of fewer pixels."""
    params = degradation.parameters(torch.ones(1), torch.zeros(1, dtype=torch.int64), 0, image_shape)
    return any(name.rpartition(".")[2] == SIZE for name in params)


def severities(degradation: Degradation, severity: Severities, measured: Measured) -> tuple[Severities, list[str]]:
    """The severity of each picture: where a super-resolved picture's size says another than the user, that of its size.

    Raises:
        UserError: for a size that no severity makes.
    """
    if not isinstance(degradation, SuperResolution):
        return severity, []
    side = measured.y.shape[2]
    made = _sizes(degradation, severity, measured)
    levels, other = severity.clone(), {}
    for i, (size, stated) in enumerate(zip(measured.sizes, made, strict=True)):
        if size in (stated, (side, side)):
            continue  # whether an image of full size is enlarged, `check_sizes` asks
        levels[i] = (side / size[0] - 1) / (MAX_FACTOR - 1)
        other[size[0]] = float(levels[i])
    fits = (levels >= 0) & (levels <= 1)
    found = _sizes(degradation, levels.clamp(0, 1), measured)
    for i, size in enumerate(measured.sizes):
        if size != (side, side) and (not fits[i] or found[i] != size):
            least = round(side / MAX_FACTOR)
            raise UserError(
                f"{printable(measured.names[i])} is {size[1]} x {size[0]}: {degradation.kind} takes {least} x {least} "
                f"(severity 1) to {side} x {side} (severity 0)"
            )
    said = ", ".join(f"{low} x {low} is severity {level:.3g}" for low, level in other.items())
    if not other:
        return levels, _doubts(severity, made, measured)
    return levels, [f"--severity {float(severity[0]):g} is not that of the pictures, whose size tells it: {said}"]


def check_sizes(degradation: Degradation, params: Params, measured: Measured) -> None:
    """Refuse smaller pictures that are not as large as the operator makes them.

    Raises:
        UserError: naming the first, and the size that is wanted.
    """
    observed = degradation.observed(params)
    side = measured.y.shape[2]
    seen = torch.ones_like(measured.y) if observed is None else observed.expand_as(measured.y)
    for name, size, mask in zip(measured.names, measured.sizes, seen.any(1), strict=True):
        rows, columns = (int(mask.any(axis).nonzero().max()) + 1 for axis in (1, 0))
        if size not in ((side, side), (rows, columns)):
            raise UserError(
                f"{printable(name)} is {size[1]} x {size[0]}, and {degradation.kind} makes {columns} x {rows} of it"
            )


def _doubts(severity: Severities, made: list[tuple[int, int]], measured: Measured) -> list[str]:
    """A line where pictures of full size, the low resolution in their corner, end before that of the severity does."""
    side = measured.y.shape[2]
    if any(size != (side, side) for size in measured.sizes):
        return []
    seen = measured.y.ne(0).any(1).any(0)
    end = max(int(seen.any(axis).nonzero().max()) + 1 for axis in (0, 1)) if bool(seen.any()) else 0
    low = made[0][0]
    if not round(side / MAX_FACTOR) <= end < low:
        return []
    level = (side / end - 1) / (MAX_FACTOR - 1)
    line = (
        f"all pictures are 0 beyond {end} x {end} pixels, and --severity {float(severity[0]):g} makes {low} x {low} of "
        f"them: if they were made smaller, give --severity {level:.3g}"
    )
    return [line]


def _sizes(degradation: Degradation, severity: Severities, measured: Measured) -> list[tuple[int, int]]:
    """(height, width) that each picture has at its severity."""
    shape = (measured.y.shape[1], measured.y.shape[2], measured.y.shape[3])
    made = degradation.parameters(severity, torch.arange(len(measured)), 0, shape)[SIZE]
    return [(height, width) for height, width in made.tolist()]
