"""A user's deepinv physics as a degradation: the common base of both variants."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor

from workbench.core.config import ADDED_LATER
from workbench.core.measurement import Measurement, as_real
from workbench.core.tensors import Images, Measurements, Scalars, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import check_values, zero_where_unobserved
from workbench.degradations.null_entries import measured_entries

if TYPE_CHECKING:
    from deepinv.physics import Physics

ImageShape = tuple[int, int, int]

UNSTATED_NOISE_STD: float = Degradation.model_fields["noise_std"].default
"""Default noise_std of a physics without its own noise."""


class UserPhysics(Degradation):
    """y = physics.A(x) + noise of standard deviation `noise_std` on the observed entries.

    The noise is always the workbench's, keyed by image. Its standard deviation is that of the physics' own Gaussian
    noise, if it has one. `check` rejects a noise level that contradicts `noise_std`, other noise models and sensor
    models, rather than ignoring them silently. y may have any shape. If the shape differs from the images', or y holds
    frequencies as in deepinv's MRI, a severity encoder reads physics.A_dagger(y). The values of y should be on the
    scale of [0, 1] images.

    A physics may measure complex values. The workbench stores them as real, with real and imaginary parts in a last
    axis of length 2 (see `workbench.core.measurement`), and uses the adjoint for the real inner product, so that images
    stay real. A complex image has two channels, as in deepinv.

    Entries that are the same for every image (0 where a mask drops pixels or frequencies) are not observed: they
    get no noise and are excluded from residuals.
    """

    noise_std: float | None = Field(  # type: ignore[assignment]
        None,
        ge=0,
        le=1,
        description="standard deviation of the noise on [0, 1] images; none: that of the physics' noise_model if "
        f"it is Gaussian, else {UNSTATED_NOISE_STD}",
    )
    observed_by: Literal["auto", "all"] = Field(
        "auto",
        description="which entries of y count as measured; auto: all except those that are the same for all of some "
        "random images, such as dropped pixels; all: every entry",
        json_schema_extra=ADDED_LATER,
    )

    unobserved: ClassVar[str] = "where A(x) is the same for every image"
    when_it_is_not_zero: ClassVar[str] = (
        "use the physics that y comes from, with its own mask, or set observed_by=all if those entries were measured"
    )

    view_by: Literal["auto", "A_dagger"] = Field(
        "auto",
        description="what a severity encoder reads; auto: y if it has the images' shape and the physics is not "
        "deepinv's MRI, else A_dagger(y)",
    )

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the physics, for messages."""

    @abstractmethod
    def physics_for(self, level: float, seed: int | None, image_shape: ImageShape, like: Tensor) -> "Physics":
        """The physics for images of one severity and seed, on the device and in the precision of `like`."""

    def canonical(self) -> dict[str, Any]:
        # as before the level could be read from the physics, whose source is part of the identity anyway
        return super().canonical() | ({"noise_std": UNSTATED_NOISE_STD} if self.noise_std is None else {})

    def forget(self) -> None:
        """Drop cached physics objects."""

    def A(self, x: Images, params: Params) -> Measurements:
        """physics.A."""
        return self._each(x, params, lambda physics, x: as_real(physics.A(x)))

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """physics.A_adjoint, if the physics is linear."""
        if not self.linear:
            return super().A_adjoint(y, params)
        shape = _shape_in(params)
        return self._each(y, params, lambda physics, y: _image(physics.A_adjoint(_own_values(physics, y, shape))))

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """`noise_std`, or, if it is not set, the noise level of each image's physics.

        Raises:
            ValueError: if `params` are needed but missing.
        """
        if self.noise_std is not None:
            return torch.full_like(severity, self.noise_std)
        if params is None:
            raise ValueError("the noise level is read from the physics: pass params")

        shape = _shape_in(params)

        def level(physics: "Physics", severity: Tensor) -> Tensor:
            own = own_noise(physics, shape, severity)
            return torch.full_like(severity, UNSTATED_NOISE_STD if own is None else own)

        return self._each(severity, params, level)

    def observed(self, params: Params) -> Tensor | None:
        """0 for the entries of each image's measurement that its physics leaves empty, 1 for the others."""
        if self.observed_by == "all":
            return None
        shape = _shape_in(params)

        def entries(physics: "Physics", level: Tensor) -> Tensor:
            measured = measured_entries(physics, shape, level)
            return measured.expand(len(level), *measured.shape[1:])

        return self._each(params["level"], params, entries)

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """y with A's values where it is not observed; noise is accepted there, since a physics may add it to all of y.

        Raises:
            UserError: if y has more than noise there.
        """
        check_values(y, scale=False)
        if observed is None:
            return y, []
        noise = self.noise_level(params["level"], params)
        with torch.no_grad():
            black = torch.zeros(len(y), *_shape_in(params), dtype=y.dtype, device=y.device)
            filling = self.A(black, params).where(observed == 0, 0.0)
        beside, lines = zero_where_unobserved(
            y - filling, observed, self.unobserved, self.when_it_is_not_zero, noise, what="y - A(x)"
        )
        return beside + filling, lines

    def view(self, y: Measurements, params: Params) -> Images | None:
        """physics.A_dagger(y), or None if y itself can be read."""
        shape = _shape_in(params)
        if not self.needs_view(self._physics(params, 0, y), y, shape):
            return None
        return self._each(y, params, lambda physics, y: self.led_back(physics, y, shape))

    @torch.no_grad()
    def led_back(self, physics: "Physics", y: Measurements, image_shape: ImageShape) -> Tensor:
        """physics.A_dagger(y), which should be images."""
        own = _own_values(physics, y, image_shape)
        # deepinv's iterations stop when the whole batch has converged, so other images would change an image's view
        return torch.cat([_image(physics.A_dagger(own[i : i + 1])) for i in range(len(y))])

    def reconstruct(self, reconstruct: Callable[[Tensor, Any], Tensor], measurement: Measurement) -> Any:
        """The same with the user's own physics, called for the images of each severity and seed."""
        shape = _shape_in(measurement.params)
        return self._each(
            measurement.y,
            measurement.params,
            lambda physics, y: reconstruct(_own_values(physics, y, shape), physics),
        )

    def needs_view(self, physics: "Physics", y: Measurements, image_shape: ImageShape) -> bool:
        """Whether a severity encoder reads A_dagger(y) instead of y."""
        from deepinv.utils.mixins import MRIMixin

        # frequencies of a 2-channel image have its shape but are not an image
        return self.view_by == "A_dagger" or tuple(y.shape[1:]) != image_shape or isinstance(physics, MRIMixin)

    def _physics(self, params: Params, i: int, like: Tensor) -> "Physics":
        """The physics of the i-th image."""
        seed = int(params["seed"][i]) if "seed" in params else None
        return self.physics_for(float(params["level"][i]), seed, _shape_in(params), like)

    def _each(self, tensor: Tensor, params: Params, call: "Callable[[Physics, Tensor], Tensor]") -> Tensor:
        """Call `call` with the physics of each image; images of one severity and seed are batched."""
        levels = params["level"].tolist()
        seeds = params["seed"].tolist() if "seed" in params else [None] * len(levels)
        groups: dict[tuple[float, int | None], list[int]] = {}
        for i, key in enumerate(zip(levels, seeds, strict=True)):
            groups.setdefault(key, []).append(i)
        shape = _shape_in(params)
        if len(groups) == 1:
            ((level, seed),) = groups
            return call(self.physics_for(level, seed, shape, tensor), tensor)
        results = [
            call(self.physics_for(level, seed, shape, tensor), tensor[group]) for (level, seed), group in groups.items()
        ]
        order = torch.tensor([i for group in groups.values() for i in group], device=tensor.device)
        return torch.cat(results)[order.argsort()]


