"""Magnetic resonance imaging: k-space with left-out columns."""

import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.tensors import Ids, Images, Measurements, Severities
from workbench.degradations import physics
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import Given, check_values, zero_where_unobserved

LEAST, MOST = 2.0, 12.0
"""Acceleration at severity 0 and 1."""
CENTRE = 0.32
"""The part of the measured columns that is the centre of k-space, as in fastMRI (arXiv 1811.08839): 8 % of all at
four-fold acceleration."""
DISTANCE = 1.5
"""Of the coils from the middle of the image, in halves of its side."""


class MRI(Degradation):
    """Cartesian MRI, accelerated by leaving out columns of k-space: y = M F S x + noise.

    F is the orthonormal Fourier transform with the zero frequency in the middle, so noise has the same level in k-space
    and in the image. The centre is always measured, and other columns at random; for a given image and seed, the
    columns measured at a severity are also measured at any lower one. S are the sensitivities of the coils, with a
    root sum of squares of 1: those of a birdcage, or given ones.

    y is (batch, images, coils, height, width, 2), with real and imaginary parts in the last axis. Each channel of x is
    a real image of its own, or with `complex_images` each pair of channels the two parts of a complex one. The encoder
    reads the zero-filled reconstruction, A^T y, in which coils are combined by their sensitivities (SENSE).

    k-space simulated from magnitude images flatters: it has no phase of its own, so half of it tells of the other half.
    """

    kind: Literal["mri"] = "mri"
    num_coils: int = Field(1, ge=1, le=64, description="number of coils around the image; 1: one that sees all of it")
    complex_images: bool = Field(False, description="pairs of channels are real and imaginary part")

    linear: ClassVar[bool] = True
    measures_images: ClassVar[bool] = False
    identity_db: ClassVar[float] = 10.0
    draws_parameters: ClassVar[bool] = True
    severity_range: ClassVar[str] = "acceleration 2 -> 12, linear"
    unobserved: ClassVar[str] = "where the mask leaves k-space out"
    when_it_is_not_zero: ClassVar[str] = "pass the mask that it was measured with"

    def check(self, image_shape: tuple[int, int, int], gradient: bool) -> None:
        if self.complex_images and image_shape[0] % 2:
            raise UserError(
                f"degradation.complex_images needs an even number of channels, but images have {image_shape[0]}: set "
                "data.channels=2"
            )

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`mask` (batch, 1, height, width), 1 where k-space is measured; with several coils `coil_maps` as well."""
        _, height, width = image_shape
        columns = torch.arange(width, device=severity.device)
        total = (width / acceleration(severity)).round().clamp(min=1)
        centre = (CENTRE * total).round().clamp(min=1)
        from_centre = (columns - width // 2).abs() * 2 - (columns < width // 2).long()  # 0, 1, 2 ... outwards
        is_centre = from_centre < centre[:, None]
        draw = randomness.uniform(ids, (seed, "columns"), (width,)).to(severity.device)
        rank = torch.where(is_centre, 2.0, draw).argsort(1).argsort(1)  # among the other columns
        kept = is_centre | (rank < (total - centre)[:, None])
        mask = kept.to(severity.dtype)[:, None, None, :].expand(-1, 1, height, width)
        if self.num_coils == 1:
            return {"mask": mask}
        maps = birdcage(self.num_coils, height, width).to(severity)
        return {"mask": mask, "coil_maps": maps.expand(len(ids), *maps.shape)}

    def A(self, x: Images, params: Params) -> Measurements:
        """The measured part of k-space, and 0 elsewhere."""
        parts = self._parts(x)
        y = physics.mri(_each(params["mask"], parts), _maps(params, parts), parts).A(parts.flatten(0, 1))
        return y.movedim(1, -1).unflatten(0, parts.shape[:2])

    def A_adjoint(self, y: Measurements, params: Params) -> Images:
        """The zero-filled reconstruction."""
        parts = y[:, :, 0].movedim(-1, 2)  # of the shape of an image's parts
        operator = physics.mri(_each(params["mask"], parts), _maps(params, parts), parts)
        x = operator.A_adjoint(y.flatten(0, 1).movedim(-1, 1)).unflatten(0, y.shape[:2])
        return x.flatten(1, 2) if self.complex_images else x[:, :, 0]

    def view(self, y: Measurements, params: Params) -> Images:
        return self.A_adjoint(y, params)

    def observed(self, params: Params) -> Tensor:
        return params["mask"][:, :, None, :, :, None]

    def image_shape(self, y: Tensor) -> tuple[int, int, int]:
        """Of complex (batch, images, coils, height, width)."""
        if not y.is_complex() or y.ndim < 3:
            raise UserError(
                f"y of mri has shape {tuple(y.shape)} and type {y.dtype}, expected complex numbers: "
                f"N x height x width{f', or N x {self.num_coils} x height x width' if self.num_coils > 1 else ''}"
            )
        height, width = y.shape[-2:]
        if not y.numel():
            raise UserError(f"y of mri has shape {tuple(y.shape)}: there are no values")
        num_images = max(1, y[0].numel() // (self.num_coils * height * width))
        return num_images * (2 if self.complex_images else 1), height, width

    def for_parameters(self, params: Params) -> Self:
        """With as many coils as there are sensitivities."""
        return self.replace({"num_coils": len(params["coil_maps"][0])}) if "coil_maps" in params else self

    def severity_of(self, params: Params) -> Severities:
        """By the part of k-space that is measured."""
        found = (1 / params["mask"].flatten(1).mean(1) - LEAST) / (MOST - LEAST)
        return found.clamp(0, 1)

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A mask of zeros and ones, and with several coils their complex sensitivities."""
        _, height, width = image_shape
        names = ("mask", "coil_maps") if self.num_coils > 1 or "coil_maps" in params else ("mask",)
        arrays = {name: value[:, :1] if name == "mask" and value.ndim == 4 else value for name, value in params.items()}
        if "coil_maps" in arrays and arrays["coil_maps"].is_complex():
            arrays["coil_maps"] = torch.view_as_real(arrays["coil_maps"].resolve_conj())
        given = Given(self.kind, arrays, names, image_shape)
        taken = {"mask": given.mask("mask")}
        if "coil_maps" in names:
            taken["coil_maps"] = given.numbers(
                "coil_maps", self.num_coils, height, width, 2, low=-math.inf, high=math.inf, meaning="sensitivities"
            )
        return given.taken(taken)

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """k-space of (batch, images, coils, height, width) complex values; axes of size 1 may be left out."""
        _, _, height, width = params["mask"].shape
        full = (-1, self.num_coils, height, width, 2)
        if y.shape[-3:] != (height, width, 2) or y[0].numel() % math.prod(full[1:]):
            raise UserError(
                f"y of mri has shape {tuple(y.shape)}, expected images x coils x height x width complex values: "
                f"{self.num_coils} x {height} x {width}"
            )
        y = y.reshape(len(y), *full)
        check_values(y, scale=False)
        values, lines = zero_where_unobserved(y, self.observed(params), self.unobserved, self.when_it_is_not_zero)
        check_values(self.view(values, params))  # its scale is that of the image
        return values, lines

    def describe(self, severity: float) -> str:
        """The acceleration."""
        return f"acceleration {float(acceleration(torch.tensor(severity))):.1f}"

    def _parts(self, x: Images) -> Tensor:
        """(batch, images, 2, height, width): real and imaginary parts."""
        if self.complex_images:
            return x.unflatten(1, (-1, 2))
        return torch.stack([x, torch.zeros_like(x)], 2)


