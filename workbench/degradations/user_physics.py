"""A user's deepinv physics as a degradation: what its two makes have in common."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.degradations.base import Degradation, Params
from workbench.tensors import Images, Measurements

if TYPE_CHECKING:
    from deepinv.physics import Physics

ImageShape = tuple[int, int, int]


class UserPhysics(Degradation):
    """y = physics.A(x) + noise of standard deviation `noise_std`.

    Noise is always the workbench's, keyed by image; `check` refuses a physics with another noise model (or a sensor
    model) rather than leave it out in silence. y may have any shape; where it is not the images', a severity encoder
    reads physics.A_dagger(y). The values of y should be on the scale of [0, 1] images.
    """

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


def _shape_in(params: Params) -> ImageShape:
    channels, height, width = params["image_shape"][0].tolist()
    return channels, height, width
