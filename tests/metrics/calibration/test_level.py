import numpy as np
import pytest
import scoringrules
import uncertainty_toolbox as uct
from latent_errors import collected

from workbench.core.config import UserError
from workbench.metrics.calibration import (
    ence,
    equal_mass_bins,
    gaussian_crps,
    gaussian_nll,
    miscalibration_area,
    sharpness,
    summarise,
    uce,
)
from workbench.metrics.calibration.level import interval_coverage, normalised_excess


@pytest.fixture(scope="module")
def images():
    """Badly predicted errors: heavy tails, wrong levels, a bias."""
    rng = np.random.default_rng(0)
    error = 0.05 + 0.3 * rng.standard_t(5, size=(40, 2, 4, 4))
    z0 = rng.normal(size=error.shape)
    return z0 + error, z0, rng.uniform(0.02, 0.2, 40)


@pytest.fixture(scope="module")
def found(images):
    return summarise(collected(*images))


@pytest.fixture(scope="module")
def flat(images):
    """(prediction, standard deviation, truth) of every element, as the libraries take them."""
    z_hat, z0, var_hat = images
    return z_hat.ravel(), np.repeat(np.sqrt(var_hat), z0[0].size), z0.ravel()


def test_scores_of_elements_are_scoringrules(flat) -> None:
    mean, std, truth = flat
    error = mean - truth
    np.testing.assert_allclose(gaussian_crps(error, std**2), scoringrules.crps_normal(truth, mean, std), atol=1e-9)
    np.testing.assert_allclose(gaussian_nll(error**2, std**2), scoringrules.logs_normal(truth, mean, std), atol=1e-9)


def test_scores_of_images_are_uncertainty_toolboxes(found, flat) -> None:
    figures = {name: found.figures[name].mean for name in ("nll", "crps", "sharpness")}
    assert figures["nll"] == pytest.approx(uct.nll_gaussian(*flat), abs=1e-6)
    assert figures["crps"] == pytest.approx(uct.crps_gaussian(*flat), abs=1e-6)
    assert figures["sharpness"] == pytest.approx(uct.sharpness(flat[1]), abs=1e-6)


def test_calibration_curve_and_area_are_uncertainty_toolboxes(found, flat) -> None:
    expected, observed = uct.get_proportion_lists_vectorized(*flat, num_bins=21, prop_type="quantile")
    np.testing.assert_allclose(found.curves["calibration"].x, expected)
    np.testing.assert_allclose(found.curves["calibration"].mean, observed, atol=1e-9)
    area = uct.miscalibration_area(*flat, num_bins=201, vectorized=True, prop_type="quantile")
    assert found.figures["miscalibration_area"].mean == pytest.approx(area, abs=1e-6)


def test_coverage_is_uncertainty_toolboxes(found, flat) -> None:
    expected, observed = uct.get_proportion_lists_vectorized(*flat, num_bins=101, prop_type="interval")
    chosen = [round(100 * x) for x in found.curves["coverage"].x]
    np.testing.assert_allclose(found.curves["coverage"].x, expected[chosen])
    np.testing.assert_allclose(found.curves["coverage"].mean, observed[chosen], atol=1e-9)


def test_ence_and_uce_by_hand() -> None:
    """Two bins: predicted deviations 1 and 2, found 1.5 and 1."""
    variance, square = np.array([1.0, 4.0]), np.array([2.25, 1.0])
    assert ence(normalised_excess(variance, square)) == pytest.approx((0.5 + 0.5) / 2)
    assert uce(np.array([0.25, 0.75]) * (square - variance)) == pytest.approx(0.25 * 1.25 + 0.75 * 3)
    assert ence(np.array([0.5, np.nan])) == 0.5
    assert sharpness(np.array(2.25)) == 1.5


def test_ence_and_uce_of_images(images) -> None:
    z_hat, z0, var_hat = images
    found = summarise(collected(*images), num_bins=4)
    by_variance = np.argsort(var_hat).reshape(4, 10)
    variance = var_hat[by_variance].mean(1)
    square = ((z_hat - z0) ** 2)[by_variance].mean((1, 2, 3, 4))
    np.testing.assert_allclose(found.curves["reliability"].x, np.sqrt(variance))
    np.testing.assert_allclose(found.curves["reliability"].mean, np.sqrt(square))
    assert found.figures["ence"].mean == pytest.approx(np.abs(np.sqrt(square / variance) - 1).mean())
    assert found.figures["uce"].mean == pytest.approx(np.abs(square - variance).mean())


def test_bins_hold_as_many_images_each_even_of_equal_predictions() -> None:
    np.testing.assert_array_equal(equal_mass_bins(np.array([3.0, 1.0, 4.0, 2.0]), 2), [1, 0, 1, 0])
    np.testing.assert_array_equal(np.bincount(equal_mass_bins(np.ones(25), 10)), [3, 2, 3, 2, 3, 2, 3, 2, 3, 2])


@pytest.mark.parametrize(("num", "bins", "needed"), [(19, 10, "20"), (1, 1, "2"), (5, 0, "2")])
def test_too_few_images_for_the_bins(num: int, bins: int, needed: str) -> None:
    with pytest.raises(UserError, match=f"at least {needed} images"):
        equal_mass_bins(np.ones(num), bins)


def test_area_on_both_sides_of_a_crossing() -> None:
    assert miscalibration_area(np.array([0.0, 0.1, -0.1, 0.0])) == pytest.approx((0.05 + 0.05 + 0.05) / 3)
    assert miscalibration_area(np.array([0.0, 0.1, 0.1, 0.0])) == pytest.approx(0.2 / 3)
    assert miscalibration_area(np.zeros(5)) == 0


def test_coverage_of_a_calibrated_curve_is_its_level() -> None:
    np.testing.assert_allclose(interval_coverage(np.linspace(0, 1, 201)), np.linspace(0, 1, 101), atol=1e-12)
