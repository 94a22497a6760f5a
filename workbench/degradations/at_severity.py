"""A degradation at one fixed level, for studies of given levels."""

from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from workbench.core.families import Open
from workbench.core.measurement import Measurement
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.drawing_severity import DrawsSeverity
from workbench.degradations.gaussian_blur import GaussianBlur
from workbench.degradations.mixture import Mixture


class AtSeverity(Degradation):
    """`member` with the same `severity` for every image.

    Operators and noise are drawn by the member, keyed by (seed, id): the same image has the same mask, motion path and
    noise at every severity. `noise_std` replaces the member's own.
    """

    kind: Literal["at_severity"] = "at_severity"
    member: Annotated[DrawsSeverity, Field(discriminator="kind"), Open(Degradation)] = Field(
        GaussianBlur(), description="the degradation"
    )
    severity: float = Field(0.5, ge=0, le=1, description="level of the degradation, the same for every image")

    # class variables must hold for every member
    identity_db: ClassVar[float] = 0.0
    noise_error: ClassVar[float] = 0.2
    severity_range: ClassVar[str] = "as for the member"

    @field_validator("member")
    @classmethod
    def _with_this_noise(cls, member: Degradation, info: ValidationInfo) -> Degradation:
        # absent if noise_std itself is invalid
        noise_std = info.data.get("noise_std")
        usual, its_usual = (each.model_fields["noise_std"].default for each in (cls, type(member)))
        if noise_std is None or (noise_std == usual and its_usual != usual):  # nothing was said of it
            return member
        return member.replace(noise_std=noise_std)

    @property
    def label(self) -> str:
        """The member's kind and the level: "gaussian_blur 0.50"."""
        return f"{getattr(self.member, 'label', self.member.kind)} {self.severity:.2f}"

    @property
    def linear(self) -> bool:
        """Whether the member is linear."""
        return self.member.linear

    @property
    def measures_images(self) -> bool:
        """Whether the member does."""
        return self.member.measures_images

    @property
    def measures_sound(self) -> bool:
        """Whether the member does."""
        return self.member.measures_sound

    @property
    def draws_parameters(self) -> bool:
        """Whether the member draws parameters."""
        return self.member.draws_parameters

    @property
    def surrogate_gradient(self) -> bool:
        """Whether the member has a surrogate gradient."""
        return self.member.surrogate_gradient

    def rounds(self, params: Params) -> bool | Tensor:
        """The member's."""
        return self.member.rounds(params)

    def draw_severity(self, ids: Ids, seed: int) -> Severities:
        """`severity` for every image."""
        return torch.full((len(ids),), self.severity)

    def check(self, image_shape: tuple[int, int, int], gradient: bool) -> None:
        self.member.check(image_shape, gradient)

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """The member's."""
        return self.member.parameters(severity, ids, seed, image_shape)

    def A(self, x: Images, params: Params) -> Measurements:
        """The member's."""
        return self.member.A(x, params)

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """The member's."""
        return self.member.A_adjoint(y, params)

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """The member's."""
        return self.member.noise_level(severity, params)

    def observed(self, params: Params) -> Tensor | None:
        """The member's."""
        return self.member.observed(params)

    def view(self, y: Measurements, params: Params) -> Images | None:
        """The member's."""
        return self.member.view(y, params)

    def equivalents(self, x: Images) -> list[Images]:
        """The member's."""
        return self.member.equivalents(x)

    def before_noise(self, x: Images, ids: Ids, seed: int, params: Params) -> Measurements:
        """The member's."""
        return self.member.before_noise(x, ids, seed, params)

    def received(
        self, y: Measurements, severity: Severities, ids: Ids, params: Params, observed: Tensor | None
    ) -> Measurement:
        """The member's."""
        return self.member.received(y, severity, ids, params, observed)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """The member's."""
        return self.member.given_parameters(params, image_shape)

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """The member's."""
        return self.member.given_values(y, params, observed)

    def measure(self, x: Images, severity: Severities, ids: Ids, seed: int) -> Measurement:
        """The member's."""
        return self.member.measure(x, severity, ids, seed)

    def given_measurement(
        self, y: Tensor, severity: Severities, ids: Ids, params: Params
    ) -> tuple[Measurement, list[str]]:
        """The member's."""
        return self.member.given_measurement(y, severity, ids, params)

    def with_own_noise(self, measurement: Measurement) -> Measurement:
        """The member's."""
        return self.member.with_own_noise(measurement)

    def image_shape(self, y: Tensor) -> tuple[int, int, int]:
        """The member's."""
        return self.member.image_shape(y)

    def severity_of(self, params: Params) -> Severities | None:
        """The member's."""
        return self.member.severity_of(params)

    def for_parameters(self, params: Params) -> Self:
        """With the member for them."""
        return self.replace(member=self.member.for_parameters(params))

    def describe(self, severity: float) -> str:
        """The member's level."""
        return self.member.describe(severity)


def members_of(degradation: Degradation) -> tuple[Degradation, ...]:
    """The members of a mixture, in the order of their numbers and at its level; a degradation alone if it is none."""
    if isinstance(degradation, AtSeverity):
        return tuple(degradation.replace(member=member) for member in members_of(degradation.member))
    return tuple(degradation.members) if isinstance(degradation, Mixture) else (degradation,)
