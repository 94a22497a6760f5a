"""Computed tomography: sinograms with few views, or without a wedge of them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field, model_validator
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement, as_real
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations import physics
from workbench.degradations.base import Degradation, Params, check_severity
from workbench.degradations.given import Given, check_values, refuse, zero_where_unobserved

if TYPE_CHECKING:
    from deepinv.physics import Tomography

FEWEST = 0.1
"""The part of the views that is left at severity 1."""
NOISE_STD = 0.01
LEAST_COUNT = 0.5
"""In place of no photon at all, of which the logarithm is taken."""
WEDGE = 4.0
"""A gap between views that is wider than this multiple of the second widest is a missing wedge, which no view fills."""


class CT(Degradation):
    """Parallel-beam tomography: line integrals of the image, measured from some of `num_views` directions.

    y (batch, channel, detector, view) is the integral along each ray in units of the image's longer side, so that it is
    on the scale of [0, 1] images. Views are at equal angles on [0, 180) degrees. With growing severity, views between
    others are left out (`sparse`), so that those that stay are far apart, or a growing wedge (`limited`). Their number
    falls by the same factor for every step of severity, and views measured at a severity are also measured at any lower
    one. The encoder reads the filtered back-projection.

    With log_poisson noise, a detector counts N ~ Poisson(photons exp(-attenuation y)), and -log(N / photons) /
    attenuation is measured. Its variance differs between rays, and is that of air, 1 / (photons attenuation^2), times
    photons / N. Rays are therefore weighted by sqrt(N / photons), which makes the noise white and least squares the
    likelihood to second order (Sauer and Bouman, IEEE Trans. Signal Processing 41, 1993). The weights are part of A.
    """

    kind: Literal["ct"] = "ct"
    noise_std: float = Field(NOISE_STD, ge=0, le=1, description="standard deviation of Gaussian noise in y")
    num_views: int = Field(120, ge=10, le=2000, description="number of views on 180 degrees, at severity 0")
    left_out: Literal["sparse", "limited"] = Field(
        "sparse", description="views that are left out: between others, or a wedge of angles"
    )
    noise: Literal["gaussian", "log_poisson"] = Field("gaussian", description="the kind of noise")
    photons: float = Field(1e4, ge=1, le=1e12, description="photons of a ray through air, for log_poisson")
    attenuation: float = Field(
        4.0, gt=0, le=100, description="attenuation exponent along the side of a white image, for log_poisson"
    )

    linear: ClassVar[bool] = True
    derived: ClassVar[tuple[str, ...]] = ("image_size", "weight")
    measures_images: ClassVar[bool] = False
    identity_db: ClassVar[float] = 18.0
    severity_range: ClassVar[str] = "views on 180 degrees 120 -> 12, or degrees 180 -> 18, geometric"
    unobserved: ClassVar[str] = "in the views that are left out"
    when_it_is_not_zero: ClassVar[str] = "pass the `views` that were measured"

    @model_validator(mode="after")
    def _noise_is_said_once(self) -> "CT":
        if self.noise == "log_poisson" and self.noise_std != NOISE_STD:
            raise ValueError("with noise=log_poisson, photons set the level of the noise: leave out noise_std")
        return self

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`views` (batch, num_views): 1 where a view is measured; `image_size` (batch, 2), height and width."""
        number = (self.num_views * FEWEST**severity).round()
        rank = torch.arange(self.num_views) if self.left_out == "limited" else _far_apart(self.num_views)
        views = (rank.to(severity.device) < number[:, None]).to(severity.dtype)
        return {"views": views, "image_size": _size(len(severity), image_shape).to(severity)}

    def A(self, x: Images, params: Params) -> Measurements:
        """The sinogram, and 0 in views that are not measured; with log_poisson noise, weighted."""
        rays = _sinogram(x, self.num_views) * _each(params["views"], x)
        return rays * params["weight"].to(x) if "weight" in params else rays

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """The back-projection of the measured views."""
        rays = y * _each(params["views"], y)
        if "weight" in params:
            rays = rays * params["weight"].to(y)
        with _operator(rays, params) as operator:
            return _cropped(operator.A_adjoint(rays) / _side(params), params)

    def view(self, y: Measurements, params: Params) -> Images:
        """The filtered back-projection: each view stands for the angles up to halfway to its neighbours."""
        rays = y / params["weight"].to(y) if "weight" in params else y
        rays = rays * _each(angles_per_view(params["views"]), y)
        with _operator(rays, params) as operator:
            return _cropped(operator.fbp(rays) * _side(params), params)

    def observed(self, params: Params) -> Tensor:
        return params["views"][:, None, None]

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """That of the Gaussian noise; with log_poisson noise that of a ray through air."""
        if self.noise == "gaussian":
            return super().noise_level(severity, params)
        return torch.full_like(severity, 1 / (self.attenuation * math.sqrt(self.photons)))

    def measure(self, x: Images, severity: Severities, ids: Ids, seed: int) -> Measurement:
        if self.noise == "gaussian":
            return super().measure(x, severity, ids, seed)
        check_severity(severity)
        params = self.parameters(severity, ids, seed, (x.shape[1], x.shape[2], x.shape[3]))
        with torch.no_grad():
            expected = self.photons * (-self.attenuation * _sinogram(x, self.num_views)).exp()
        rays = iter(expected.cpu())
        counts = randomness.per_image(ids, (seed, "photons"), lambda g: torch.poisson(next(rays), generator=g))
        counts = counts.to(x).clamp(min=LEAST_COUNT)
        weight = (counts / self.photons).sqrt()
        y = -(counts / self.photons).log() / self.attenuation * weight * _each(params["views"], x)
        params = {**params, "weight": weight}
        return self.received(y, severity, ids, params, self.observed(params))

    def image_shape(self, y: Tensor) -> tuple[int, int, int]:
        """Of (batch, channel, detector, view), for square images."""
        if y.ndim < 3 or y.is_complex() or y.shape[-1] != self.num_views:
            raise UserError(
                f"y of ct has shape {tuple(y.shape)}, expected real numbers: N x detectors x {self.num_views} views "
                "(for another number of views, set degradation.num_views)"
            )
        detectors = y.shape[-2]
        side = int(detectors / math.sqrt(2))
        if physics.num_detectors(side) != detectors:
            raise UserError(
                f"y of ct has {detectors} detectors, but square images of {side} or {side + 1} pixels a side have "
                f"{physics.num_detectors(side)} or {physics.num_detectors(side + 1)}"
            )
        return 1 if y.ndim == 3 else y.shape[1], side, side

    def severity_of(self, params: Params) -> Severities:
        """By the number of views."""
        views = params["views"]
        found = (views.sum(1) / views.shape[1]).log() / math.log(FEWEST)
        return found.clamp(0, 1)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """The measured `views`, zeros and ones."""
        own = {name: value for name, value in params.items() if name not in self.derived}
        given = Given(self.kind, own, ("views",), image_shape)
        views = given.numbers("views", self.num_views, low=0, high=1, whole=True, meaning="1 where a view is measured")
        refuse(views.sum(1) == 0, "views of ct measures none")
        return given.taken({"views": views, "image_size": _size(len(views), image_shape).to(views)})

    def given_measurement(
        self, y: Tensor, severity: Severities, ids: Ids, params: Params
    ) -> tuple[Measurement, list[str]]:
        """With log_poisson noise, y is -log(N / photons) / attenuation; the rays are weighted here."""
        if self.noise == "gaussian" or "weight" in params:
            return super().given_measurement(y, severity, ids, params)
        y, lines = self.given_values(as_real(y), params, self.observed(params))
        weight = (-self.attenuation * y).exp().clamp(min=LEAST_COUNT / self.photons).sqrt()
        return self.received(y * weight, severity, ids, {**params, "weight": weight}, self.observed(params)), lines

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """A sinogram in units of the longer side."""
        y = y[:, None] if y.ndim == 3 else y
        height, width = _height_and_width(params)
        size = (physics.num_detectors(max(height, width)), self.num_views)
        if y.ndim != 4 or y.shape[2:] != size:
            raise UserError(
                f"y of ct has shape {tuple(y.shape)}, expected images x channels x detectors x views: "
                f"{size[0]} x {size[1]} for {height} x {width} images"
            )
        check_values(y)
        return zero_where_unobserved(y, self.observed(params), self.unobserved, self.when_it_is_not_zero)

    def describe(self, severity: float) -> str:
        """The number of views, or the measured angle."""
        number = round(self.num_views * FEWEST**severity)
        return f"{number} views" if self.left_out == "sparse" else f"{180 * number / self.num_views:.0f} degrees"


