"""Cheap tests of a user's physics, before any expensive computation."""

import math

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.families import attempt
from workbench.core.measurement import as_real
from workbench.core.tensors import Images, Measurements
from workbench.degradations.base import Params
from workbench.degradations.null_entries import measured_entries
from workbench.degradations.user_physics import ImageShape, UserPhysics

LEVELS = (0.0, 0.5, 1.0)
TOLERANCE = 1e-3  # for float32 sums in a different order, relative to the norms of the inputs


def check_physics(operator: UserPhysics, image_shape: ImageShape, gradient: bool) -> None:
    """Test `operator` on two random images at three severities.

    Raises:
        UserError: for a physics that does not accept the images, changes their shape without an inverse, draws at
            random at each call, mixes images of a batch, has its own noise or sensor, or is not differentiable (if
            `gradient` is needed) or not linear (if declared linear).
    """
    # detects draws from the global generator, and restores its state afterwards
    with torch.random.fork_rng(devices=[]):
        shapes = [_Trial(operator, level, image_shape).run(gradient) for level in LEVELS]
    if len(set(shapes)) > 1:
        listed = ", ".join(f"{_by(shape)} at {level:g}" for shape, level in zip(shapes, LEVELS, strict=True))
        raise UserError(
            f"{operator.label}: the shape of measurements depends on the severity ({listed}), so they cannot be "
            "batched: pad them to one shape"
        )


