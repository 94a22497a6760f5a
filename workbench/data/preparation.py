"""Converting images to one size and number of channels."""

import numpy as np
import torch
from torch.nn import functional

from workbench.core.config import UserError

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601 weights of red, green and blue in luma."""


def prepare(images: np.ndarray, size: int | tuple[int, int], channels: int, *, clip: bool = True) -> np.ndarray:
    """Centre-crop to the shape of `size`, resize with antialiasing and convert to greyscale or colour.

    Args:
        images: (N, H, W, C), uint8 or float32 on [0, 1]. The caller decides whether enlarging is allowed.
        size: pixels a side of a square, or height and width.
        channels: of the result: C, or 1 or 3 if C is 3 or 1.
        clip: clip converted floats to [0, 1]; not for measurements, whose noise lies outside.

    Returns:
        (N, height, width, channels) of the same dtype; the input array itself if nothing changes.

    Raises:
        UserError: if images of C channels cannot be converted to `channels`.
    """
    wanted = (size, size) if isinstance(size, int) else size
    return _resize(convert(_crop(images, wanted), channels, clip=clip), wanted, clip)


def is_smaller(height: int, width: int, size: int | tuple[int, int]) -> bool:
    """Whether an image would have to be enlarged."""
    wanted = (size, size) if isinstance(size, int) else size
    return height < wanted[0] or width < wanted[1]


def size_text(size: int | tuple[int, int]) -> str:
    """A size in words: 32, or 24 x 32."""
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"


def _crop(images: np.ndarray, wanted: tuple[int, int]) -> np.ndarray:
    height, width = images.shape[1:3]
    is_wide = width * wanted[0] >= height * wanted[1]
    rows, columns = (height, height * wanted[1] // wanted[0]) if is_wide else (width * wanted[0] // wanted[1], width)
    top, left = (height - rows) // 2, (width - columns) // 2
    return images if (rows, columns) == (height, width) else images[:, top : top + rows, left : left + columns]


def convert(images: np.ndarray, channels: int, *, clip: bool = True) -> np.ndarray:
    """Convert to greyscale (1) or colour (3), with `clip` as in `prepare`; the input itself if nothing changes.

    Raises:
        UserError: if either is another number of channels.
    """
    own = images.shape[-1]
    if own == channels:
        return images
    if {own, channels} != {1, 3}:
        raise UserError(f"images of {own} channels cannot be converted to {channels}: set data.channels={own}")
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    grey = images.astype(np.float32, copy=False) @ LUMA
    return _as_dtype(grey[..., None], images.dtype, clip)


def _resize(images: np.ndarray, wanted: tuple[int, int], clip: bool) -> np.ndarray:
    if images.shape[1:3] == wanted:
        return images
    x = torch.from_numpy(np.array(images, dtype=np.float32)).permute(0, 3, 1, 2)
    resized = functional.interpolate(x, wanted, mode="bicubic", antialias=True, align_corners=False)
    return _as_dtype(resized.permute(0, 2, 3, 1).numpy(), images.dtype, clip)


def _as_dtype(images: np.ndarray, dtype: np.dtype, clip: bool) -> np.ndarray:
    """Round and clip bytes, clip floats if requested: bicubic weights overshoot at edges."""
    if dtype == np.uint8:
        return np.ascontiguousarray(images.round().clip(0, 255).astype(np.uint8))
    return np.ascontiguousarray(images.clip(0, 1) if clip else images, dtype=np.float32)
