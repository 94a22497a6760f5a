"""Cheap tests of a user's own degradation, before any expensive computation."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.families import attempt
from workbench.core.measurement import Measurement

LEVELS = (0.0, 0.5, 1.0)


class Operator(Protocol):
    """What is tried of a degradation."""

    @property
    def kind(self) -> str: ...

    def parameters(
        self, severity: Tensor, ids: Tensor, seed: int, image_shape: tuple[int, int, int]
    ) -> Mapping[str, Tensor]: ...

    def A(self, x: Tensor, params: Mapping[str, Tensor]) -> Tensor: ...

    def measure(self, x: Tensor, severity: Tensor, ids: Tensor, seed: int) -> Measurement: ...


def check_member(operator: Operator, image_shape: tuple[int, int, int], gradient: bool) -> None:
    """Measure two random images at three severities.

    Args:
        gradient: whether a gradient through A is needed.

    Raises:
        UserError: if that fails, or A is not real, finite, of one row per image, or differentiable, or the severity
            encoder has no image to read.
    """
    for level in LEVELS:
        _check_level(operator, level, image_shape, gradient)


def _check_level(operator: Operator, level: float, image_shape: tuple[int, int, int], gradient: bool) -> None:
    where, ids = f"{operator.kind} at severity {level:g}", torch.arange(2)
    severity, x = torch.full((2,), level), randomness.uniform(ids, ("check",), image_shape)
    params = attempt(f"{where}: parameters fails", lambda: operator.parameters(severity, ids, 0, image_shape))
    y: object = attempt(f"{where}: A fails on {image_shape} images", lambda: operator.A(x, params))
    if not isinstance(y, Tensor) or y.shape[:1] != (2,):
        raise UserError(f"{where}: A of 2 images must be a tensor with images first")
    if y.is_complex():
        raise UserError(f"{where}: A is complex: return workbench.core.measurement.as_real(y), and a `view`")
    if y.dtype != torch.float32 or not bool(y.isfinite().all()):
        raise UserError(f"{where}: A of float32 images on [0, 1] must be float32 and finite, got {y.dtype}")
    measured = attempt(f"{where} cannot measure", lambda: operator.measure(x, severity, ids, 0))
    if (seen := measured.encoder_input()).shape != x.shape:
        raise UserError(
            f"{where}: a severity encoder reads images of {image_shape}, but y is {tuple(seen.shape[1:])}: "
            "return such an image from `view`"
        )
    last = {name: value[1:] for name, value in params.items()}
    alone = attempt(f"{where} measures two images, but not one", lambda: operator.A(x[1:], last))
    if alone.shape != y[1:].shape or not torch.allclose(alone, y[1:], rtol=1e-3, atol=1e-4):
        raise UserError(f"{where}: an image is measured differently in a batch than alone, or at each call")
    if gradient:
        _differentiate(operator, x, params, where)


def _differentiate(operator: Operator, x: Tensor, params: Mapping[str, Tensor], where: str) -> None:
    x = x.clone().requires_grad_(True)
    advice = "write A in torch operations that can be differentiated, or choose a solver without guidance"
    with torch.enable_grad():
        (gradient,) = attempt(
            f"{where} is not differentiable: {advice}",
            lambda: torch.autograd.grad(operator.A(x, params).square().sum(), x),
        )
    if not bool(gradient.isfinite().all()):
        raise UserError(f"{where} is not differentiable (its gradient is not finite): {advice}")
