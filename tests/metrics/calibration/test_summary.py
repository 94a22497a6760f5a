"""Each instrument on errors of known law: it says the known value, and the others stay quiet."""

import numpy as np
import pytest
from latent_errors import autoregressive, calibration_of, collected, forward, kernel, laplace, mmse, student_t
from scipy import stats
from scipy.special import log_ndtr, ndtr

from workbench.metrics import Estimate
from workbench.metrics.calibration import summarise
from workbench.metrics.calibration.independence import effective_elements
from workbench.metrics.statistics import figures_of_means

IDEAL = {
    "ratio": 1,
    "z2": 1,
    "skewness": 0,
    "kurtosis": 3,
    "bias": 0,
    "image_mean_power": 1,
    "forward_share": 1,
    "neighbour_correlation": 0,
    "effective_share": 1,
}
DISTANCES = ("ence", "ks", "cvm", "ad", "shape_ks", "shape_cvm", "shape_ad", "channel_spread", "position_spread")
DISTANCES += ("channel_correlation", "miscalibration_area", "uce")
PREDICTED = {"ks", "cvm", "ad", "miscalibration_area", "ence", "uce"}
"""Distances from N(0, var_hat): any flaw of level, mean or shape counts."""
OWN = {"shape_ks", "shape_cvm", "shape_ad"}


def quiet(estimate: Estimate, ideal: float) -> bool:
    """Within two half widths of the interval: 30 figures at 95 % would raise a false alarm in most runs."""
    return abs(estimate.mean - ideal) <= 2 * max(estimate.high - estimate.mean, estimate.mean - estimate.low)


def gamma(rng, size):
    return (rng.gamma(9, size=size) - 9) / 3


def mixed(noise):
    """Channels 0 and 1 correlated by 0.6."""
    noise[:, 1] = 0.6 * noise[:, 0] + 0.8 * noise[:, 1]
    return noise


def loud_channel(noise):
    """Variances 2.5, 0.5, 0.5, 0.5."""
    noise[:, 0] *= np.sqrt(2.5)
    noise[:, 1:] *= np.sqrt(0.5)
    return noise


def loud_half(noise):
    noise[..., :4] *= np.sqrt(1.5)
    noise[..., 4:] *= np.sqrt(0.5)
    return noise


def scattered(variance):
    """Predictions off by a factor exp(s g), E[1 / factor] = 1: the level is right on average."""
    s = 0.4
    return variance * np.exp(s * np.random.default_rng(5).normal(size=len(variance)) + s**2 / 2)


def sup_distance(law, scale: float = 1.0) -> float:
    """Of a law from the standard Gaussian."""
    x = np.linspace(-6, 6, 20_001)
    return float(np.abs(law.cdf(x) - ndtr(x / scale)).max())


def laplace_ad() -> float:
    """The integral of (Laplace - Gaussian)^2 over the Gaussian's logit, both of unit variance."""
    x = np.linspace(-12, 12, 20_001)
    excess = stats.laplace.cdf(x, scale=np.sqrt(0.5)) - ndtr(x)
    return float(np.trapezoid(excess**2, log_ndtr(x) - log_ndtr(-x)))


