import numpy as np
import pytest
from latent_errors import autoregressive, calibration_of, kernel

from workbench.metrics.calibration import independence

RHO = 0.6


def test_correlations_of_a_known_field() -> None:
    z = autoregressive(RHO)(np.random.default_rng(0), (3000, 2, 5, 7))
    found = independence.autocorrelation(independence.autocovariance(z).mean(0))
    assert found.shape == (5, 9)
    expected = kernel(RHO, 5)[0][:, None] * RHO ** np.abs(np.arange(-4, 5))
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert independence.neighbour_correlation(found) == pytest.approx(RHO, abs=0.01)


def test_effective_positions_are_the_participation_ratio_of_the_eigenvalues() -> None:
    covariance = np.kron(kernel(RHO, 5), kernel(RHO, 7))
    eigenvalues = np.linalg.eigvalsh(covariance)
    correlation = kernel(RHO, 5)[0][:, None] * RHO ** np.abs(np.arange(-4, 5))
    # lags end at 4: the farthest pairs along the longer side are left out, with squares of 0.6^10 and less
    found = independence.effective_positions(correlation, 5, 7)
    assert found == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=3e-3)
    white = np.zeros((5, 9))
    white[0, 4] = 1
    assert independence.effective_positions(white, 5, 7) == 35


def test_effective_channels() -> None:
    assert independence.effective_channels(3 * np.eye(4)) == pytest.approx(4)
    assert independence.effective_channels(np.ones((4, 4))) == pytest.approx(1)
    assert independence.effective_channels(np.diag([1.0, 1, 0, 0])) == pytest.approx(2)
    np.testing.assert_allclose(independence.channel_correlations(np.array([[4.0, 1], [1, 1]])), [0.5])


def test_channel_covariance() -> None:
    mixing = np.array([[1.0, 0], [0.8, 0.6]])
    z = np.einsum("kc,nchw->nkhw", mixing, np.random.default_rng(0).normal(size=(2000, 2, 4, 4)))
    np.testing.assert_allclose(independence.channel_covariance(z).mean(0), mixing @ mixing.T, atol=0.02)


def test_one_position_has_no_neighbours() -> None:
    single = independence.autocovariance(np.random.default_rng(0).normal(size=(3, 2, 1, 4)))
    assert single.shape == (3, 1, 1)
    assert np.isnan(independence.neighbour_correlation(independence.autocorrelation(single))).all()


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
