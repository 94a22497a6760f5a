"""What every degradation is: y = A(x; parameters(severity)) + noise, per image."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.families import Member
from workbench.core.measurement import Measurement, as_real
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations.given import Given, check_values, zero_where_unobserved

Params = Mapping[str, Tensor]


class Degradation(Member):
    """A forward operator whose severity in [0, 1] may differ from image to image, plus Gaussian noise.

    A member is stateless: operator parameters are drawn once per image by `parameters`, travel in the Measurement
    and are passed to `A` at every call.
    """

    noise_std: float = Field(0.05, ge=0, le=1, description="standard deviation of the noise on [0, 1] images")

    identity_db: ClassVar[float]
    """At severity 0, A(x) is within this PSNR (dB) of x."""
    severity_range: ClassVar[str]
    """What severity 0 -> 1 means in pixels or physical units."""
    noise_error: ClassVar[float] = 0.0
    """By what fraction the stated noise variance may be off; 0 where it is exact."""
    unobserved: ClassVar[str] = "where it is not observed"
    """Where y is 0 since nothing was measured there."""
    when_it_is_not_zero: ClassVar[str] = "set it to 0 there, or give the operator that it comes from"
    """What to do about a y that holds other values there."""

    # class variables in most members; properties here, since in some they depend on the settings

    @property
    def linear(self) -> bool:
        """Whether A is linear, and so has an `A_adjoint`."""
        return False

    @property
    def draws_parameters(self) -> bool:
        """Whether A is drawn at random (a mask, a motion path), so that severity alone does not name it."""
        return False

    @property
    def surrogate_gradient(self) -> bool:
        """Whether A's gradient is that of a smooth stand-in, since A is rounded."""
        return False

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
        """Standard deviation of the noise per image; `params` matter only where it depends on the operator drawn."""
        return torch.full_like(severity, self.noise_std)

    def observed(self, params: Params) -> Tensor | None:
        """1 where y is measured and 0 where it is not, broadcastable to y; None: everywhere."""
        return None

    def view(self, y: Measurements, params: Params) -> Images | None:
        """The image-domain view of y that a severity encoder reads, where y is no image; None: y itself."""
        return None

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A user's own operator parameters as A takes them, and a line for each conversion.

        Args:
            params: all that the user gave, of any dtype, images first.
            image_shape: (channels, height, width) of the images that A takes.

        Raises:
            UserError: for values that A cannot have and that have no one obvious reading.
        """
        return Given(self.kind, params, (), image_shape).taken({})

    def given_measurement(
        self, y: Tensor, severity: Severities, ids: Ids, params: Params
    ) -> tuple[Measurement, list[str]]:
        """A user's own y, real or complex, with all that belongs to it, and a line for each conversion.

        Raises:
            UserError: naming the images whose y contradicts their parameters.
        """
        observed = self.observed(params)
        values, lines = self.given_values(as_real(y), params, observed)
        return self.received(values, severity, ids, params, observed), lines

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """A user's own y as A would have made it with these parameters, and a line for each conversion.

        Args:
            observed: what `observed` answers for these parameters.

        Raises:
            UserError: naming the images whose y contradicts their parameters.
        """
        check_values(y)
        if observed is None:
            return y, []
        return zero_where_unobserved(y, observed, self.unobserved, self.when_it_is_not_zero)

    def check(self, image_shape: tuple[int, int, int], gradient: bool) -> None:
        """Refuse, before compute is spent, an operator that cannot measure (channel, height, width) images.

        Args:
            gradient: whether a gradient through A is needed too.

        Raises:
            UserError: saying what to change. Operators of the workbench's own fit all images.
        """

    @abstractmethod
    def describe(self, severity: float) -> str:
        """The level at a severity in physical units, for captions."""

    def measure(self, x: Images, severity: Severities, ids: Ids, seed: int) -> Measurement:
        """Degrade x and add noise on the observed entries, both keyed by (seed, id).

        Raises:
            UserError: for a severity outside [0, 1] or in integers.
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
        """What `measure` adds its noise to: A(x), unless other noise has entered on the way."""
        return self.A(x, params)

    def received(
        self, y: Measurements, severity: Severities, ids: Ids, params: Params, observed: Tensor | None
    ) -> Measurement:
        """y, measured here or by a user, with all that belongs to it: nothing of it is computed again downstream."""
        return Measurement(
            y=y,
            ids=ids,
            noise_std=self.noise_level(severity, params),
            params=params,
            observed=observed,
            severity=severity,
            view=self.view(y, params),
        )

    def with_values(self, measurement: Measurement, y: Measurements) -> Measurement:
        """The measurement had its values been y: operator, mask and noise stay, and the view is that of y."""
        return replace(measurement, y=y, view=self.view(y, measurement.params))

    def draw_severity(self, ids: Ids, seed: int) -> Severities:
        """Severities uniform on [0, 1], keyed by (seed, id)."""
        return randomness.uniform(ids, (seed, "severity"))


def check_severity(severity: Severities) -> None:
    """Refuse severities outside [0, 1] (or NaN), and integer tensors, in which every noise level would round to 0."""
    if not severity.is_floating_point():
        raise UserError(f"severity must be a floating-point tensor, got {severity.dtype}: write 0.0 rather than 0")
    if not bool(((severity >= 0) & (severity <= 1)).all()):
        raise UserError(f"severity must lie in [0, 1], got {severity.min():g} ... {severity.max():g}")


def _like(per_image: Scalars, tensor: Tensor) -> Tensor:
    return per_image.reshape(-1, *[1] * (tensor.ndim - 1))
