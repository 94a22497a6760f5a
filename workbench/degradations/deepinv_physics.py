"""Any deepinv physics, built-in or the user's, named by a factory function."""

import functools
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, JsonValue, ValidationInfo, field_validator
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.families import allow, attempt, find, source_digest
from workbench.core.tensors import Ids, Severities
from workbench.degradations.base import Params
from workbench.degradations.given import Given, refuse
from workbench.degradations.physics_check import check_physics
from workbench.degradations.user_physics import ImageShape, UserPhysics

if TYPE_CHECKING:
    from deepinv.physics import Physics

OFFERED = ("image_shape", "seed", "device")
"""Optional arguments that are passed to a factory if it accepts them."""

NUM_KEPT = 128
"""Maximum number of cached physics objects; above the default number of images restored at once."""


class DeepinvPhysics(UserPhysics):
    """The physics that your factory returns for a severity in [0, 1].

    In an importable module (say optics.py in the folder where you run `python -m workbench`):

        from deepinv.physics import Blur
        from deepinv.physics.blur import gaussian_blur

        def astigmatism(severity: float, angle: float = 30.0) -> Blur:
            return Blur(gaussian_blur((0.3 + 2 * severity, 0.3), angle), padding="replicate")

    Then, to show it and to restore images degraded by it (every other command takes the same overrides):

        python -m workbench data show npy --degradation deepinv_physics --degradation.factory=optics:astigmatism ...
        python -m workbench restore --operator deepinv_physics --degradation.factory=optics:astigmatism ...

    The factory is called as factory(severity, **settings). If it has parameters of these names, it also gets
    `image_shape` (channels, height, width), `seed` (an int per image, for operators drawn at random) and `device`. It
    is called for each severity, so it need not handle batches. Its physics are called with images only, and never with
    parameters, which deepinv's physics would store.

    The source of the factory's module is part of the identity: after a change, results are recomputed.
    """

    kind: Literal["deepinv_physics"] = "deepinv_physics"
    factory: str = Field(description="MODULE:FUNCTION, the factory that returns the physics for a severity")
    settings: dict[str, JsonValue] = Field({}, description="further arguments of the factory")
    claims_linear: bool = Field(
        False, description="declare that A is linear with adjoint A_adjoint, for solvers that need it; this is checked"
    )

    identity_db: ClassVar[float] = 0.0
    severity_range: ClassVar[str] = "severity 0 -> 1 as defined by the factory"

    @field_validator("factory")
    @classmethod
    def _is_there(cls, name: str) -> str:
        _signature(_factory(name))
        return name

    @field_validator("settings")
    @classmethod
    def _fit(cls, settings: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        name = info.data.get("factory")  # absent if it is invalid itself
        if name is not None:
            function = _factory(name)
            try:
                _signature(function).bind(0.5, **settings, **dict.fromkeys(_offered(function)))
            except TypeError as error:
                raise ValueError(f"{name} cannot be called with severity and these settings: {error}") from None
        return settings

    @classmethod
    def of(cls, function: "Callable[..., Physics]", **fields: Any) -> Self:
        """The degradation of a function object: `DeepinvPhysics.of(astigmatism, settings={"angle": 45.0})`."""
        allow(function.__module__)
        return cls.parse({"factory": f"{function.__module__}:{function.__qualname__}", **fields})

    def canonical(self) -> dict[str, Any]:
        return super().canonical() | {"source": source_digest(_factory(self.factory))}

    @property
    def label(self) -> str:
        """The factory."""
        return self.factory

    @property
    def linear(self) -> bool:
        """As declared."""
        return self.claims_linear

    @property
    def draws_parameters(self) -> bool:
        """Whether the factory takes a seed."""
        return "seed" in _offered(_factory(self.factory))

    def check(self, image_shape: ImageShape, gradient: bool) -> None:
        check_physics(self, image_shape, gradient)

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: ImageShape) -> Params:
        """`level` (batch,), the severity; `image_shape` (batch, 3); and `seed` (batch,) if the factory takes one."""
        params = {
            "level": severity,
            "image_shape": torch.tensor(image_shape, device=severity.device).expand(len(severity), -1),
        }
        if self.draws_parameters:
            draws = randomness.per_image(ids, (seed, "physics"), lambda g: torch.randint(2**31, (), generator=g))
            params["seed"] = draws.to(severity.device)
        return params

    def given_parameters(self, params: Params, image_shape: ImageShape) -> tuple[Params, list[str]]:
        """Severities, seeds and the shape of the images."""
        seed = ("seed",) if self.draws_parameters else ()
        given = Given(self.kind, params, ("level", "image_shape", *seed), image_shape)
        taken = {
            "level": given.numbers("level", low=0, high=1, meaning="the severity"),
            "image_shape": given.numbers("image_shape", 3, low=1, high=max(image_shape), whole=True).long(),
        }
        refuse(
            (taken["image_shape"] != torch.tensor(image_shape)).any(1),
            f"image_shape of {self.kind} differs from that of the images, {image_shape}",
        )
        if seed:
            taken["seed"] = given.numbers("seed", low=0, high=2**31 - 1, whole=True).long()
        return given.taken(taken)

    def physics_for(self, level: float, seed: int | None, image_shape: ImageShape, like: Tensor) -> "Physics":
        settings = json.dumps(self.settings, sort_keys=True)
        function = _factory(self.factory)
        return attempt(
            f"{self.factory} fails at severity {level:g}",
            lambda: _make(function, settings, level, seed, image_shape, str(like.device), like.dtype),
        )

    def forget(self) -> None:
        _make.cache_clear()

    def describe(self, severity: float) -> str:
        """The function and the severity."""
        return f"{self.factory.rpartition(':')[2]} {severity:.2f}"


def _factory(name: str) -> Callable[..., Any]:
    function = find(name)
    if not callable(function):
        raise UserError(f"{name} is not a function")
    return function


@functools.lru_cache(maxsize=NUM_KEPT)
def _make(
    function: Callable[..., Any],
    settings: str,
    level: float,
    seed: int | None,
    image_shape: ImageShape,
    device: str,
    dtype: torch.dtype,
) -> Any:
    """The physics object; cached, because a solver needs it at every step."""
    offers = {"image_shape": image_shape, "seed": seed, "device": torch.device(device)}
    wanted = {name: offers[name] for name in _offered(function)}
    made = function(level, **json.loads(settings), **wanted)
    if not isinstance(made, torch.nn.Module):
        return made  # the check reports what is wrong with it
    made = made.to(device)
    # these only change floating-point tensors; `to` would drop the imaginary part of complex ones
    return made.double() if dtype == torch.float64 else made.float()


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:
        raise UserError(f"{function} has no readable signature: wrap it in your own function") from None


def _offered(function: Callable[..., Any]) -> list[str]:
    """The arguments in OFFERED that a factory takes."""
    taken = _signature(function).parameters
    return [name for name in OFFERED if name in taken]
