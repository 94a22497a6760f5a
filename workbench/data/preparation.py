"""Converting images to one size and number of channels."""

import numpy as np
import torch
from torch.nn import functional

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601 weights of red, green and blue in luma."""


def prepare(images: np.ndarray, size: int, channels: int, *, clip: bool = True) -> np.ndarray:
    """Centre-crop to a square, resize with antialiasing and convert to greyscale or colour.

    Args:
        images: (N, H, W, 1 or 3), uint8 or float32 on [0, 1]. The caller decides whether enlarging is allowed.
        size: height and width of the result in pixels.
        channels: 1 or 3.
        clip: clip converted floats to [0, 1]; not for measurements, whose noise lies outside.

    Returns:
        (N, size, size, channels) of the same dtype; the input array itself if nothing changes.
    """
    return _resize(convert(_crop(images), channels, clip=clip), size, clip)


def _crop(images: np.ndarray) -> np.ndarray:
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images if height == width else images[:, top : top + side, left : left + side]


def convert(images: np.ndarray, channels: int, *, clip: bool = True) -> np.ndarray:
    """Convert to greyscale (1) or colour (3), with `clip` as in `prepare`; the input itself if nothing changes."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    grey = images.astype(np.float32, copy=False) @ LUMA
    return _as_dtype(grey[..., None], images.dtype, clip)


def _resize(images: np.ndarray, size: int, clip: bool) -> np.ndarray:
    if images.shape[1] == size:
        return images
    x = torch.from_numpy(np.array(images, dtype=np.float32)).permute(0, 3, 1, 2)
    resized = functional.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return _as_dtype(resized.permute(0, 2, 3, 1).numpy(), images.dtype, clip)


def _as_dtype(images: np.ndarray, dtype: np.dtype, clip: bool) -> np.ndarray:
    """Round and clip bytes, clip floats if requested: bicubic weights overshoot at edges."""
    if dtype == np.uint8:
        return np.ascontiguousarray(images.round().clip(0, 255).astype(np.uint8))
    return np.ascontiguousarray(images.clip(0, 1) if clip else images, dtype=np.float32)