_MEASURES_COMPLEX: "WeakKeyDictionary[Physics, bool]" = WeakKeyDictionary()
"""Cache of tested physics: a solver asks at every step."""


def measures_complex(physics: "Physics", image_shape: ImageShape, like: Tensor) -> bool:
    """Whether A(x) is complex, tested on a black image on the device and in the precision of `like`."""
    if physics not in _MEASURES_COMPLEX:
        with torch.no_grad():
            black = torch.zeros(1, *image_shape, dtype=like.dtype, device=like.device)
            _MEASURES_COMPLEX[physics] = physics.A(black).is_complex()
    return _MEASURES_COMPLEX[physics]


def _own_values(physics: "Physics", y: Measurements, image_shape: ImageShape) -> Tensor:
    """y in the physics' own form: complex again if it measures complex values."""
    return torch.view_as_complex(y.contiguous()) if measures_complex(physics, image_shape, y) else y


def _image(x: Tensor) -> Tensor:
    """The result of an adjoint or pseudo-inverse as a real image: its real part, as <A x, y> is <x, Re(A* y)>."""
    return x.real if x.is_complex() else x


def own_noise(physics: "Physics", image_shape: ImageShape, like: Tensor) -> float | None:
    """Standard deviation of a physics' own Gaussian noise in each entry of y; None if it has none, or several.

    For complex values, deepinv's sigma refers to the complex value: each part has sigma / sqrt(2).
    """
    from deepinv.physics import GaussianNoise

    if type(physics.noise_model) is not GaussianNoise:
        return None
    sigma = torch.as_tensor(physics.noise_model.sigma).double()
    if not torch.equal(sigma, sigma.flatten()[0].expand_as(sigma)):
        return None
    return float(sigma.flatten()[0]) / (math.sqrt(2) if measures_complex(physics, image_shape, like) else 1)


def _shape_in(params: Params) -> ImageShape:
    channels, height, width = params["image_shape"][0].tolist()
    return channels, height, width
