"""One image from a file, and the value of white in it."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from workbench.core.config import UserError

TOLERANCE = 1e-4
"""Tolerance of floats outside [0, 1] from rounding; they are clipped."""
WHITE: dict[np.dtype, float] = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
"""White of integers, by dtype."""
NARROWER = (255, 1023, 4095, 16383)
"""White of 8, 10, 12 and 14 bits, which cameras and scanners store in 16-bit files."""
FAR = 50
"""No measurement of an image whose white is 1 has larger values, even with noise."""
OTHERWISE = " (if white is another value, set data.white)"
NEARLY_BLACK = "only values 0 and 1 of 255, but other files are brighter: read as nearly black"
DARK = 0.1
"""A file whose values all lie below this fraction of white is reported as dark: its white may be another value."""


@dataclass(frozen=True)
class Picture:
    """The content of an image file.

    Attributes:
        name: the file's name; for one of several arrays in a file, "file.npz:key" or "file.npy:3".
        pixels: (H, W, C), uint8, or float32 on the scale of [0, 1] images; measurements with noise may lie
            outside.
        num_channels: number of channels in the file: 1 for a greyscale image.
        notes: what was converted, in a few words each.
        white: the value in the file that became 255 in uint8, and 1 in float32.
        peak: the highest value in the file.
        dtype: dtype of the values in the file.
    """

    name: str
    pixels: np.ndarray
    num_channels: int
    notes: tuple[str, ...] = ()
    white: float = 255
    peak: float = 255
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.uint8))

    def with_white(self, white: float) -> Self:
        """The same image for another value of white."""
        if white == self.white:
            return self
        if self.pixels.dtype == np.uint8:  # as stored, since white is 255
            return replace(self, pixels=on_unit_scale(self.pixels, white), white=white)
        return replace(self, pixels=self.pixels * np.float32(self.white / white), white=white)


def white_of(dtype: np.dtype, peak: float, white: float | None = None) -> tuple[float, tuple[str, ...]]:
    """(the value of white, messages about it for the user) for files of one kind.

    Without `white`, it is the maximum of the dtype, with two unambiguous exceptions: bytes of at most 1 are black and
    white, and a highest value of exactly 255, 1023, 4095 or 16383 in 16 bits is the white of 8 to 14 bits.

    Args:
        dtype: bool, uint8, uint16 or a float.
        peak: the highest value in all the files.
        white: the value given by the user.

    Raises:
        UserError: for a dtype that images do not have.
    """
    if white is not None:
        return white, ()
    if dtype == np.bool_:
        return 1, ("true and false read as white and black",)
    if np.issubdtype(dtype, np.floating):
        return 1, ()
    if dtype == np.uint8:
        if peak == 1:
            return 1, ("only values 0 and 1, read as black and white",)
    elif dtype == np.uint16:
        if peak in (1, *NARROWER):
            bits = int(peak).bit_length()
            kind = "black and white" if peak == 1 else f"{bits} bits in 16"
            return peak, (f"highest value {peak:g} of 65535, read as {kind}",)
    else:
        raise UserError(unfit(dtype))
    full = WHITE[dtype]
    if 0 < peak < DARK * full:
        return full, (f"no value above {peak:g} of {full:g}, read as very dark",)
    return full, ()


def on_unit_scale(stored: np.ndarray, white: float) -> np.ndarray:
    """Convert stored values, (...), to uint8, or to float32 with white at 1; nothing is clipped."""
    if stored.dtype == np.uint8 and white == 255:
        return stored
    if stored.dtype in (np.uint8, np.bool_) and white == 1:
        return (stored * np.uint8(255)).astype(np.uint8)
    if stored.dtype == np.float32 and white == 1:
        return stored
    # divided in double precision, so that white becomes exactly 1; overflows are rejected as not finite
    with np.errstate(over="ignore"):
        return (stored / np.float64(white)).astype(np.float32)


def refuse_outside(low: float, high: float, where: str, white: float = 1) -> None:
    """Reject floats whose range is not [0, 1] (where white is 1) up to rounding.

    Raises:
        UserError: with the range in the file's own values, and the remedy.
    """
    if np.isnan(low) or np.isnan(high):
        raise UserError(f"{where} contains NaN: remove such images")
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return
    if white != 1:
        raise UserError(
            f"{where} has values from {low * white:g} to {high * white:g}, outside the range from 0 to white={white:g}"
        )
    span = f"{where} has values from {low:.9g} to {high:.9g}"
    if -1 - TOLERANCE <= low < 0 and high <= 1 + TOLERANCE:
        remedy = "if they are on [-1, 1], save (images + 1) / 2"
    elif low >= -TOLERANCE and 2 < high < np.inf:
        remedy = f"divide them by the value of white, or set it: data.white={_round_white(high)}"
    else:
        remedy = "clip them, or divide them by the value of white"
    raise UserError(f"{span}: floats must be on [0, 1]; {remedy}")


def refuse_far(pixels: np.ndarray, where: str) -> None:
    """Reject float pixels that are not finite, or so large that they must be on another scale, even with noise.

    Raises:
        UserError: with the highest value.
    """
    if pixels.dtype == np.uint8 or not pixels.size:
        return
    if not np.isfinite(pixels).all():
        raise UserError(f"{where} contains values that are not finite")
    if (furthest := float(np.abs(pixels).max())) > FAR:
        raise UserError(
            f"{where} has values up to {furthest:.9g}, but white must be 1: "
            "divide them by the value of white, such as 255"
        )


def unfit(dtype: np.dtype) -> str:
    """What is wrong with values of a dtype that images do not have, as the end of a message after a file's name."""
    if dtype.hasobject:
        return "contains Python objects, which are not loaded: save plain numbers"
    if dtype.kind == "c":
        return (
            f"has dtype {dtype}: save real and imaginary part as two channels on [0, 1], N x H x W x 2, and set "
            "data.channels=2"
        )
    if dtype.kind == "i":
        return f"has dtype {dtype}, whose white is unknown: save uint8 (white 255), uint16 (65535) or floats on [0, 1]"
    return f"has dtype {dtype}: save uint8 (white 255), uint16 (65535) or floats on [0, 1]"


def _round_white(high: float) -> str:
    """The white of integers that would have such a value."""
    return next((str(w) for w in (255, 4095, 65535) if high <= w), "VALUE")
