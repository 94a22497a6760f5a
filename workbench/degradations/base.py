"""The base class of degradations: y = A(x; parameters(severity)) + noise, per image."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.families import Member
from workbench.core.measurement import Measurement, as_real
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations.as_physics import as_physics
from workbench.degradations.given import Given, check_values, zero_where_unobserved
from workbench.degradations.member_check import check_member

Params = Mapping[str, Tensor]


class Degradation(Member):
    """A forward operator whose severity in [0, 1] may differ between images, plus Gaussian noise.

    Members are stateless: operator parameters are drawn once per image by `parameters`, stored in the Measurement
    and passed to `A` at every call.
    """

    noise_std: float = Field(0.05, ge=0, le=1, description="standard deviation of the noise on [0, 1] images")

    identity_db: ClassVar[float]
    """At severity 0, the PSNR of A(x) with respect to x is at least this (dB)."""
    severity_range: ClassVar[str]
    """The meaning of severity 0 -> 1 in pixels or physical units."""
    noise_error: ClassVar[float] = 0.0
    """Relative error of the stated noise variance; 0 if it is exact."""
    unobserved: ClassVar[str] = "where it is not observed"
    """Where y is 0 because nothing was measured."""
    when_it_is_not_zero: ClassVar[str] = "set it to 0 there, or give the operator that it comes from"
    """The remedy for a y with other values there."""

    derived: ClassVar[tuple[str, ...]] = ()
    """Parameters that follow from the measurement or the image, which a user does not give."""

    # class variables in most members; properties here, because in some they depend on the settings

    @property
    def linear(self) -> bool:
        """Whether A is linear and therefore has an `A_adjoint`."""
        return False

    @property
    def measures_images(self) -> bool:
        """Whether y is an image; else `image_shape` tells the image's."""
        return True

    @property
    def measures_sound(self) -> bool:
        """Whether y is a waveform, and images are of sound."""
        return False

    @property
    def draws_parameters(self) -> bool:
        """Whether A is drawn at random (a mask, a motion path), so that the severity alone does not determine it."""
        return False

    @property
    def surrogate_gradient(self) -> bool:
        """Whether A's gradient is that of a smooth surrogate, because A rounds."""
        return False

    def rounds(self, params: Params) -> bool | Tensor:
        """`surrogate_gradient` for all images, or for each, (batch,) bool, if they have different operators."""
        return self.surrogate_gradient

    @abstractmethod
    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """Per-image operator parameters for (channel, height, width) images, keyed by (seed, id)."""

    @abstractmethod
    def A(self, x: Images, params: Params) -> Measurements:
        """The noiseless measurement of x; differentiable in x."""

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """The adjoint of A; linear members only."""
        raise UserError(f"{self.kind} is not linear: it has no adjoint")

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """Standard deviation of the noise per image; `params` are only needed if it depends on the drawn operator."""
        return torch.full_like(severity, self.noise_std)

    def observed(self, params: Params) -> Tensor | None:
        """1 where y is measured and 0 where it is not, broadcastable to y; None if it is measured everywhere."""
        return None

    def view(self, y: Measurements, params: Params) -> Images | None:
        """The image-domain view of y that a severity encoder reads, if y is not an image; None: y itself."""
        return None

    def equivalents(self, x: Images) -> list[Images]:
        """The images besides x, per image, whose measurement A(x) is the same, so that y cannot tell them."""
        return []

    def image_shape(self, y: Tensor) -> tuple[int, int, int]:
        """(channel, height, width) of the images with a user's measurements y, whose axes of size 1 may be missing.

        Raises:
            UserError: if there are none.
        """
        return y.shape[1], y.shape[2], y.shape[3]

    def for_parameters(self, params: Params) -> Self:
        """The operator with the settings that a user's parameters have."""
        return self

    def severity_of(self, params: Params) -> Severities | None:
        """The severity that parameters have; None if they do not tell it."""
        return None

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """Convert a user's operator parameters to A's, with a message for each conversion.

        Args:
            params: all arrays from the user, of any dtype, with images along the first axis.
            image_shape: (channels, height, width) of the images that A takes.

        Raises:
            UserError: for values that are invalid for A and cannot be converted unambiguously.
        """
        return Given(self.kind, params, (), image_shape).taken({})

    def given_measurement(
        self, y: Tensor, severity: Severities, ids: Ids, params: Params
    ) -> tuple[Measurement, list[str]]:
        """Wrap a user's y, real or complex, as a Measurement, with a message for each conversion.

        Raises:
            UserError: with the images whose y contradicts their parameters.
        """
        observed = self.observed(params)
        values, lines = self.given_values(as_real(y), params, observed)
        return self.received(values, severity, ids, params, observed), lines

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """Convert a user's y to what A would have returned with these parameters, with a message for each conversion.

        Args:
            observed: the result of `observed` for these parameters.

        Raises:
            UserError: with the images whose y contradicts their parameters.
        """
        check_values(y)
        if observed is None:
            return y, []
        return zero_where_unobserved(y, observed, self.unobserved, self.when_it_is_not_zero)

    def check(self, image_shape: tuple[int, int, int], gradient: bool) -> None:
        """Reject, before any expensive computation, an operator that cannot measure (channel, height, width) images.

        Args:
            gradient: whether a gradient through A is needed.

        Raises:
            UserError: with the remedy. Built-in operators accept all images; a class of your own measures two.
        """
        if self._is_open:
            check_member(self, image_shape, gradient)

    @abstractmethod
    def describe(self, severity: float) -> str:
        """The level at a severity in physical units, for captions."""

    def measure(self, x: Images, severity: Severities, ids: Ids, seed: int) -> Measurement:
        """Degrade x and add noise on the observed entries, both keyed by (seed, id).

        Raises:
            UserError: for a severity outside [0, 1] or of an integer dtype.
        """
        check_severity(severity)
        params = self.parameters(severity, ids, seed, (x.shape[1], x.shape[2], x.shape[3]))
        with torch.no_grad():
            clean = self.before_noise(x, ids, seed, params)
        observed = self.observed(params)
        noise = randomness.normal(ids, (seed, "noise"), tuple(clean.shape[1:]))
        noise = noise * _like(self.noise_level(severity, params), clean)
        y = clean + (noise if observed is None else noise * observed)
        return self.received(y, severity, ids, params, observed)

    def before_noise(self, x: Images, ids: Ids, seed: int, params: Params) -> Measurements:
        """The image that `measure` adds noise to: A(x), unless noise has entered before."""
        return self.A(x, params)

    def received(
        self, y: Measurements, severity: Severities, ids: Ids, params: Params, observed: Tensor | None
    ) -> Measurement:
        """Complete a y, simulated or from a user, to a Measurement; nothing in it is recomputed downstream."""
        return Measurement(
            y=y,
            ids=ids,
            noise_std=self.noise_level(severity, params),
            params=params,
            observed=observed,
            severity=severity,
            view=self.view(y, params),
        )

    def with_own_noise(self, measurement: Measurement) -> Measurement:
        """A measurement of an operator that differs in its noise only, as one of this operator."""
        assert measurement.severity is not None
        own = measurement.severity, measurement.ids, measurement.params
        return self.received(measurement.y, *own, measurement.observed)

    def with_values(self, measurement: Measurement, y: Measurements) -> Measurement:
        """The same measurement with values y: operator, mask and noise are kept, and the view is that of the new y."""
        return replace(measurement, y=y, view=self.view(y, measurement.params))

    def reconstruct(self, reconstruct: Callable[[Tensor, Any], Tensor], measurement: Measurement) -> Any:
        """The result of `reconstruct(y, physics)` with a deepinv physics of these measurements, unchecked."""
        return reconstruct(measurement.y, as_physics(self, measurement))

    def draw_severity(self, ids: Ids, seed: int) -> Severities:
        """Draw severities uniformly on [0, 1], keyed by (seed, id)."""
        return randomness.uniform(ids, (seed, "severity"))


def check_severity(severity: Severities) -> None:
    """Reject severities outside [0, 1] (or NaN), and integer tensors, which would round every noise level to 0."""
    if not severity.is_floating_point():
        raise UserError(f"severity must be a floating-point tensor, got {severity.dtype}: write 0.0 rather than 0")
    if not bool(((severity >= 0) & (severity <= 1)).all()):
        low, high = float(severity.min()), float(severity.max())
        raise UserError(f"severity must be in [0, 1], got {low:g}" + ("" if low == high else f" ... {high:g}"))


def _like(per_image: Scalars, tensor: Tensor) -> Tensor:
    return per_image.reshape(-1, *[1] * (tensor.ndim - 1))
