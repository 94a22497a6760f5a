"""The noise level of the images, estimated and checked."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Measurements, Scalars
from workbench.degradations import AudioNoise, Degradation, GaussianNoise

MIN_DETAILS = 32
"""Minimum number of values for an estimate."""
NORMAL_MEDIAN = 0.6745  # median of |n| for standard normal n
FACTOR = 2.0
"""Factor between the estimate and the level in use that is worth a message; the estimate itself is right within 1.5."""
ROUNDED, ESTIMATED = 0.01, 0.3
"""Tolerated relative difference between a stated or estimated level and that of a severity."""
INVISIBLE = 0.02
"""Below this noise level, texture is mistaken for noise."""


def read_noise_std(text: str | None) -> float | Literal["auto"] | None:
    """The noise level given on the command line.

    Raises:
        UserError: for anything but a number in [0, 1] or "auto".
    """
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not 0 <= level <= 1:
        raise UserError(f"--noise-std must be a standard deviation on [0, 1] images, 0 to 1, or auto, got {text!r}")
    return level


def estimate_noise(measurements: Iterable[tuple[Tensor, Tensor | None]]) -> float | None:
    """Standard deviation of white noise over all images together; None if too little of them is observed.

    Donoho's estimate (Donoho and Johnstone, Biometrika 81, 1994): the median of the finest diagonal details, here of
    the Haar wavelet, which only needs four observed neighbours. Texture biases it upwards, clipping downwards.

    Args:
        measurements: (images, channel, height, width) of one or several sizes, each with 1 where it was measured,
            broadcastable to it; None: everywhere.
    """
    details = torch.cat([_details(y, observed) for y, observed in measurements])
    if len(details) < MIN_DETAILS:
        return None
    return float(details.abs().median()) / NORMAL_MEDIAN


def _details(y: Measurements, observed: Tensor | None) -> Tensor:
    """The finest diagonal details at which all four pixels are observed."""
    seen = torch.ones_like(y) if observed is None else observed.expand_as(y)
    a, b, c, d = _neighbours(y)
    whole = torch.stack(_neighbours(seen)).bool().all(0)
    return ((a - b - c + d) / 2)[whole]


def check_stated(degradation: Degradation, severity: float, noise_std: float, *, estimated: bool) -> None:
    """Reject a noise level that contradicts the severity of an operator.

    Raises:
        UserError: with the severity for that level.
    """
    if not isinstance(degradation, GaussianNoise | AudioNoise):
        return
    ends = degradation.noise_level(torch.tensor([0.0, severity, 1.0]))
    base, level, most = (float(end) for end in ends)
    if abs(level - noise_std) <= (ESTIMATED if estimated else ROUNDED) * level:
        return
    fits = degradation.severity_at(noise_std)
    remedy = f"use --severity {fits:.3g} without it" if 0 <= fits <= 1 else f"severity 0 to 1 is {base:g} to {most:g}"
    what = f"auto: the images look like noise of {noise_std:.2g}" if estimated else f"{noise_std:g}"
    raise UserError(
        f"--noise-std {what}, but {degradation.kind} at severity {severity:g} has noise of {level:.3g}: {remedy}"
    )


def doubt(estimate: float | None, level: Scalars) -> str | None:
    """A message if the estimated noise level is far from the level in use."""
    if estimate is None:
        return None
    taken = float(level.double().mean())
    if max(estimate, INVISIBLE) <= FACTOR * max(taken, INVISIBLE) and taken <= FACTOR * max(estimate, 1e-9):
        return None
    if max(estimate, taken) <= INVISIBLE:
        return None
    return (
        f"the images look like noise of {estimate:.2g}, not {taken:.2g}: "
        f"--noise-std {max(estimate, 0.001):.2g} may restore better"
    )


def _neighbours(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four corners of every square of 2 x 2."""
    return values[..., :-1, :-1], values[..., 1:, :-1], values[..., :-1, 1:], values[..., 1:, 1:]