MIXTURE = 3 * (1 + 0.25)  # of variances 1 +- 0.5
CASES = {
    "gaussian": ({}, {}, set()),
    "overconfident": (
        {"predicted": lambda variance: variance / 2},
        {"ratio": 2, "z2": 2, "ence": np.sqrt(2) - 1, "ks": sup_distance(stats.norm(scale=np.sqrt(2)))},
        PREDICTED,
    ),
    "laplace": (
        {"noise": laplace},
        {"kurtosis": 6, "ks": sup_distance(stats.laplace(scale=np.sqrt(0.5))), "ad": laplace_ad()},
        PREDICTED - {"ence", "uce"} | OWN,
    ),
    "student t": (
        {"noise": student_t(12)},
        {"kurtosis": 3 + 6 / 8, "shape_ks": sup_distance(stats.t(12, scale=np.sqrt(10 / 12)))},
        PREDICTED - {"ence", "uce"} | OWN,
    ),
    "skewed": (
        {"noise": gamma},
        {"skewness": 2 / 3, "kurtosis": 3 + 6 / 9},
        PREDICTED - {"ence", "uce"} | OWN,
    ),
    "correlated positions": (
        {"noise": autoregressive(0.6)},
        {
            "neighbour_correlation": 0.6,
            "effective_share": (8 / (kernel(0.6, 8) ** 2).sum()) ** 2,
            "image_mean_power": (kernel(0.6, 8).sum() / 8) ** 2,
        },
        set(),
    ),
    "correlated channels": (
        {"flaw": mixed},
        {"channel_correlation": np.sqrt(2 * 0.36 / 12), "effective_share": 4 / (4 + 2 * 0.36)},
        {"image_mean_power"},
    ),
    "biased": (
        {"flaw": lambda noise: noise + 0.3},
        {"bias": 0.3, "z2": 1.09, "ence": np.sqrt(1.09) - 1, "ks": sup_distance(stats.norm(0.3))},
        PREDICTED | {"image_mean_power"},
    ),
    "shrunk": ({"channel": mmse}, {"forward_share": 0, "slope_on_estimate": 1}, set()),
    "loud channel": (
        {"flaw": loud_channel},
        {"channel_spread": np.sqrt(0.75), "effective_share": 4 / (2.5**2 + 3 * 0.25), "kurtosis": 3 * 1.75},
        PREDICTED - {"ence", "uce"} | OWN,
    ),
    "loud half": (
        {"flaw": loud_half},
        {"position_spread": 0.5, "effective_share": 1 / 1.25, "kurtosis": MIXTURE},
        PREDICTED - {"ence", "uce"} | OWN,
    ),
    "scattered level": (
        {"predicted": scattered},
        {"kurtosis": 3 * np.exp(0.4**2), "within_kurtosis": 3 * 255 / 257},
        PREDICTED | OWN,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_instrument_speaks_and_the_others_stay_quiet(case: str) -> None:
    made, loud, also = CASES[case]
    found = calibration_of(**made)
    for name, expected in loud.items():
        estimate = found.figures[name]
        assert quiet(estimate, expected), f"{name}: {estimate:.4f}, not {expected:.4f}"
        assert name not in DISTANCES or found.p_values[name] < 0.005, name
    for name in IDEAL.keys() - loud.keys() - also:
        assert quiet(found.figures[name], IDEAL[name]), f"{name}: {found.figures[name]:.4f}"
    for name in set(DISTANCES) - loud.keys() - also:
        assert found.p_values[name] > 0.005, f"{name}: {found.figures[name]:.4f}, p {found.p_values[name]:.4f}"
        assert found.figures[name].mean < 3 * found.floors[name], name
    for name in also & set(DISTANCES):
        assert found.p_values[name] < 0.05, f"{name}: p {found.p_values[name]:.4f}"


def test_curves_of_calibrated_errors_are_flat() -> None:
    curves = calibration_of().curves
    for name, ideal in {"pit": 1.0, "spectrum": 1.0, "channel_variance": 1.0, "channel_bias": 0.0}.items():
        np.testing.assert_allclose(curves[name].mean, ideal, atol=0.05, err_msg=name)
    for name in ("calibration", "coverage"):
        np.testing.assert_allclose(curves[name].mean, curves[name].x, atol=0.01)
    np.testing.assert_allclose(curves["reliability"].mean, curves["reliability"].x, rtol=0.05)
    np.testing.assert_allclose(curves["qq"].mean, stats.norm.ppf(curves["qq"].x), atol=0.06)
    np.testing.assert_allclose(curves["autocorrelation"].mean, [1] + 7 * [0], atol=0.02)
    assert all(len(curve.x) == len(curve.estimates) for curve in curves.values())


def test_laws_of_the_errors_are_named() -> None:
    assert next(iter(calibration_of(noise=laplace).fits)) == "laplace"
    found = calibration_of(noise=student_t(6)).fits
    assert next(iter(found)) == "student_t"
    assert found["student_t"].df == pytest.approx(6, abs=0.5)


def test_levels_predicted_within_a_tenth_are_wrong_by_as_many_decibels() -> None:
    figure = calibration_of(predicted=lambda variance: variance / 10).figures["ratio_db"]
    assert figure.mean == pytest.approx(10, abs=0.1)


def drawn(seed: int, num: int = 40):
    """A few images of strongly correlated errors, calibrated."""
    noise = autoregressive(0.8)(np.random.default_rng([7, seed]), (num, 1, 6, 6))
    return noise, collected(*forward(noise, np.ones(num), seed), np.ones(num))


def test_correlated_elements_raise_no_false_alarm() -> None:
    """A test that took elements for independent would reject most of these."""
    found = [drawn(seed) for seed in range(16)]
    naive = np.array([stats.kstest(noise.ravel(), "norm").pvalue for noise, _ in found])
    honest = np.array([summarise(rows, num_bins=2).p_values["ks"] for _, rows in found])
    assert (naive < 0.05).mean() > 0.5
    assert (honest < 0.05).mean() < 0.2
    assert 0.3 < honest.mean() < 0.75


def test_intervals_cover_under_correlation() -> None:
    names = {"z2": 1.0, "neighbour": 0.8, "effective": (6 * 6 / (kernel(0.8, 6) ** 2).sum()) ** 2}
    covered = {name: [] for name in [*names, "naive"]}
    for seed in range(150):
        noise, rows = drawn(seed)
        found = figures_of_means(
            lambda means: {"z2": means["lags"][:, 0], "neighbour": means["lags"][:, 1] / means["lags"][:, 0]},
            {"lags": rows["autocovariance"]},
        ).estimates | {"effective": (effective_elements(rows["z"]),)}
        for name, truth in names.items():
            covered[name].append(found[name][0].low <= truth <= found[name][0].high)
        square = noise.ravel() ** 2
        covered["naive"].append(abs(square.mean() - 1) < 1.96 * square.std() / np.sqrt(square.size))
    assert 0.87 <= np.mean(covered["z2"]) <= 0.99
    assert 0.85 <= np.mean(covered["neighbour"]) <= 0.99
    assert 0.85 <= np.mean(covered["effective"]) <= 0.99
    assert np.mean(covered["naive"]) < 0.7


def test_same_rows_give_the_same_figures() -> None:
    rows = drawn(0)[1]
    assert repr(summarise(rows)) == repr(summarise(rows))  # NaN is not equal to itself
