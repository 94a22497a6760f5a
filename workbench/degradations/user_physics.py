"""A user's deepinv physics as a degradation: what its two makes have in common."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor

from workbench.config import ADDED_LATER
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import check_values, zero_where_unobserved
from workbench.degradations.null_entries import measured_entries
from workbench.measurement import as_real
from workbench.tensors import Images, Measurements, Scalars, Severities

if TYPE_CHECKING:
    from deepinv.physics import Physics

ImageShape = tuple[int, int, int]

UNSTATED_NOISE_STD: float = Degradation.model_fields["noise_std"].default
"""Of a physics without noise of its own."""


class UserPhysics(Degradation):
    """y = physics.A(x) + noise of standard deviation `noise_std` on the entries that are observed.

    Noise is always the workbench's, keyed by image. Its level is that of the physics' own Gaussian noise where it has
    one; `check` refuses one that contradicts `noise_std`, another noise model and a sensor model rather than leave
    them out in silence. y may have any shape; where it is not the images', or holds frequencies as that of deepinv's
    MRI does, a severity encoder reads physics.A_dagger(y). The values of y should be on the scale of [0, 1] images.

    A physics may measure complex values: outside it they are real, with real and imaginary part in a last axis of 2
    (see `workbench.measurement`), and the adjoint is that of the real inner product, so that images stay real. A
    complex image has two channels, as in deepinv.

    Entries that are the same whatever the image (0 where a mask drops pixels or frequencies) are not observed: they
    take no noise, and residuals leave them out.
    """

    noise_std: float | None = Field(  # type: ignore[assignment]
        None,
        ge=0,
        le=1,
        description="standard deviation of the noise on [0, 1] images; none: that of the physics' noise_model where "
        f"it is Gaussian, else {UNSTATED_NOISE_STD}",
    )
    observed_by: Literal["auto", "all"] = Field(
        "auto",
        description="which entries of y count as measured; auto: not those that are the same for all of some random "
        "images, as dropped pixels are; all: every one",
        json_schema_extra=ADDED_LATER,
    )

    unobserved: ClassVar[str] = "where A(x) is the same for every image"
    when_it_is_not_zero: ClassVar[str] = (
        "give the physics that y comes from, with its own mask, or set observed_by=all if those entries were measured"
    )

    view_by: Literal["auto", "A_dagger"] = Field(
        "auto",
        description="what a severity encoder reads; auto: y where it has the images' shape and the physics is none of "
        "deepinv's MRI, else A_dagger(y)",
    )

    @property
    @abstractmethod
    def label(self) -> str:
        """Whose physics it is, for messages."""

    @abstractmethod
    def physics_for(self, level: float, seed: int | None, image_shape: ImageShape, like: Tensor) -> "Physics":
        """The physics of all images of one severity and seed, on the device and in the precision of `like`."""

    def canonical(self) -> dict[str, Any]:
        # as it was before the level could be read from the physics, whose source has its own part in the identity
        return super().canonical() | ({"noise_std": UNSTATED_NOISE_STD} if self.noise_std is None else {})

    def forget(self) -> None:
        """Drop physics objects kept from earlier calls."""

    def A(self, x: Images, params: Params) -> Measurements:
        """physics.A."""
        return self._each(x, params, lambda physics, x: as_real(physics.A(x)))

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """physics.A_adjoint, where the physics is linear."""
        if not self.linear:
            return super().A_adjoint(y, params)
        shape = _shape_in(params)
        return self._each(y, params, lambda physics, y: _image(physics.A_adjoint(_own_values(physics, y, shape))))

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """`noise_std`, or where it is not stated that of each image's physics.

        Raises:
            ValueError: without `params` where they are needed.
        """
        if self.noise_std is not None:
            return torch.full_like(severity, self.noise_std)
        if params is None:
            raise ValueError("the noise of a user's physics is the physics' own: pass params")

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
        """y as A leaves it where it is not observed; noise may stand there, since a physics may add it to all of y.

        Raises:
            UserError: for a y that holds more than noise there.
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
        """physics.A_dagger(y), or None where y serves."""
        shape = _shape_in(params)
        if not self.needs_view(self._physics(params, 0, y), y, shape):
            return None
        return self._each(y, params, lambda physics, y: self.led_back(physics, y, shape))

    @torch.no_grad()
    def led_back(self, physics: "Physics", y: Measurements, image_shape: ImageShape) -> Tensor:
        """physics.A_dagger(y), which should be images."""
        own = _own_values(physics, y, image_shape)
        # deepinv's iterations stop when the whole batch is good enough, so neighbours would change an image's view
        return torch.cat([_image(physics.A_dagger(own[i : i + 1])) for i in range(len(y))])

    def needs_view(self, physics: "Physics", y: Measurements, image_shape: ImageShape) -> bool:
        """Whether a severity encoder reads A_dagger(y) and not y."""
        from deepinv.utils.mixins import MRIMixin

        # frequencies of a 2-channel image have its shape and are no picture of it
        return self.view_by == "A_dagger" or tuple(y.shape[1:]) != image_shape or isinstance(physics, MRIMixin)

    def _physics(self, params: Params, i: int, like: Tensor) -> "Physics":
        """The physics of the i-th image."""
        seed = int(params["seed"][i]) if "seed" in params else None
        return self.physics_for(float(params["level"][i]), seed, _shape_in(params), like)

    def _each(self, tensor: Tensor, params: Params, call: "Callable[[Physics, Tensor], Tensor]") -> Tensor:
        """`call` with the physics of each image; images of one severity and seed go together."""
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
"""Physics tried before: a solver asks at every step."""


def measures_complex(physics: "Physics", image_shape: ImageShape, like: Tensor) -> bool:
    """Whether A(x) is complex, found by measuring a black image on the device and in the precision of `like`."""
    if physics not in _MEASURES_COMPLEX:
        with torch.no_grad():
            black = torch.zeros(1, *image_shape, dtype=like.dtype, device=like.device)
            _MEASURES_COMPLEX[physics] = physics.A(black).is_complex()
    return _MEASURES_COMPLEX[physics]


def _own_values(physics: "Physics", y: Measurements, image_shape: ImageShape) -> Tensor:
    """y as the physics itself has it: complex again, where it measures complex values."""
    return torch.view_as_complex(y.contiguous()) if measures_complex(physics, image_shape, y) else y


def _image(x: Tensor) -> Tensor:
    """What a physics leads back to, as a real image: <A x, y> over reals is <x, Re(A* y)> for a real x."""
    return x.real if x.is_complex() else x


def own_noise(physics: "Physics", image_shape: ImageShape, like: Tensor) -> float | None:
    """The standard deviation of a physics' own Gaussian noise in each entry of y; None where it has none, or several.

    Of complex values deepinv's sigma is that of the value: each part has sigma / sqrt(2).
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
