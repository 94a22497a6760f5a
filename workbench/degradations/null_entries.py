"""Which entries of y a user's physics measures, and which are independent of the image."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.measurement import as_real

if TYPE_CHECKING:
    from deepinv.physics import Physics

NUM_LINEAR = 4
"""Number of random images: a linear entry that is not null is the same for all of them with probability 0."""
NUM_NONLINEAR = 32
"""For nonlinear physics: more images, half of them black and white, because an entry may be 0 for many images."""
NEGLIGIBLE = 1e-6
"""Relative to the entry that varies most: variation below this is rounding in transforms."""


@torch.no_grad()
def measured_entries(physics: "Physics", image_shape: tuple[int, int, int], like: Tensor) -> Tensor:
    """1 for the entries of A(x) that depend on x, and 0 for those that do not, such as entries dropped by a mask.

    Found empirically, as the entries that are the same (0, if linear) for all test images: a few random images if the
    physics is a deepinv LinearPhysics, else many, including black-and-white, all-black and all-white images.

    Args:
        image_shape: (channels, height, width) of x.
        like: tensor that sets device and precision.

    Returns:
        One mask for all images, (1, ...), with the shape of a measurement.
    """
    from deepinv.physics import LinearPhysics

    is_linear = isinstance(physics, LinearPhysics)
    num = NUM_LINEAR if is_linear else NUM_NONLINEAR
    x = randomness.uniform(torch.arange(num), ("null entries",), image_shape)
    if not is_linear:
        black_and_white = x[: num // 2].round()
        black_and_white[0], black_and_white[1] = 0, 1
        x = torch.cat([black_and_white, x[num // 2 :]])
    values = as_real(physics.A(x.to(like)))
    spread = values.amax(0, keepdim=True) - values.amin(0, keepdim=True)
    return (spread > NEGLIGIBLE * spread.max()).to(like)
