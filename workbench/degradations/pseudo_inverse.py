"""The regularised inverse of a linear degradation: the image that explains y and stays close to grey."""

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.core.tensors import Images
from workbench.degradations.base import Degradation

IMAGE_STD = 0.3
"""Typical standard deviation of a pixel on [0, 1] around its image's mean: the contrast of natural images."""
MAX_ITERATIONS = 30
TOLERANCE = 1e-4


def pseudo_inverse(degradation: Degradation, measurement: Measurement) -> Images:
    """argmin over x of |y - A(x)|^2 / noise_std^2 + |x - mean|^2 / IMAGE_STD^2, per image, by conjugate gradients.

    This is the maximum a posteriori estimate for white Gaussian images around a grey level. It is linear in y.

    Raises:
        UserError: if the operator is not linear.
    """
    from deepinv.optim.linear import least_squares

    if not degradation.linear:
        raise UserError(f"{degradation.kind} is not linear and has no pseudo-inverse: use severity_encoder.guess=view")
    params = dict(measurement.params)
    y, mask = measurement.y, measurement.observed
    noise_std = measurement.noise_std.clamp(min=1e-3).reshape(-1, 1, 1, 1)
    grey = _grey(degradation, measurement)

    def a(x: Tensor) -> Tensor:
        prediction = degradation.A(x, params)
        return prediction if mask is None else prediction * mask

    solution: Tensor = least_squares(
        a,
        lambda r: degradation.A_adjoint(r, params),
        y if mask is None else y * mask,
        z=grey,
        init=grey,
        gamma=(IMAGE_STD / noise_std).square(),
        solver="CG",
        max_iter=MAX_ITERATIONS,
        tol=TOLERANCE,
    )
    return solution


def _grey(degradation: Degradation, measurement: Measurement) -> Images:
    """The uniform grey image that explains y best: its level is <A(1), y> / <A(1), A(1)> over the observed entries."""
    ones = torch.ones_like(measurement.encoder_input())
    of_ones = degradation.A(ones, dict(measurement.params))
    seen = of_ones if measurement.observed is None else of_ones * measurement.observed
    level = (seen * measurement.y).flatten(1).sum(1) / seen.square().flatten(1).sum(1).clamp(min=1e-12)
    return level.reshape(-1, 1, 1, 1) * ones
