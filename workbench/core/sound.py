"""Sound as images: how a second of speech becomes an image on [0, 1] for two-dimensional networks, and back.

The image is the MDCT of the waveform: rows are bands of 62.5 Hz from low to high, columns are frames of 8 ms. Its
coefficients c are compressed, because most are small and a few are large:

    x = (1 + sign(c) |c / 2.5|^(1/2)) / 2        c = 2.5 u |u|, u = 2 x - 1

so silence is middle grey, and the way back is smooth. On the 3,000 recordings of spoken digits, with peaks of 0.5, one
coefficient in a million is beyond the range and clipped. A waveform is on [-1, 1].
"""

import torch

from workbench.core.mdct import inverse_mdct, mdct
from workbench.core.tensors import Blocks, Images

SAMPLE_RATE = 8000
"""Samples per second of every waveform."""
BANDS, FRAMES = 64, 128
"""Height and width of an image of sound."""
SAMPLES = BANDS * FRAMES
"""Of an image: 1.024 s."""
PEAK = 0.5
"""The largest absolute value of a recording that is trained on: recordings are scaled to it."""
LARGEST = 2.5
"""The coefficient that is white; its negative is black."""


def to_image(blocks: Blocks) -> Images:
    """The image of a waveform; not clipped, so values of loud waveforms may be outside [0, 1]."""
    u = mdct(blocks) / LARGEST
    return 0.5 + u.sign() * u.abs().sqrt() / 2


def to_waveform(images: Images) -> Blocks:
    """The waveform of images, in blocks, differentiable; the inverse of `to_image`."""
    u = 2 * images - 1
    return inverse_mdct(LARGEST * u * u.abs())


def in_blocks(waveforms: torch.Tensor, bands: int = BANDS) -> Blocks:
    """Waveforms of (batch, samples) or (batch, channel, samples) in blocks of `bands` samples.

    Raises:
        ValueError: if the number of samples is not a multiple of `bands`.
    """
    waveforms = waveforms[:, None] if waveforms.ndim == 2 else waveforms
    if waveforms.shape[-1] % bands:
        raise ValueError(f"{waveforms.shape[-1]} samples are no whole number of blocks of {bands}")
    return waveforms.unflatten(-1, (-1, bands))
