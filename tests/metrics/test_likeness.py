import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.core.config import UserError
from workbench.metrics import (
    Moments,
    frechet_distance,
    frechet_matrix,
    radial_counts,
    radial_spectrum,
    sampling_distance,
    spectral_distance,
    spectral_matrix,
)


def covariance(rng: np.random.Generator, d: int, rank: int | None = None) -> np.ndarray:
    factor = rng.normal(size=(d, rank or d))
    return factor @ factor.T


def gaussian(mean, cov) -> Moments:
    return Moments(100, np.atleast_1d(np.asarray(mean, float)), np.atleast_2d(np.asarray(cov, float)))


def test_moments_are_numpys() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3, 2, 2))
    moments = Moments.of(x)
    assert moments.num == 50
    np.testing.assert_allclose(moments.mean, x.reshape(50, -1).mean(0))
    np.testing.assert_allclose(moments.covariance, np.cov(x.reshape(50, -1).T))


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(any))
@settings(max_examples=30, deadline=None)
def test_pooled_parts_are_the_whole(sizes: list[int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    parts = [rng.normal(i, 1 + i, size=(size, 4)) for i, size in enumerate(sizes)]
    empty = Moments(0, np.zeros(4), np.zeros((4, 4)))
    pooled = Moments.pooled([Moments.of(part) if len(part) else empty for part in parts])
    whole = Moments.of(np.concatenate(parts))
    assert pooled.num == whole.num
    np.testing.assert_allclose(pooled.mean, whole.mean, atol=1e-12)
    np.testing.assert_allclose(pooled.covariance, whole.covariance, atol=1e-10)


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.array([[1.0, math.nan]])])
def test_moments_of_nothing_and_of_nan_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(UserError):
        Moments.of(bad)
    with pytest.raises(UserError, match="at least one"):
        Moments.pooled([])


@pytest.mark.parametrize(("ma", "va", "mb", "vb"), [(0, 1, 3, 1), (0, 4, 0, 9), (1, 0.25, -2, 16), (5, 0, 1, 4)])
def test_frechet_of_one_dimension(ma: float, va: float, mb: float, vb: float) -> None:
    expected = math.hypot(ma - mb, math.sqrt(va) - math.sqrt(vb))
    assert frechet_distance(gaussian(ma, va), gaussian(mb, vb)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [1, 6])
def test_frechet_of_equal_covariances_is_the_means_distance(rank: int) -> None:
    rng = np.random.default_rng(1)
    cov, mean = covariance(rng, 6, rank), rng.normal(size=6)
    assert frechet_distance(gaussian(mean, cov), gaussian(-mean, cov)) == pytest.approx(2 * np.linalg.norm(mean))
    # a difference of equals: exact to rounding, and never the root of a negative number
    assert frechet_distance(gaussian(mean, cov), gaussian(mean, cov)) < 1e-6


