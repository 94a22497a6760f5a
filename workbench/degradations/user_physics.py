"""A user's deepinv physics as a degradation: what its two makes have in common."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.config import ADDED_LATER
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import check_values, zero_where_unobserved
from workbench.degradations.null_entries import measured_entries
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
    them out in silence. y may have any shape; where it is not the images', a severity encoder reads
    physics.A_dagger(y). The values of y should be on the scale of [0, 1] images.

    Entries that are 0 whatever the image, behind a mask of pixels or of frequencies, are not observed: they take no
    noise, and residuals leave them out.
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
        description="which entries of y count as measured; auto: not those that are 0 for all of some random images, "
        "as dropped pixels are; all: every one",
        json_schema_extra=ADDED_LATER,
    )

    unobserved: ClassVar[str] = "where A(x) is 0 for every image"
    when_it_is_not_zero: ClassVar[str] = (
        "give the physics that y comes from, with its own mask, or set observed_by=all if those zeros were measured too"
    )

    view_by: Literal["auto", "A_dagger"] = Field(
        "auto", description="what a severity encoder reads; auto: y where it has the images' shape, else A_dagger(y)"
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

    def check(self, image_shape: ImageShape, gradient: bool) -> None:
        from workbench.degradations.physics_check import check_physics

        check_physics(self, image_shape, gradient)

    def A(self, x: Images, params: Params) -> Measurements:
        """physics.A."""
        return self._each(x, params, lambda physics, x: physics.A(x))

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """physics.A_adjoint, where the physics is linear."""
        if not self.linear:
            return super().A_adjoint(y, params)
        return self._each(y, params, lambda physics, y: physics.A_adjoint(y))

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """`noise_std`, or where it is not stated that of each image's physics.

        Raises:
            ValueError: without `params` where they are needed.
        """
        if self.noise_std is not None:
            return torch.full_like(severity, self.noise_std)
        if params is None:
            raise ValueError("the noise of a user's physics is the physics' own: pass params")

        def level(physics: "Physics", severity: Tensor) -> Tensor:
            own = own_noise(physics)
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

    def given_measurement(self, y: Measurements, params: Params) -> tuple[Measurements, list[str]]:
        """y with zeros where it is not observed; noise alone may stand there, since a physics may add it to all of y.

        Raises:
            UserError: for a y that holds more than noise there.
        """
        check_values(y, scale=False)
        observed = self.observed(params)
        if observed is None:
            return y, []
        noise = self.noise_level(params["level"], params)
        return zero_where_unobserved(y, observed, self.unobserved, self.when_it_is_not_zero, noise)

    def view(self, y: Measurements, params: Params) -> Images | None:
        """physics.A_dagger(y), or None where y serves."""
        if not self.needs_view(y, _shape_in(params)):
            return None

        def one_by_one(physics: "Physics", y: Tensor) -> Tensor:
            # deepinv's iterations stop when the whole batch is good enough, so neighbours would change an image's view
            return torch.cat([physics.A_dagger(y[i : i + 1]) for i in range(len(y))])

        with torch.no_grad():
            return self._each(y, params, one_by_one)

    def needs_view(self, y: Measurements, image_shape: ImageShape) -> bool:
        """Whether a severity encoder reads A_dagger(y) and not y."""
        return self.view_by == "A_dagger" or tuple(y.shape[1:]) != image_shape

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


def own_noise(physics: "Physics") -> float | None:
    """The standard deviation of a physics' own Gaussian noise; None where it has none, or one for each image."""
    from deepinv.physics import GaussianNoise

    if type(physics.noise_model) is not GaussianNoise:
        return None
    sigma = torch.as_tensor(physics.noise_model.sigma).double()
    return float(sigma.flatten()[0]) if torch.equal(sigma, sigma.flatten()[0].expand_as(sigma)) else None


def _shape_in(params: Params) -> ImageShape:
    channels, height, width = params["image_shape"][0].tolist()
    return channels, height, width