class _Trial:
    """One severity."""

    def __init__(self, operator: UserPhysics, level: float, image_shape: ImageShape) -> None:
        self.operator, self.image_shape = operator, image_shape
        self.where = f"{operator.label} at severity {level:g}"
        ids = torch.arange(2)
        self.x = randomness.uniform(ids, ("check",), image_shape)
        self.params = operator.parameters(torch.full((2,), level), ids, 0, image_shape)
        first = None
        if "seed" in self.params:  # use one physics for both images, as for images of one severity if nothing is drawn
            first = int(self.params["seed"][0])
            self.params = {**self.params, "seed": self.params["seed"][:1].expand(2)}
        self.physics = operator.physics_for(level, first, image_shape, self.x)

    def run(self, gradient: bool) -> tuple[int, ...]:
        """The shape of y."""
        self._is_physics()
        y: object = attempt(
            f"{self.where} cannot measure {_by(self.image_shape)} images", lambda: self.physics.A(self.x)
        )
        if not isinstance(y, Tensor) or not (y.is_floating_point() or y.is_complex()) or y.shape[:1] != (2,):
            raise UserError(
                f"{self.where}: A of 2 images must be a real or complex tensor with images first, got {_make(y)}"
            )
        self._noise(y)
        y = as_real(y)
        if not bool(y.isfinite().all()):
            raise UserError(f"{self.where}: A of images on [0, 1] is not finite")
        self._constancy(y)
        entries = attempt(
            f"{self.where} fails on random images", lambda: measured_entries(self.physics, self.image_shape, self.x)
        )
        if not bool(entries.any()):
            raise UserError(f"{self.where}: A gives the same result for all random images, so it measures nothing")
        if gradient:
            self._gradient()
        if self.operator.linear:
            self._linearity(y)
        self._view(y)
        return tuple(y.shape[1:])

    def _measure(self, x: Images, params: Params | None = None) -> Measurements:
        return self.operator.A(x, self.params if params is None else params)

    def _is_physics(self) -> None:
        from deepinv.physics import Physics

        physics: object = self.physics
        if not isinstance(physics, Physics):
            raise UserError(f"{self.where}: expected a deepinv.physics.Physics, got {_make(physics)}")

    def _noise(self, y: Tensor) -> None:
        """Check that the physics has no noise other than the workbench's.

        Args:
            y: in the physics' own form, real or complex.
        """
        from deepinv.physics import GaussianNoise, ZeroNoise

        physics = self.physics
        noise, noise_std = physics.noise_model, self.operator.noise_std
        if type(noise) is GaussianNoise:
            # each part of a complex value has half of the variance
            sigma = torch.as_tensor(noise.sigma) / (math.sqrt(2) if y.is_complex() else 1)
            if noise_std is not None and not torch.allclose(sigma, torch.full_like(sigma, noise_std), rtol=1e-4):
                raise UserError(
                    f"{self.where}: its own noise has a standard deviation of {sigma.max():g}, but noise_std is "
                    f"{noise_std:g}: make them equal (or remove noise_std), or set its noise_model to ZeroNoise()"
                )
            if not torch.equal(sigma, sigma.flatten()[0].expand_as(sigma)):
                raise UserError(f"{self.where}: its own noise must have one standard deviation for all images")
        elif type(noise) is not ZeroNoise:
            raise UserError(
                f"{self.where}: its noise model is {type(noise).__name__}, but only Gaussian noise of noise_std is "
                "supported: set its noise_model to ZeroNoise() to use that"
            )
        sensed = attempt(f"{self.where}: its sensor_model fails", lambda: physics.sensor(self.x))
        if not torch.equal(sensed, self.x):
            raise UserError(f"{self.where}: its sensor_model is not part of A and would be ignored: move it into A")

    def _constancy(self, y: Measurements) -> None:
        """Check that A is deterministic and acts on each image independently."""
        self.operator.forget()
        if not _same(self._measure(self.x), y):
            raise UserError(
                f"{self.where}: two calls measure the same images differently, so it draws at random: draw once (a "
                "factory may take `seed` and draw from torch.Generator().manual_seed(seed))"
            )
        last = {name: value[1:] for name, value in self.params.items()}
        alone = attempt(f"{self.where} measures two images, but not one", lambda: self._measure(self.x[1:], last))
        if len(alone) != 1:
            raise UserError(f"{self.where} measures two images, but not one: A of 1 image has {len(alone)} rows")
        if not _same(alone, y[1:]):
            raise UserError(f"{self.where}: an image is measured differently in a batch than alone")

    def _gradient(self) -> None:
        advice = "write A in torch operations that can be differentiated, or choose a solver without guidance"
        x = self.x.clone().requires_grad_(True)

        def differentiate() -> Tensor:
            with torch.enable_grad():
                y = self._measure(x)
                weight = torch.rand(y.shape, generator=randomness.generator("check"))
                (gradient,) = torch.autograd.grad((y * weight).sum(), x)
            return gradient

        gradient = attempt(f"{self.where} is not differentiable: {advice}", differentiate)
        finite = bool(gradient.isfinite().all())
        if not finite or not bool(gradient.any()):
            found = "zero everywhere" if finite else "not finite"
            raise UserError(f"{self.where} is not differentiable (its gradient is {found}): {advice}")

    def _linearity(self, y: Measurements) -> None:
        combined = self._measure(2 * self.x - 3 * self.x.flip(0))
        if not _same(combined, 2 * y - 3 * y.flip(0)):
            raise UserError(f"{self.where} is declared linear but is not")
        v = torch.randn(y.shape, generator=randomness.generator("check"))
        back = attempt(f"{self.where}: A_adjoint fails", lambda: self.operator.A_adjoint(v, self.params))
        if back.shape != self.x.shape:
            raise UserError(f"{self.where}: A_adjoint returns {_make(back)}, expected {_by(self.image_shape)} images")
        if abs((y * v).sum() - (self.x * back).sum()) > TOLERANCE * y.norm() * v.norm():
            raise UserError(f"{self.where}: A_adjoint is not the adjoint of A")

    def _view(self, y: Measurements) -> None:
        """Check that a severity encoder gets an image to read."""
        if not self.operator.needs_view(self.physics, y, self.image_shape):
            return
        failing = (
            f"{self.where} measures {_by(self.image_shape)} images as {_by(y.shape[1:])}, and the severity encoder "
            "reads A_dagger(y), which must have the shape of the images: give the physics a suitable A_dagger. It"
        )
        view: object = attempt(
            f"{failing} fails", lambda: self.operator.led_back(self.physics, y[:1], self.image_shape)
        )
        if not isinstance(view, Tensor) or view.shape != self.x[:1].shape:
            raise UserError(f"{failing} returns {_make(view)} for one")
        if not bool(view.isfinite().all()):
            raise UserError(f"{failing} returns values that are not finite")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).norm() <= TOLERANCE * other.norm())


def _by(shape: "tuple[int, ...] | torch.Size") -> str:
    return " x ".join(map(str, shape))


def _make(value: object) -> str:
    """A short description of a value."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of {_by(value.shape)}"
    return f"a {type(value).__name__}"
