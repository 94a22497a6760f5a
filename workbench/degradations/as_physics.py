"""A degradation with the parameters of one batch as a deepinv physics, for deepinv's own reconstructors."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from workbench.core.measurement import Measurement

if TYPE_CHECKING:
    from workbench.degradations.base import Degradation


def as_physics(degradation: "Degradation", measurement: Measurement) -> Any:
    """A deepinv physics of these measurements: linear if the degradation is, with Gaussian noise of their levels.

    It holds the parameters of the whole batch, and is called with all its images at once. Unobserved entries are 0.
    """
    from deepinv.physics import GaussianNoise, LinearPhysics, Physics

    params, mask = dict(measurement.params), measurement.observed

    def measure(x: Tensor, **_: Any) -> Tensor:
        y = degradation.A(x, params)
        return y if mask is None else y * mask

    def adjoint(y: Tensor, **_: Any) -> Tensor:
        return degradation.A_adjoint(y if mask is None else y * mask, params)

    noise = GaussianNoise(sigma=measurement.noise_std)
    if not degradation.linear:
        return Physics(A=measure, noise_model=noise)
    return LinearPhysics(
        A=measure, A_adjoint=adjoint, img_size=tuple(measurement.encoder_input().shape[1:]), noise_model=noise
    )
