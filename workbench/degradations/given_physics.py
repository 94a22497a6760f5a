"""A physics object at hand, to restore what it measured."""

import warnings
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, field_validator
from torch import Tensor

from workbench.config import UserError
from workbench.degradations.base import Params
from workbench.degradations.physics_check import check_physics
from workbench.degradations.user_physics import ImageShape, UserPhysics
from workbench.measurement import Measurement, as_real
from workbench.tensors import Ids, Severities


class GivenPhysics(UserPhysics):
    """A deepinv physics object as a degradation without severities.

    In a notebook or a script:

        from workbench.degradations import GivenPhysics
        from workbench.notebook import load_restorer

        operator = GivenPhysics(physics=physics, noise_std=0.05)
        restorer = load_restorer(operator)
        x_hat = restorer.restore_all(operator.measurement(y, image_shape=(1, 32, 32))).x_hat

    `noise_std` may be left out where the physics has Gaussian noise of its own, whose level it then is.

    An object cannot be named in a study's cache: there, use DeepinvPhysics with the function that makes it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["given_physics"] = "given_physics"
    physics: Any

    identity_db: ClassVar[float] = 0.0
    severity_range: ClassVar[str] = "none: the physics is what it is"

    @field_validator("physics")
    @classmethod
    def _is_physics(cls, physics: object) -> object:
        from deepinv.physics import Physics

        if not isinstance(physics, Physics):
            raise ValueError(f"expected a deepinv.physics.Physics, got {type(physics).__name__}")
        return physics

    def canonical(self) -> dict[str, Any]:
        raise UserError("a physics object has no identity to cache results by: use deepinv_physics with a function")

    @property
    def label(self) -> str:
        """The physics' class."""
        return type(self.physics).__name__

    @property
    def linear(self) -> bool:
        """Whether it is one of deepinv's linear physics."""
        from deepinv.physics import LinearPhysics

        return isinstance(self.physics, LinearPhysics)

    def check(self, image_shape: ImageShape, gradient: bool) -> None:
        check_physics(self, image_shape, gradient)

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: ImageShape) -> Params:
        """`level` (batch,), 0 for all; `image_shape` (batch, 3)."""
        return {
            "level": torch.zeros_like(severity),
            "image_shape": torch.tensor(image_shape, device=severity.device).expand(len(severity), -1),
        }

    def physics_for(self, level: float, seed: int | None, image_shape: ImageShape, like: Tensor) -> Any:
        return self.physics

    def describe(self, severity: float) -> str:
        """The physics' class."""
        return self.label

    def measurement(self, y: Tensor, image_shape: ImageShape | None = None, gradient: bool = True) -> Measurement:
        """Your y, real or complex, as a Measurement with ids 0, 1, 2 ..., after the physics has been checked.

        Args:
            image_shape: (channels, height, width) of the images to restore, where it is not that of y.
            gradient: whether the solver needs a gradient through A.

        Raises:
            UserError: if the physics cannot be used, or makes measurements of another shape than y.
        """
        y = as_real(y)
        if image_shape is None:
            if y.ndim != 4:
                raise UserError(f"y has shape {tuple(y.shape)}, which is no batch of images: say their image_shape")
            image_shape = (y.shape[1], y.shape[2], y.shape[3])
        self.check(image_shape, gradient)
        severity = torch.zeros(len(y), device=y.device)
        ids = torch.arange(len(y), device=y.device)
        params = self.parameters(severity, ids, 0, image_shape)
        with torch.no_grad():
            made = self.A(torch.zeros(1, *image_shape).to(y), {name: value[:1] for name, value in params.items()})
        if made.shape[1:] != y.shape[1:]:
            raise UserError(
                f"{self.label} measures {image_shape} images as {tuple(made.shape[1:])}, but y holds "
                f"{tuple(y.shape[1:])}: say the right image_shape, or take the physics that y comes from"
            )
        measurement, lines = self.given_measurement(y, severity, ids, params)
        for line in lines:
            warnings.warn(f"{self.label}: {line}", stacklevel=2)
        return replace(measurement, severity=None)  # which is not known
