import numpy as np
import pytest
from latent_errors import calibration_of

from workbench.metrics.calibration import isotropy


def test_positions_are_exact_in_small_latents_and_averaged_in_large_ones() -> None:
    z = np.random.default_rng(0).normal(size=(2, 3, 8, 5))
    np.testing.assert_allclose(isotropy.by_position(z), z.mean(1))
    large = np.random.default_rng(0).normal(size=(2, 3, 16, 16))
    expected = large.mean(1).reshape(2, 8, 2, 8, 2).mean((2, 4))
    np.testing.assert_allclose(isotropy.by_position(large), expected)


def test_spread_by_hand() -> None:
    assert isotropy.root_mean_square(isotropy.relative_excess(np.array([1.0, 3.0]))) == 0.5
    assert isotropy.root_mean_square(isotropy.relative_excess(np.full(4, 7.0))) == 0
    assert np.isnan(isotropy.root_mean_square(np.zeros(0)))


def test_a_loud_row_is_located() -> None:
    def loud(noise):
        noise[:, :, 3] *= 2
        return noise

    found = calibration_of(flaw=loud)
    variance = found.curves["position_variance"].mean.reshape(8, 8)
    np.testing.assert_allclose(variance[3], 4, rtol=0.2)
    np.testing.assert_allclose(np.delete(variance, 3, axis=0), 1, rtol=0.2)


def test_one_wave_is_one_peak_of_the_spectrum() -> None:
    def waving(noise):
        phase = np.random.default_rng(9).uniform(0, 2 * np.pi, (len(noise), 1, 1, 1))
        return noise + 2 * np.cos(2 * np.pi * np.arange(8) * 2 / 8 + phase)

    spectrum = calibration_of(flaw=waving).curves["spectrum"]
    assert spectrum.x[int(spectrum.mean.argmax())] == pytest.approx(2 / 8)
    assert spectrum.mean[2] > 3 * np.delete(spectrum.mean, 2).max()
