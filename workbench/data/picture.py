"""One picture from a file, and which value of it is white."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from workbench.core.config import UserError

TOLERANCE = 1e-4
"""Floats may lie so far outside [0, 1]: rounding put them there, and they are clipped."""
WHITE: dict[np.dtype, float] = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
"""White of whole numbers, by their type."""
NARROWER = (255, 1023, 4095, 16383)
"""White of 8, 10, 12 and 14 bits, which cameras and scanners leave in files of 16."""
FAR = 50
"""No measurement of a picture whose white is 1 lies so far out, noise included."""
OTHERWISE = " (if white is another value, name it: data.white)"
NEARLY_BLACK = "no value but 0 and 1 of 255, beside brighter files: read as nearly black"
DARK = 0.1
"""A whole file below this part of white is said to be dark: its white may be another."""


@dataclass(frozen=True)
class Picture:
    """What a file holds.

    Attributes:
        name: the file's name; of one array of several in a file, "file.npz:key" or "file.npy:3".
        pixels: (H, W, C), uint8, or float32 whose scale is that of [0, 1] images; measurements with noise may lie
            outside.
        num_channels: of the file itself: 1 for a grey picture.
        notes: what was converted, a few words each.
        white: the value in the file that became 255 in uint8, and 1 in float32.
        peak: the highest value in the file.
        dtype: of the values in the file.
    """

    name: str
    pixels: np.ndarray
    num_channels: int
    notes: tuple[str, ...] = ()
    white: float = 255
    peak: float = 255
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.uint8))

    def with_white(self, white: float) -> Self:
        """The same picture for another value of white."""
        if white == self.white:
            return self
        if self.pixels.dtype == np.uint8:  # as stored, since white is 255
            return replace(self, pixels=on_unit_scale(self.pixels, white), white=white)
        return replace(self, pixels=self.pixels * np.float32(self.white / white), white=white)


def white_of(dtype: np.dtype, peak: float, white: float | None = None) -> tuple[float, tuple[str, ...]]:
    """(the value that is white, what to tell the user about it) of files of one kind.

    Without `white` it is what the type can hold, but for two cases of one obvious reading: bytes of which none is above
    1 are black and white; a highest value of exactly 255, 1023, 4095 or 16383 in 16 bits is white of 8 to 14 bits.

    Args:
        dtype: bool, uint8, uint16 or a float.
        peak: the highest value in all the files.
        white: what the user says.

    Raises:
        UserError: for a type that no picture has.
    """
    if white is not None:
        return white, ()
    if dtype == np.bool_:
        return 1, ("true and false read as white and black",)
    if np.issubdtype(dtype, np.floating):
        return 1, ()
    if dtype == np.uint8:
        if peak == 1:
            return 1, ("no value but 0 and 1, read as black and white",)
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
    """Values as stored, (...), as uint8, or as float32 for which white is 1; nothing is clipped."""
    if stored.dtype == np.uint8 and white == 255:
        return stored
    if stored.dtype in (np.uint8, np.bool_) and white == 1:
        return (stored * np.uint8(255)).astype(np.uint8)
    if stored.dtype == np.float32 and white == 1:
        return stored
    # divided in double precision, so that white itself becomes exactly 1; what overflows is refused as not finite
    with np.errstate(over="ignore"):
        return (stored / np.float64(white)).astype(np.float32)


def refuse_outside(low: float, high: float, where: str, white: float = 1) -> None:
    """Refuse floats whose range is not [0, 1] (white is 1 here) but for rounding.

    Raises:
        UserError: which says the range in the file's own values, and what to do.
    """
    if np.isnan(low) or np.isnan(high):
        raise UserError(f"{where} holds NaN: remove such images")
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return
    if white != 1:
        raise UserError(f"{where} holds values from {low * white:g} to {high * white:g}: outside 0 to white={white:g}")
    span = f"{where} holds values from {low:.9g} to {high:.9g}"
    if -1 - TOLERANCE <= low < 0 and high <= 1 + TOLERANCE:
        remedy = "if they lie on [-1, 1], save (images + 1) / 2"
    elif low >= -TOLERANCE and 2 < high < np.inf:
        remedy = f"divide them by their white, or name it: data.white={_round_white(high)}"
    else:
        remedy = "clip them, or divide them by their white"
    raise UserError(f"{span}: floats must lie on [0, 1]; {remedy}")


def refuse_far(pixels: np.ndarray, where: str) -> None:
    """Refuse float pixels that are not finite, or so far out that they are on another scale, whatever the noise.

    Raises:
        UserError: which says the highest value.
    """
    if pixels.dtype == np.uint8 or not pixels.size:
        return
    if not np.isfinite(pixels).all():
        raise UserError(f"{where} holds values that are not finite")
    if (furthest := float(np.abs(pixels).max())) > FAR:
        raise UserError(
            f"{where} holds values up to {furthest:.9g}, where white is 1: divide them by their white, such as 255"
        )


def unfit(dtype: np.dtype) -> str:
    """What is wrong with values of a type that no picture has, to be put after a file's name."""
    if dtype.hasobject:
        return "holds Python objects, which are not read: save plain numbers"
    if dtype.kind == "i":
        return f"holds {dtype}, whose white is not known: save uint8 (white 255), uint16 (65535) or floats on [0, 1]"
    return f"holds {dtype}: save uint8 (white 255), uint16 (65535) or floats on [0, 1]"


def _round_white(high: float) -> str:
    """The white of integers that would hold such a value."""
    return next((str(w) for w in (255, 4095, 65535) if high <= w), "VALUE")
