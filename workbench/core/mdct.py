"""The modified discrete cosine transform (MDCT) as an orthonormal map of waveforms to images, and its inverse.

A waveform of frames x bands samples becomes as many coefficients. Frame m is the windowed projection of 2 x bands
samples, those of blocks m and m + 1, on cosines of `bands` frequencies; neighbouring frames overlap by half, and what
they alias cancels (Princen and Bradley, IEEE Trans. ASSP 34, 1986). The sine window makes the transform orthonormal.
The last frame takes its second half from the first block (circular), so that no sample and no coefficient is special.
"""

import functools
import math

import torch
from torch import Tensor

from workbench.core.tensors import Blocks, Images


def mdct(blocks: Blocks) -> Images:
    """The coefficients of a waveform, (batch, channel, band, frame), from low to high frequency.

    Args:
        blocks: the waveform, (batch, channel, frame, band): consecutive blocks of as many samples as there are bands.
    """
    first, second = _bases(blocks.shape[-1], blocks)
    return (blocks @ first.mT + blocks.roll(-1, -2) @ second.mT).mT


def inverse_mdct(coefficients: Images) -> Blocks:
    """The waveform of coefficients, in blocks; the inverse of `mdct`, and its adjoint."""
    frames = coefficients.mT
    first, second = _bases(frames.shape[-1], frames)
    return frames @ first + frames.roll(1, -2) @ second


def _bases(bands: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The parts of the windowed cosines that lie on a frame's first and second block, (band, sample) each."""
    return _cosines(bands)[0].to(like), _cosines(bands)[1].to(like)


@functools.lru_cache(maxsize=32)
def _cosines(bands: int) -> tuple[Tensor, Tensor]:
    sample = torch.arange(2 * bands, dtype=torch.float64)
    band = torch.arange(bands, dtype=torch.float64)[:, None]
    window = (math.pi * (sample + 0.5) / (2 * bands)).sin()
    cosines = (math.pi / bands * (sample + 0.5 + bands / 2) * (band + 0.5)).cos()
    first, second = (math.sqrt(2 / bands) * window * cosines).split(bands, dim=1)
    return first.contiguous(), second.contiguous()