def acceleration(severity: Tensor) -> Tensor:
    """How many times fewer columns are measured."""
    return LEAST + (MOST - LEAST) * severity


def birdcage(num_coils: int, height: int, width: int) -> Tensor:
    """Sensitivities of coils on a circle around the image, (coils, height, width, 2), root sum of squares 1.

    Each falls with the distance from its coil, and its phase is the direction to it.
    """
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    angle = 2 * math.pi * torch.arange(num_coils)[:, None, None] / num_coils
    across, down = columns - DISTANCE * angle.cos(), rows - DISTANCE * angle.sin()
    maps = torch.polar(1 / torch.hypot(across, down), torch.atan2(down, across) - angle)
    return torch.view_as_real(maps / maps.abs().square().sum(0).sqrt())


def _each(mask: Tensor, parts: Tensor) -> Tensor:
    """The mask of each image, with a batch of its own for the images of a measurement."""
    return mask.repeat_interleave(parts.shape[1], 0)


def _maps(params: Params, parts: Tensor) -> Tensor:
    """The sensitivities of each image, (images, coils, height, width) complex; one coil sees all of it."""
    if "coil_maps" not in params:
        batch, images, _, height, width = parts.shape
        return torch.ones(batch * images, 1, height, width, dtype=parts.dtype, device=parts.device).to(_complex(parts))
    maps = params["coil_maps"].to(parts)
    return torch.view_as_complex(maps.contiguous()).repeat_interleave(parts.shape[1], 0)


def _complex(like: Tensor) -> torch.dtype:
    return torch.complex128 if like.dtype == torch.float64 else torch.complex64
