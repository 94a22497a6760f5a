import numpy as np
import pytest
from latent_errors import autoregressive, calibration_of, collected, kernel

from workbench.metrics.calibration import independence, summarise

RHO = 0.6


def test_correlations_of_a_known_field() -> None:
    z = autoregressive(RHO)(np.random.default_rng(0), (3000, 2, 5, 7))
    found = independence.autocorrelation(independence.autocovariance(z).mean(0))
    np.testing.assert_allclose(found, kernel(RHO, 5)[0], atol=0.02)


def test_axes_count_alike() -> None:
    """Correlated along one axis only."""
    z = np.random.default_rng(0).normal(size=(2000, 1, 6, 1)) * np.ones(6)
    found = independence.autocorrelation(independence.autocovariance(z).mean(0))
    np.testing.assert_allclose(found, [1, 0.5, 0.5, 0.5, 0.5, 0.5], atol=0.03)


@pytest.mark.parametrize("num", [100, 1000])
def test_effective_elements_of_any_covariance(num: int) -> None:
    """Not stationary and not separable; with 100 images the covariance of 48 elements is mostly noise."""
    rng = np.random.default_rng(num)
    eigenvalues = 0.9 ** np.arange(48)
    vectors = np.linalg.qr(rng.normal(size=(48, 48)))[0]
    z = 5 + rng.normal(size=(num, 48)) @ (vectors * np.sqrt(eigenvalues)).T
    found = independence.effective_elements(z)
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert found.low < expected < found.high
    assert found.high / found.low < 1 + 8 / np.sqrt(num)


def test_independent_elements_are_all_effective() -> None:
    found = independence.effective_elements(np.random.default_rng(0).normal(size=(60, 512)))
    assert found.low < 512 < found.high
    assert found.mean == pytest.approx(512, rel=0.1)


def test_one_common_element_is_one() -> None:
    common = np.random.default_rng(0).normal(size=(500, 1)) * np.ones(16)
    assert independence.effective_elements(common).mean == pytest.approx(1, abs=0.02)


def test_two_images_have_no_covariance() -> None:
    assert np.isnan(independence.effective_elements(np.random.default_rng(0).normal(size=(2, 9))).mean)


def test_correlation_of_two_channels() -> None:
    np.testing.assert_allclose(independence.channel_correlations(np.array([[4.0, 1], [1, 1]])), [0.5])


def test_channel_covariance() -> None:
    mixing = np.array([[1.0, 0], [0.8, 0.6]])
    z = np.einsum("kc,nchw->nkhw", mixing, np.random.default_rng(0).normal(size=(2000, 2, 4, 4)))
    np.testing.assert_allclose(independence.channel_covariance(z).mean(0), mixing @ mixing.T, atol=0.02)


def test_one_position_has_no_neighbours() -> None:
    rng = np.random.default_rng(0)
    assert independence.autocovariance(rng.normal(size=(3, 2, 1, 4))).shape == (3, 1)
    found = summarise(collected(*rng.normal(size=(2, 20, 2, 1, 4)), np.full(20, 2.0)))
    assert np.isnan(found.figures["neighbour_correlation"].mean)


def test_the_effective_number_is_what_the_variance_of_an_image_knows() -> None:
    """Var(s2) = 2 / d_eff for Gaussian errors, less what the removed mean takes."""
    found = calibration_of(noise=autoregressive(RHO), num=1500).figures
    spread = found["ratio_db"].mean * np.log(10) / 10
    assert 2 / found["effective_elements"].mean == pytest.approx(spread**2, rel=0.15)
    assert spread**2 > 2 * 2 / 256


def test_image_means_tell_the_correlation_without_a_model() -> None:
    expected = (kernel(RHO, 8).sum() / 8) ** 2
    found = calibration_of(noise=autoregressive(RHO)).figures["image_mean_power"]
    assert found.low < expected < found.high