def _sinogram(x: Images, num_views: int) -> Tensor:
    """Line integrals, (batch, channel, detector, view), in units of the longer side."""
    side = max(x.shape[2:])
    return physics.tomography(side, num_views, x).A(_square(x)) / side


@contextmanager
def _operator(rays: Tensor, params: Params) -> Iterator["Tomography"]:
    """The operator of these rays; the graph that its adjoint keeps is released."""
    operator = physics.tomography(_side(params), rays.shape[3], rays)
    try:
        yield operator
    finally:
        operator._auto_grad_adjoint_fn = None


def _size(number: int, image_shape: tuple[int, int, int]) -> Tensor:
    return torch.tensor(image_shape[1:]).expand(number, 2)


def _height_and_width(params: Params) -> tuple[int, int]:
    height, width = params["image_size"][0].tolist()
    return int(height), int(width)


def _side(params: Params) -> int:
    return max(_height_and_width(params))


def _margins(height: int, width: int) -> tuple[int, int, int, int]:
    """Left, right, top and bottom of an image in the middle of a square."""
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return left, side - width - left, top, side - height - top


def _square(x: Tensor) -> Tensor:
    """The image in the middle of a square of air."""
    return F.pad(x, _margins(x.shape[2], x.shape[3]))


def _cropped(x: Tensor, params: Params) -> Tensor:
    """The image in the middle of a square."""
    height, width = _height_and_width(params)
    left, _, top, _ = _margins(height, width)
    return x[:, :, top : top + height, left : left + width]


