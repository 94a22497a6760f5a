"""Classical restoration without a learned prior, by deepinv: total variation and the Wiener filter, for comparison."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.core.tensors import Images
from workbench.degradations.base import Degradation
from workbench.degradations.gaussian_blur import GaussianBlur
from workbench.degradations.gaussian_noise import GaussianNoise

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics

MAX_ITERATIONS = 40
INNER_ITERATIONS = 10
"""Of the proximal operator of total variation, which continues from its last result (warm restart)."""
LEAST_NOISE = 1e-3


@torch.no_grad()
def total_variation(degradation: Degradation, measurement: Measurement, strength: float) -> Images:
    """argmin over x of ||y - A(x)||^2 / 2 + strength * noise_std * TV(x), by deepinv's FISTA and TVPrior, per image.

    Raises:
        UserError: if the operator is not linear.
    """
    from deepinv.optim import FISTA
    from deepinv.optim.data_fidelity import L2
    from deepinv.optim.prior import TVPrior

    if not degradation.linear:
        raise UserError(f"total variation is minimised for linear operators here, and {degradation.kind} is not")
    restored = []
    for i in range(len(measurement)):
        own = measurement.take(slice(i, i + 1))
        operator = _physics(degradation, own)
        generator = torch.Generator(own.y.device).manual_seed(0)
        square = operator.compute_sqnorm(own.encoder_input(), verbose=False, rng=generator)
        solve = FISTA(
            data_fidelity=L2(),
            prior=TVPrior(n_it_max=INNER_ITERATIONS),
            lambda_reg=strength * max(float(own.noise_std), LEAST_NOISE),
            stepsize=0.95 / float(square),
            max_iter=MAX_ITERATIONS,
            early_stop=True,
            thres_conv=1e-4,
        )
        y = own.residual(torch.zeros_like(own.y))  # 0 where it is not observed
        first = y if own.view is None else own.view
        restored.append(solve(y, operator, init=(first, first)))
    return torch.cat(restored).clamp(0, 1)


@torch.no_grad()
def wiener(degradation: Degradation, measurement: Measurement, strength: float) -> Images:
    """argmin over x of ||y - A(x)||^2 / 2 + strength * noise_std^2 ||L x||^2 / 2 with the Laplacian L, per image.

    By deepinv's WienerDeconvolution, for convolutions and noise alone. The filter assumes a periodic image, so y is
    continued by reflection before, and cropped after.

    Raises:
        UserError: for other operators.
    """
    from deepinv.models import WienerDeconvolution
    from deepinv.physics import BlurFFT

    if not is_convolution(degradation):
        raise UserError(f"the Wiener filter inverts convolutions, and {degradation.kind} is none")
    impulse = functional.pad(torch.ones(len(measurement), 1, 1, 1), (1,) * 4)
    filters = measurement.params.get("filter", impulse)
    restored = []
    for i in range(len(measurement)):
        own, kernel = measurement.take(slice(i, i + 1)), filters[i : i + 1].to(measurement.y)
        margin = min(2 * kernel.shape[-1], *(side - 1 for side in own.y.shape[2:]))
        y = functional.pad(own.y, (margin,) * 4, mode="reflect")
        physics = BlurFFT(img_size=tuple(y.shape[1:]), filter=kernel, device=y.device)
        noise_std = max(float(own.noise_std), LEAST_NOISE)
        x_hat = WienerDeconvolution(lambda_reg=strength * noise_std**2, device=y.device)(y, physics)
        restored.append(x_hat[..., margin:-margin, margin:-margin])
    return torch.cat(restored).clamp(0, 1)


def is_convolution(degradation: Degradation) -> bool:
    """Whether the Wiener filter can invert the operator."""
    return isinstance(degradation, (GaussianBlur, GaussianNoise))


def _physics(degradation: Degradation, measurement: Measurement) -> "LinearPhysics":
    """The operator of a measurement as deepinv's linear physics."""
    from deepinv.physics import LinearPhysics

    params = dict(measurement.params)

    class Operator(LinearPhysics):  # type: ignore[misc]  # deepinv has no types
        """A and its adjoint with the parameters of the measurement."""

        def A(self, x: Tensor, **_: Any) -> Tensor:
            return degradation.A(x, params)

        def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
            return degradation.A_adjoint(y, params)

    return Operator()
