"""Several degradations in sequence."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.families import Open
from workbench.core.measurement import Measurement
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.deepinv_physics import DeepinvPhysics
from workbench.degradations.gaussian_blur import GaussianBlur
from workbench.degradations.gaussian_noise import GaussianNoise
from workbench.degradations.given import Given
from workbench.degradations.haze import Haze
from workbench.degradations.jpeg import JPEG
from workbench.degradations.motion_blur_crf import MotionBlurCRF
from workbench.degradations.random_inpainting import RandomInpainting
from workbench.degradations.super_resolution import SuperResolution

Part = Annotated[
    GaussianBlur | RandomInpainting | MotionBlurCRF | GaussianNoise | SuperResolution | JPEG | Haze | DeepinvPhysics,
    Field(discriminator="kind"),
    Open(Degradation),
]

NUM_DRAWS = 2
"""Number of samples of the inner noise to estimate its level in y; every pixel is a sample."""


class Compose(Degradation):
    """`parts` in the order in which they act on an image, each at its own severity.

    The severity of the composition is that of its worst part. The severity of each other part is a fraction of it,
    uniform on [0, 1] and keyed by (seed, id, position). So the parts' severities are distributed like independent
    uniform ones, given their maximum, and all grow with the severity. `shares` sets fixed fractions instead.

    The noise of a part (`gaussian_noise`) enters after that part and is transformed by the parts that follow. A is the
    composition *without* noise, which no restorer can know. `noise_std` of a measurement is the expected root mean
    square of y - A(x): the noise added to y, and the inner noise as it arrives in y. The latter is estimated by passing
    noise through the parts with y in place of x. This is exact up to sampling if the parts after the noise are linear;
    the variance is about a tenth too large if they clip or compress and y is less clean than x.

    A part's own `noise_std`, its noise at severity 0, is set to 0: the noise of the composition is added to y.
    """

    kind: Literal["compose"] = "compose"
    parts: tuple[Part, ...] = Field(
        (GaussianBlur(), GaussianNoise(), JPEG()),
        min_length=1,
        description="degradations in the order in which they act; one that leaves pixels unobserved or changes the "
        "image's shape must be the last",
    )
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = Field(
        None, description="each part's severity as a fraction of the composition's; none: drawn for each image"
    )

    identity_db: ClassVar[float] = 20.0
    noise_error: ClassVar[float] = 0.2
    severity_range: ClassVar[str] = "severity of the worst part, in its own units"

    @field_validator("parts", mode="before")
    @classmethod
    def _no_nesting(cls, parts: Any) -> Any:
        for part in parts if isinstance(parts, list | tuple) else ():
            kind = part.get("kind") if isinstance(part, dict) else getattr(part, "kind", None)
            if kind == "compose":
                raise ValueError("a part cannot be compose: list its parts directly")
            if kind == "mixture":
                raise ValueError("a part cannot be mixture, whose kind of operator varies between images")
        return parts

    @field_validator("parts")
    @classmethod
    def _images_in_between(cls, parts: tuple[Degradation, ...]) -> tuple[Degradation, ...]:
        for part in parts[:-1]:
            # a part that defines `observed` or `view` has a y that is not a plain image
            if type(part).observed is not Degradation.observed or type(part).view is not Degradation.view:
                raise ValueError(
                    f"{part.kind} must be the last part: it may leave pixels unobserved or change the image's shape, "
                    "but the parts after it need whole images"
                )
        return tuple(part.replace(noise_std=0.0) for part in parts)

    @field_validator("shares")
    @classmethod
    def _one_for_each(cls, shares: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        parts = info.data.get("parts")  # absent if the parts themselves are invalid
        if shares is not None and parts is not None:
            if len(shares) != len(parts):
                raise ValueError(f"give one share for each of the {len(parts)} parts, got {len(shares)}")
            if max(shares) != 1:
                raise ValueError(f"the largest share, that of the worst part, must be 1, got {max(shares):g}")
        return shares

    @property
    def linear(self) -> bool:
        """Whether every part is linear."""
        return all(part.linear for part in self.parts)

    @property
    def draws_parameters(self) -> bool:
        """Whether shares are drawn, or a part draws parameters."""
        drawn = self.shares is None and len(self.parts) > 1
        return drawn or any(part.draws_parameters for part in self.parts)

    @property
    def surrogate_gradient(self) -> bool:
        """Whether a part has a surrogate gradient."""
        return any(part.surrogate_gradient for part in self.parts)

    def check(self, image_shape: tuple[int, int, int], gradient: bool) -> None:
        for part in self.parts:
            part.check(image_shape, gradient)

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`severity` (batch, parts), and every part's parameters as `POSITION.KIND.NAME`."""
        if self.shares is None:
            draw = randomness.uniform(ids, (seed, "share"), (len(self.parts),)).to(severity)
            shares = draw / draw.amax(1, keepdim=True)
        else:
            shares = severity.new_tensor(self.shares).expand(len(severity), -1)
        severities = shares * severity[:, None]
        params: dict[str, Tensor] = {"severity": severities}
        for position, part in enumerate(self.parts):
            # by position: two parts of one kind draw independently
            own = part.parameters(severities[:, position], ids, randomness.seed_of(seed, position), image_shape)
            params |= {f"{position}.{part.kind}.{name}": value for name, value in own.items()}
        return params

    def A(self, x: Images, params: Params) -> Measurements:
        """Apply the parts in sequence, without noise."""
        for part, own, _ in self._each(params):
            x = part.A(x, own)
        return x

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """Apply the parts' adjoints in reverse order."""
        if not self.linear:
            stubborn = ", ".join(part.kind for part in self.parts if not part.linear)
            raise UserError(f"compose is not linear, because {stubborn} is not: it has no adjoint")
        for part, own, _ in reversed(list(self._each(params))):
            y = part.A_adjoint(y, own)
        return y

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """Standard deviation of the noise added after the last part, including the last part's own.

        Raises:
            ValueError: without `params`, which contain the severity of the last part.
        """
        if params is None:
            raise ValueError("the noise of compose depends on its last part's severity: pass params")
        *_, (part, own, level) = self._each(params)
        return torch.full_like(severity, self.noise_std).hypot(part.noise_level(level, own))

    def observed(self, params: Params) -> Tensor | None:
        """`observed` of the last part."""
        *_, (part, own, _) = self._each(params)
        return part.observed(own)

    def view(self, y: Measurements, params: Params) -> Images | None:
        """`view` of the last part."""
        *_, (part, own, _) = self._each(params)
        return part.view(y, own)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """The parts' severities, and every part's parameters by its own rules."""
        prefixes = tuple(f"{position}.{part.kind}." for position, part in enumerate(self.parts))
        of_parts = [name for name in params if name.startswith(prefixes)]
        given = Given(self.kind, params, ("severity", *of_parts), image_shape)
        taken = {"severity": given.numbers("severity", len(self.parts), low=0, high=1)}
        for part, prefix in zip(self.parts, prefixes, strict=True):
            taken |= given.part(prefix, part.given_parameters)
        return given.taken(taken)

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """`given_values` of the last part."""
        *_, (part, own, _) = self._each(params)
        return part.given_values(y, own, observed)

    def describe(self, severity: float) -> str:
        """Every part's level, or its maximum if shares are drawn."""
        shares = self.shares or (1.0,) * len(self.parts)
        levels = "; ".join(
            f"{part.kind} {part.describe(share * severity)}" for part, share in zip(self.parts, shares, strict=True)
        )
        return levels if self.shares else f"at most {levels}"

    def before_noise(self, x: Images, ids: Ids, seed: int, params: Params) -> Measurements:
        """Apply the parts in sequence, each but the last followed by its noise."""
        for position, (part, own, level) in enumerate(self._each(params)):
            x = part.A(x, own)
            if position < len(self.parts) - 1:
                x = x + _noise(part.noise_level(level, own), x, ids, seed, position)
        return x

    def received(
        self, y: Measurements, severity: Severities, ids: Ids, params: Params, observed: Tensor | None
    ) -> Measurement:
        """Complete y to a Measurement; `noise_std` includes the inner noise as it arrives in y."""
        measurement = super().received(y, severity, ids, params, observed)
        inner = self._inner_noise(measurement)
        return replace(measurement, noise_std=measurement.noise_std.hypot(inner))

    @torch.no_grad()
    def _inner_noise(self, measurement: Measurement) -> Scalars:
        """Root mean square of the noise in y that enters between the parts, per image."""
        params, ids = measurement.params, measurement.ids
        levels = [part.noise_level(level, own) for part, own, level in list(self._each(params))[:-1]]
        total = torch.zeros_like(measurement.noise_std)
        if not any(bool(level.any()) for level in levels):
            return total
        stand_in = measurement.encoder_input()
        clean = self.A(stand_in, params)
        for draw in range(NUM_DRAWS):
            # with its own key, to be independent of the noise in y
            change = self.before_noise(stand_in, ids, randomness.seed_of("inner noise", draw), params) - clean
            if measurement.observed is not None:
                change = change * measurement.observed
            total += change.flatten(1).square().sum(1) / measurement.num_observed()
        return (total / NUM_DRAWS).sqrt()

    def _each(self, params: Params) -> Iterator[tuple[Degradation, Params, Severities]]:
        """Every part, its parameters by their own names, and its severities."""
        for position, part in enumerate(self.parts):
            prefix = f"{position}.{part.kind}."
            own = {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
            yield part, own, params["severity"][:, position]


def _noise(level: Scalars, like: Tensor, ids: Ids, seed: int, position: int) -> Tensor:
    """Gaussian noise with one standard deviation per image, keyed by (seed, id, position)."""
    if not bool(level.any()):
        return torch.zeros_like(like)
    noise = randomness.normal(ids, (seed, "noise", position), tuple(like.shape[1:]))
    return noise.to(like) * level.reshape(-1, *[1] * (like.ndim - 1)).to(like)
