import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri

from workbench.metrics.calibration import shape
from workbench.metrics.calibration.grid import EDGES, at_levels, counts_on_grid, distribution, quantiles


@pytest.fixture(scope="module")
def z():
    return 0.1 + 1.2 * np.random.default_rng(0).standard_t(6, size=4000)


def cdf_of(z: np.ndarray) -> np.ndarray:
    return distribution(counts_on_grid(z[None]) / z.size)


def raw_moments(z: np.ndarray) -> np.ndarray:
    return np.array([[(z**power).mean() for power in (1, 2, 3, 4)]])


def test_moments_are_scipys(z) -> None:
    raw = raw_moments(z)
    assert shape.skewness(raw) == pytest.approx(stats.skew(z))
    assert shape.kurtosis(raw) == pytest.approx(stats.kurtosis(z, fisher=False))


def test_no_spread_has_no_shape() -> None:
    assert np.isnan(shape.kurtosis(raw_moments(np.ones(4))))
    assert np.isnan(shape.skewness(raw_moments(np.zeros(4))))


def test_the_grid_counts_every_element_once() -> None:
    z = np.array([[-1e9, -100.0, 0.0, EDGES[100], 1e9]])
    counts = counts_on_grid(z)[0]
    assert counts.sum() == 5
    assert counts[0] == 2  # up to the first edge, which is itself included
    assert counts[100] == 1
    assert counts[-1] == 1
    np.testing.assert_allclose(EDGES, -EDGES[::-1])


def test_the_distribution_is_exact_at_the_edges(z) -> None:
    np.testing.assert_allclose(cdf_of(z)[0], [(z <= edge).mean() for edge in EDGES])
    found = at_levels(cdf_of(z))[0]
    assert (found[0], found[-1]) == (0, 1)
    np.testing.assert_allclose(found[1:-1], [(z <= ndtri(k / 200)).mean() for k in range(1, 200)])


def test_quantiles_lie_within_a_bin(z) -> None:
    levels = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(quantiles(cdf_of(z), levels)[0], np.quantile(z, levels), rtol=0.05, atol=0.02)


def test_distances_are_scipys_statistics_without_their_number(z) -> None:
    excess = shape.excess_over_gaussian(cdf_of(z), EDGES)
    assert shape.kolmogorov_smirnov(excess) == pytest.approx(stats.kstest(z, "norm").statistic, abs=0.003)
    expected = stats.cramervonmises(z, "norm").statistic / z.size
    assert shape.cramer_von_mises(excess, EDGES) == pytest.approx(expected, rel=0.02)


def test_anderson_darling_is_the_sum_over_sorted_elements(z) -> None:
    """A^2 = -n - sum (2 i - 1) / n (log F(z_i) + log(1 - F(z_(n + 1 - i)))); its tails need the logarithms."""
    ordered, i = np.sort(z), np.arange(1, z.size + 1)
    logs = stats.norm.logcdf(ordered) + stats.norm.logsf(ordered[::-1])
    expected = (-z.size - ((2 * i - 1) / z.size * logs).sum()) / z.size
    excess = shape.excess_over_gaussian(cdf_of(z), EDGES)
    assert shape.anderson_darling(excess, EDGES) == pytest.approx(expected, rel=0.02)


def test_distance_to_the_own_gaussian_is_the_laws() -> None:
    """sup |Laplace - Gaussian| of unit variance, from their distribution functions."""
    z = np.random.default_rng(1).laplace(3, 2, size=200_000)
    mean, variance, *_ = shape.central_moments(raw_moments(z))
    edges = shape.standard_edges(mean, variance)
    found = shape.kolmogorov_smirnov(shape.excess_over_gaussian(cdf_of(z), edges))
    x = np.linspace(-6, 6, 10_001)
    expected = np.abs(stats.laplace.cdf(x, scale=np.sqrt(0.5)) - ndtr(x)).max()
    assert found == pytest.approx(expected, abs=0.004)
