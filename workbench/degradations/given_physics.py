"""A physics object, to restore what it measured."""

import warnings
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, field_validator
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement, as_real
from workbench.core.tensors import Ids, Severities
from workbench.degradations.base import Params
from workbench.degradations.physics_check import check_physics
from workbench.degradations.user_physics import ImageShape, UserPhysics


class GivenPhysics(UserPhysics):
    """A deepinv physics object as a degradation without severities.

    In a notebook or a script:

        from workbench.degradations import GivenPhysics
        from workbench.notebook import load_restorer

        operator = GivenPhysics(physics=physics, noise_std=0.05)
        restorer = load_restorer(operator)
        x_hat = restorer.restore_all(operator.measurement(y, image_shape=(1, 32, 32))).x_hat

    `noise_std` may be omitted if the physics has its own Gaussian noise, whose standard deviation is then used.

    A study cannot cache results of an object, because it has no name: use DeepinvPhysics with a factory there.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["given_physics"] = "given_physics"
    physics: Any

    identity_db: ClassVar[float] = 0.0
    severity_range: ClassVar[str] = "none: the physics is fixed"

    @field_validator("physics")
    @classmethod
    def _is_physics(cls, physics: object) -> object:
        from deepinv.physics import Physics

        if not isinstance(physics, Physics):
            raise ValueError(f"expected a deepinv.physics.Physics, got {type(physics).__name__}")
        return physics

    def canonical(self) -> dict[str, Any]:
        raise UserError("a physics object has no identity for caching results: use deepinv_physics with a factory")

    @property
    def label(self) -> str:
        """The class of the physics."""
        return type(self.physics).__name__

    @property
    def linear(self) -> bool:
        """Whether it is a deepinv LinearPhysics."""
        from deepinv.physics import LinearPhysics

        return isinstance(self.physics, LinearPhysics)

    def check(self, image_shape: ImageShape, gradient: bool) -> None:
        check_physics(self, image_shape, gradient)

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: ImageShape) -> Params:
        """`level` (batch,), 0 for all images; `image_shape` (batch, 3)."""
        return {
            "level": torch.zeros_like(severity),
            "image_shape": torch.tensor(image_shape, device=severity.device).expand(len(severity), -1),
        }

    def physics_for(self, level: float, seed: int | None, image_shape: ImageShape, like: Tensor) -> Any:
        return self.physics

    def describe(self, severity: float) -> str:
        """The class of the physics."""
        return self.label

    def measurement(self, y: Tensor, image_shape: ImageShape | None = None, gradient: bool = True) -> Measurement:
        """Wrap your y, real or complex, as a Measurement with ids 0, 1, 2 ..., after checking the physics.

        Args:
            image_shape: (channels, height, width) of the images to restore, if it differs from y's.
            gradient: whether the solver needs a gradient through A.

        Raises:
            UserError: if the physics cannot be used, or its measurements have another shape than y.
        """
        y = as_real(y)
        if image_shape is None:
            if y.ndim != 4:
                raise UserError(f"y has shape {tuple(y.shape)}, which is not a batch of images: pass image_shape")
            image_shape = (y.shape[1], y.shape[2], y.shape[3])
        self.check(image_shape, gradient)
        severity = torch.zeros(len(y), device=y.device)
        ids = torch.arange(len(y), device=y.device)
        params = self.parameters(severity, ids, 0, image_shape)
        with torch.no_grad():
            made = self.A(torch.zeros(1, *image_shape).to(y), {name: value[:1] for name, value in params.items()})
        if made.shape[1:] != y.shape[1:]:
            raise UserError(
                f"{self.label} measures {image_shape} images as {tuple(made.shape[1:])}, but y has shape "
                f"{tuple(y.shape[1:])}: pass the right image_shape, or use the physics that y comes from"
            )
        measurement, lines = self.given_measurement(y, severity, ids, params)
        for line in lines:
            warnings.warn(f"{self.label}: {line}", stacklevel=2)
        return replace(measurement, severity=None)  # it is unknown