def test_frechet_of_commuting_covariances() -> None:
    rng = np.random.default_rng(2)
    axes, _ = np.linalg.qr(rng.normal(size=(7, 7)))
    # singular ones among them
    a, b = rng.uniform(0, 3, 7), np.array([0, 0, 1, 2, 3, 4, 5.0])
    mean = rng.normal(size=7)
    expected = math.sqrt((mean**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())
    found = frechet_distance(gaussian(mean, axes * a @ axes.T), gaussian(0 * mean, axes * b @ axes.T))
    assert found == pytest.approx(expected, rel=1e-7)


def test_frechet_agrees_with_the_formula_that_needs_a_matrix_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(3)
    a, b = covariance(rng, 5), covariance(rng, 5)
    squared = np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_distance(gaussian(np.zeros(5), a), gaussian(np.zeros(5), b)) ** 2 == pytest.approx(squared)


def test_frechet_is_a_metric_that_no_rotation_changes() -> None:
    rng = np.random.default_rng(4)
    sets = [gaussian(rng.normal(size=4), covariance(rng, 4, rank)) for rank in (1, 2, 4, 4)]
    d = frechet_matrix(sets)
    assert np.array_equal(d, d.T)
    assert not np.diag(d).any()
    for i, j, k in np.ndindex(4, 4, 4):
        assert d[i, k] <= d[i, j] + d[j, k] + 1e-9
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    turned = [gaussian(turn @ s.mean, turn @ s.covariance @ turn.T) for s in sets]
    np.testing.assert_allclose(frechet_matrix(turned), d, atol=1e-6)


@pytest.mark.parametrize(
    ("cov", "message"),
    [
        ([[1.0, 0.5], [0.0, 1.0]], "symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "negative eigenvalues"),
        ([[math.nan, 0.0], [0.0, 1.0]], "finite"),
        (np.eye(3), "different sizes"),
    ],
)
def test_what_is_no_covariance_is_refused(cov, message: str) -> None:
    with pytest.raises(UserError, match=message):
        frechet_distance(gaussian([0, 0], cov), gaussian([0, 0], np.eye(2)))


def test_rounding_of_a_float32_file_is_borne() -> None:
    rng = np.random.default_rng(5)
    cov = covariance(rng, 64, 10)
    rounded = cov.astype(np.float32).astype(float)
    assert np.linalg.eigvalsh(rounded).min() < 0
    scale = math.sqrt(np.trace(cov))
    assert frechet_distance(gaussian(np.zeros(64), cov), gaussian(np.zeros(64), rounded)) < 2e-2 * scale


@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_sampling_distance_is_what_samples_of_one_gaussian_show(spread: float) -> None:
    rng = np.random.default_rng(6)
    d, num = 8, 500
    axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
    eigenvalues = np.exp(spread * rng.normal(size=d))
    root = axes * np.sqrt(eigenvalues)
    true = gaussian(np.zeros(d), root @ root.T)
    squares = [
        frechet_distance(*(Moments.of(rng.normal(size=(num, d)) @ root.T) for _ in range(2))) ** 2 for _ in range(200)
    ]
    standard_error = np.std(squares) / math.sqrt(len(squares))
    assert abs(np.mean(squares) - sampling_distance(true, num) ** 2) < 4 * standard_error + 0.02 * np.mean(squares)
    # in one dimension: 2 v / n of the mean, v / n of the standard deviation's difference
    assert sampling_distance(gaussian(0, 3.0), 100) == pytest.approx(math.sqrt(3 * 3 / 100))
    assert sampling_distance(gaussian([0, 0], np.zeros((2, 2))), 10) == 0


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (4, 12), (5, 8), (1, 6), (1, 1)])
def test_spectrum_keeps_the_power_and_is_flat_for_white_noise(shape: tuple[int, int]) -> None:
    e = np.random.default_rng(7).normal(0, 0.5, size=(4000, 3, *shape))
    spectrum, counts = radial_spectrum(e), radial_counts(*shape)
    assert counts.sum() == math.prod(shape)
    assert counts.min() > 0
    assert spectrum @ counts / counts.sum() == pytest.approx((e**2).mean())  # Parseval
    deviation = 0.25 * np.sqrt(2 / (e.shape[0] * 3 * np.maximum(counts / 2, 1)))
    assert (np.abs(spectrum - 0.25) < 5 * deviation).all()


def test_a_wave_lies_in_the_bin_of_its_frequency() -> None:
    rows, columns = np.mgrid[:8, :8]
    for (fy, fx), expected in {(0, 0): 0, (0, 2): 2, (3, 0): 3, (2, 2): 3, (3, 3): 4, (4, 4): 6}.items():
        wave = np.cos(2 * np.pi * (fy * rows + fx * columns) / 8)[None, None]
        assert int(radial_spectrum(wave).argmax()) == expected


@pytest.mark.parametrize("bad", [np.zeros((2, 8, 8)), np.zeros((0, 1, 8, 8))])
def test_spectra_need_latents(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match="height, width"):
        radial_spectrum(bad)


def test_spectral_distance_sees_shape_and_not_level() -> None:
    counts = np.array([1, 1])
    flat, tilted = np.array([1.0, 1.0]), np.array([0.2, 1.8])
    assert spectral_distance(flat, 7 * flat, counts) == pytest.approx(0, abs=1e-12)
    expected = math.sqrt(((10 * math.log10(0.2)) ** 2 + (10 * math.log10(1.8)) ** 2) / 2)
    assert spectral_distance(flat, tilted, counts) == pytest.approx(expected)
    matrix = spectral_matrix([flat, tilted, 3 * tilted], counts)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(matrix, [[0, expected, expected], [expected, 0, 0], [expected, 0, 0]], atol=1e-12)
    with pytest.raises(UserError, match="positive"):
        spectral_distance(flat, np.array([0.0, 1.0]), counts)
    with pytest.raises(UserError, match="different sizes"):
        spectral_distance(flat, np.ones(3), counts)
