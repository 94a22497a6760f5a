"""What sources of sound have in common: waveforms become images of one size."""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator

from workbench.core.sound import BANDS, FRAMES, PEAK, SAMPLES, in_blocks, to_image
from workbench.data.base import ImageSize, ImageSource

AT_ONCE = 1024
"""Waveforms that are transformed at a time."""


class SoundSource(ImageSource):
    """Sound at 8 kHz as 64 x 128 images (`workbench.core.sound`), each of 1.024 s."""

    is_sound: ClassVar[bool] = True

    size: ImageSize = Field((BANDS, FRAMES), description="bands and frames of an image of sound: 64 x 128")
    channels: int = Field(1, ge=1, le=1, description="1: channels of a recording are averaged")

    @field_validator("size")
    @classmethod
    def _of_sound(cls, size: int | tuple[int, int]) -> int | tuple[int, int]:
        if size != (BANDS, FRAMES):
            raise ValueError(f"images of sound are {BANDS} x {FRAMES}: leave out data.size")
        return size


def images_of(waveforms: np.ndarray) -> np.ndarray:
    """(N, 64, 128, 1) float32 images on [0, 1] of (N, 8192) waveforms; coefficients beyond the range are clipped."""
    images = np.empty((len(waveforms), BANDS, FRAMES, 1), np.float32)
    for first in range(0, len(waveforms), AT_ONCE):
        part = torch.from_numpy(np.asarray(waveforms[first : first + AT_ONCE], np.float32))
        images[first : first + AT_ONCE] = to_image(in_blocks(part)).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return images


def at_peak(waveform: np.ndarray) -> np.ndarray:
    """A waveform scaled to a peak of 0.5; silence stays silence."""
    loudest = np.abs(waveform).max(initial=0)
    return waveform * (PEAK / loudest) if loudest > 0 else waveform


def cut(waveform: np.ndarray) -> np.ndarray:
    """(pieces, 8192): consecutive parts of a waveform, the last one padded with zeros."""
    number = max(1, -(-len(waveform) // SAMPLES))
    return np.pad(waveform, (0, number * SAMPLES - len(waveform))).reshape(number, SAMPLES)
