"""The similarity of restored and clean sound: one number per image of sound, computed on the waveforms."""

import torch
from torch import Tensor

from workbench.core.sound import to_waveform
from workbench.core.tensors import Images, Scalars

WINDOW, HOP = 256, 64
"""Samples of a frame of the log-spectral distance, and between frames: 32 ms and 8 ms."""
FLOOR_DB = -60.0
"""Powers below this, relative to the clean recording's highest, count as this: nobody hears the difference."""


def si_sdr(x_hat: Images, x: Images) -> Scalars:
    """Scale-invariant signal-to-distortion ratio in dB, (B,): what of the waveform is the clean one, at any level.

    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.

    Raises:
        ValueError: if the shapes differ.
    """
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    return scale_invariant_signal_distortion_ratio(*_waveforms(x_hat, x))


def log_spectral_distance(x_hat: Images, x: Images) -> Scalars:
    """Distance of log power spectra in dB, (B,): root mean square over frequencies, averaged over frames of 32 ms.

    Gray and Markel, "Distance measures for speech processing", IEEE Trans. ASSP 24, 1976. It does not depend on phase.

    Raises:
        ValueError: if the shapes differ.
    """
    restored, clean = (_power(waveform) for waveform in _waveforms(x_hat, x))
    floor = clean.amax((1, 2), keepdim=True).clamp(min=1e-12) * 10 ** (FLOOR_DB / 10)
    difference = 10 * (torch.maximum(restored, floor) / torch.maximum(clean, floor)).log10()
    return difference.square().mean(1).sqrt().mean(1)


def _waveforms(x_hat: Images, x: Images) -> tuple[Tensor, Tensor]:
    """(B, samples) of both; restored images are clamped to [0, 1], as a file would do."""
    if x_hat.shape != x.shape:
        raise ValueError(f"the two batches must have the same shape, got {tuple(x_hat.shape)} and {tuple(x.shape)}")
    return to_waveform(x_hat.clamp(0, 1)).flatten(1), to_waveform(x).flatten(1)


def _power(waveform: Tensor) -> Tensor:
    """Power spectra, (B, frequency, frame)."""
    window = torch.hann_window(WINDOW, dtype=waveform.dtype, device=waveform.device)
    return torch.stft(waveform, WINDOW, HOP, window=window, return_complex=True).abs().square()
