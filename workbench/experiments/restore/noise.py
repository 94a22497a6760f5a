"""How much noise the pictures hold, by their own word."""

import math
from typing import Literal

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.tensors import Measurements, Scalars
from workbench.degradations import Degradation, GaussianNoise
from workbench.degradations.gaussian_noise import MAX_STD

MIN_DETAILS = 32
"""From fewer there is no estimate."""
NORMAL_MEDIAN = 0.6745  # of |n|, n ~ N(0, 1)
FACTOR = 2.0
"""By what an estimate must differ from the level that is taken to be worth a line; it is itself right within 1.5."""
ROUNDED, ESTIMATED = 0.01, 0.3
"""By what fraction a stated and an estimated level may differ from that of a severity."""
INVISIBLE = 0.02
"""A level of noise below which texture passes for noise."""


def read_noise_std(text: str | None) -> float | Literal["auto"] | None:
    """The level of noise that the command line names.

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


def estimate_noise(y: Measurements, observed: Tensor | None) -> float | None:
    """Standard deviation of white noise in all pictures together; None where too little of them is observed.

    Donoho's estimate (Donoho and Johnstone, Biometrika 81, 1994): the median of the finest diagonal details, here of
    Haar's wavelet, so that only four observed neighbours are needed. Texture makes it too large, clipping too small.

    Args:
        y: (pictures, channel, height, width).
        observed: 1 where y was measured, broadcastable to y; None: everywhere.
    """
    seen = torch.ones_like(y) if observed is None else observed.expand_as(y)
    a, b, c, d = _neighbours(y)
    whole = torch.stack(_neighbours(seen)).bool().all(0)
    details = ((a - b - c + d) / 2)[whole]
    if len(details) < MIN_DETAILS:
        return None
    return float(details.abs().median()) / NORMAL_MEDIAN


def check_stated(degradation: Degradation, severity: float, noise_std: float, *, estimated: bool) -> None:
    """Refuse a level of noise that the severity of an operator contradicts.

    Raises:
        UserError: with the severity of that level.
    """
    if not isinstance(degradation, GaussianNoise):
        return
    base = degradation.noise_std
    level = base + (MAX_STD - base) * severity
    if abs(level - noise_std) <= (ESTIMATED if estimated else ROUNDED) * level:
        return
    fits = (noise_std - base) / (MAX_STD - base)
    remedy = (
        f"give --severity {fits:.3g} without it" if 0 <= fits <= 1 else f"severity 0 to 1 is {base:g} to {MAX_STD:g}"
    )
    what = f"auto: the pictures look like noise of {noise_std:.2g}" if estimated else f"{noise_std:g}"
    raise UserError(
        f"--noise-std {what}, and the noise of {degradation.kind} is {level:.3g} by its severity {severity:g}: {remedy}"
    )


def doubt(estimate: float | None, level: Scalars) -> str | None:
    """A line where the noise that is seen is far from the level that is taken."""
    if estimate is None:
        return None
    taken = float(level.double().mean())
    if max(estimate, INVISIBLE) <= FACTOR * max(taken, INVISIBLE) and taken <= FACTOR * max(estimate, 1e-9):
        return None
    if max(estimate, taken) <= INVISIBLE:
        return None
    return (
        f"the pictures themselves look like noise of {estimate:.2g}, not {taken:.2g}: "
        f"--noise-std {max(estimate, 0.001):.2g} may restore better"
    )


def _neighbours(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four corners of every square of 2 x 2."""
    return values[..., :-1, :-1], values[..., 1:, :-1], values[..., :-1, 1:], values[..., 1:, 1:]
