"""Noise alone."""

from typing import ClassVar, Literal

from pydantic import Field

from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations import physics
from workbench.degradations.base import Degradation, Params

MAX_STD = 0.5  # on [0, 1] images, at severity 1


class GaussianNoise(Degradation):
    """White Gaussian noise of standard deviation `noise_std` (severity 0) to 0.5 (severity 1); y is not clipped."""

    kind: Literal["gaussian_noise"] = "gaussian_noise"
    noise_std: float = Field(0.05, ge=0, lt=MAX_STD, description="standard deviation of the noise at severity 0")

    linear: ClassVar[bool] = True
    identity_db: ClassVar[float] = 100.0
    severity_range: ClassVar[str] = "std of the noise on [0, 1] images noise_std -> 0.5, linear"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """Empty: the operator is the identity."""
        return {}

    def A(self, x: Images, params: Params) -> Measurements:
        """The images themselves."""
        return physics.identity(x).A(x)

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """The measurements themselves."""
        return physics.identity(y).A_adjoint(y)

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """The noise level, which grows linearly with the severity."""
        return self.noise_std + (MAX_STD - self.noise_std) * severity

    def severity_at(self, noise_std: float) -> float:
        """The severity with noise of this standard deviation; outside [0, 1] if none has."""
        return (noise_std - self.noise_std) / (MAX_STD - self.noise_std)

    def describe(self, severity: float) -> str:
        """The standard deviation of the noise."""
        return f"noise std {self.noise_std + (MAX_STD - self.noise_std) * severity:.3f}"