def _each(views: Tensor, like: Tensor) -> Tensor:
    """A number per view, for every ray of it."""
    return views[:, None, None].to(like)


@lru_cache(maxsize=64)
def _far_apart(number: int) -> Tensor:
    """The rank of each of `number` directions on a half circle: each next one is as far from those before as can be."""
    at = torch.arange(number)
    distance, rank = torch.full((number,), number), torch.empty(number, dtype=torch.int64)
    for place in range(number):
        chosen = int(distance.argmax())
        rank[chosen] = place
        apart = (at - chosen).abs()
        distance = torch.minimum(distance, torch.minimum(apart, number - apart))
    return rank


def angles_per_view(views: Tensor) -> Tensor:
    """The weight of each view in a back-projection: the angle up to halfway to its neighbours, (batch, view).

    1 is the angle between neighbours if all views are measured. Angles of views that are not measured are 0.
    """
    number, kept = views.shape[1], views > 0
    at = torch.arange(2 * number, device=views.device)
    positions = torch.where(kept.repeat(1, 2), at, 2 * number)
    # to the next one that is measured, over the end of the half circle
    following = positions.flip(1).cummin(1).values.flip(1)[:, 1 : number + 1] - at[:number]
    gaps = torch.where(kept, following, 0).to(views)
    widest, second = gaps.topk(2, dim=1).values[:, :, None].unbind(1)
    gaps = torch.where((gaps > WEDGE * second) & (second > 0) & (gaps == widest), second, gaps)
    # each gap is half its own view's, half the next one's
    owner = torch.where(kept, following + at[:number], 0) % number
    halves = torch.zeros_like(gaps).scatter_add(1, owner, gaps / 2)
    return gaps / 2 + halves
