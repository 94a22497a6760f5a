"""Metrics of sound: computed on waveforms, and absent for other images."""

import math

import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.sound import BANDS, FRAMES, SAMPLE_RATE, SAMPLES, in_blocks, to_image, to_waveform
from workbench.degradations import AudioNoise
from workbench.metrics import (
    SISDR,
    Absent,
    Comparison,
    LogSpectralDistance,
    MetricWeights,
    log_spectral_distance,
    si_sdr,
)
from workbench.testing import LinearAutoencoder

NUM = 3
IDS = torch.arange(NUM)


def waveforms() -> Tensor:
    return 0.1 * randomness.normal(IDS, ("waveform",), (SAMPLES,))


def noise() -> Tensor:
    """As strong as the waveforms, and orthogonal to them."""
    drawn = 0.1 * randomness.normal(IDS, ("noise",), (SAMPLES,))
    clean = waveforms()
    drawn = drawn - (drawn * clean).sum(1, keepdim=True) / clean.square().sum(1, keepdim=True) * clean
    return drawn * clean.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)


def images(waveform: Tensor) -> Tensor:
    return to_image(in_blocks(waveform))


def test_si_sdr_is_the_ratio_of_the_waveform_to_what_is_not_of_it() -> None:
    clean = images(waveforms())
    for decibels in (0.0, 10.0, 20.0):
        noisy = images(waveforms() + 10 ** (-decibels / 20) * noise())
        torch.testing.assert_close(si_sdr(noisy, clean), torch.full((NUM,), decibels), rtol=0, atol=0.05)
        quieter = images(0.5 * to_waveform(noisy).flatten(1))
        torch.testing.assert_close(si_sdr(quieter, clean), si_sdr(noisy, clean), rtol=0, atol=0.05)
    assert (si_sdr(clean, clean) > 60).all()


def test_the_log_spectral_distance_is_in_decibels() -> None:
    clean = images(waveforms())
    assert (log_spectral_distance(clean, clean) < 1e-2).all()
    quieter = images(0.5 * waveforms())
    torch.testing.assert_close(
        log_spectral_distance(quieter, clean), torch.full((NUM,), 20 * math.log10(2)), rtol=0, atol=0.05
    )


def test_what_nobody_hears_is_not_compared() -> None:
    seconds = torch.arange(SAMPLES, dtype=torch.float64) / SAMPLE_RATE
    tone = (0.3 * (2 * math.pi * 440 * seconds).sin()).float()[None].expand(NUM, -1)
    near = log_spectral_distance(images(tone + 1e-6 * noise()), images(tone))
    assert (near < 1).all()
    assert (log_spectral_distance(images(tone + 0.1 * noise()), images(tone)) > 10).all()
    silent = images(torch.zeros(NUM, SAMPLES))
    assert (log_spectral_distance(silent, silent) == 0).all()


def compared(*, is_sound: bool) -> Comparison:
    x, autoencoder = images(waveforms()), LinearAutoencoder(image_channels=1, encoder_error=0.1)
    operator = AudioNoise()
    m = operator.measure(x, torch.full((NUM,), 0.5), IDS, 0)
    z0 = autoencoder.encode(x)
    return Comparison(
        x_hat=images(waveforms() + 0.1 * noise()),
        z_hat=z0,
        measurement=m,
        x=x,
        z0=None,
        decode=autoencoder.decode,
        measure=lambda x: operator.A(x, m.params),
        lpips=Absent("not needed"),
        is_sound=is_sound,
    )


def test_they_are_of_images_of_sound_only() -> None:
    found = SISDR().checked(compared(is_sound=True)) | LogSpectralDistance().checked(compared(is_sound=True))
    assert found.keys() == {"si_sdr", "si_sdr_degraded", "log_spectral_distance"}
    torch.testing.assert_close(found["si_sdr"], torch.full((NUM,), 20.0), rtol=0, atol=0.1)
    expected = 20 * math.log10(0.1 / 0.1**1.5)
    torch.testing.assert_close(found["si_sdr_degraded"], torch.full((NUM,), expected), rtol=0, atol=0.3)
    for metric in (SISDR(), LogSpectralDistance()):
        assert metric(compared(is_sound=False)) == {}
        assert metric.load(MetricWeights(), (1, BANDS, FRAMES)) is None
        reason = metric.load(MetricWeights(), (3, 64, 64))
        assert isinstance(reason, Absent)
        assert "compares sound, in images of 1 x 64 x 128, but these are 3 x 64 x 64" in reason.reason


@pytest.mark.parametrize("metric", [si_sdr, log_spectral_distance])
def test_shapes_must_agree(metric) -> None:
    x = images(waveforms())
    with pytest.raises((ValueError, TypeError)):
        metric(x[:1], x)
