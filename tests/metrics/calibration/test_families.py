import numpy as np
import pytest
from scipy import stats

from workbench.core.config import UserError
from workbench.metrics.calibration import fit, fit_all
from workbench.metrics.calibration.grid import counts_on_grid

NUM = 100_000
LAWS = {
    "gaussian": stats.norm(0.2, 1.3),
    "laplace": stats.laplace(0.2, 1.3),
    "student_t": stats.t(5, 0.2, 1.3),
}


def counts_of(family: str) -> np.ndarray:
    return counts_on_grid(LAWS[family].rvs(size=(1, NUM), random_state=0))[0]


@pytest.mark.parametrize("family", LAWS)
def test_the_true_law_is_found_with_its_parameters(family: str) -> None:
    fits = fit_all(counts_of(family), NUM)
    best = fits[family]
    assert next(iter(fits)) == family
    assert best.location == pytest.approx(0.2, abs=0.02)
    assert best.scale == pytest.approx(1.3, abs=0.03)
    assert best.distance < 2 / np.sqrt(NUM)
    others = [found for name, found in fits.items() if name != family and (family, name) != ("gaussian", "student_t")]
    assert all(found.distance > 5 * best.distance for found in others)
    assert all(found.log_likelihood < best.log_likelihood - 1e-3 for found in others)
    if family == "student_t":
        assert best.df == pytest.approx(5, abs=0.3)
    elif family == "gaussian":
        assert fits["student_t"].df > 50


@pytest.mark.parametrize("seed", range(6))
def test_gaussian_elements_are_called_gaussian(seed: int) -> None:
    counts = counts_on_grid(np.random.default_rng(seed).normal(size=(1, 20_000)))[0]
    assert next(iter(fit_all(counts, 20_000))) == "gaussian"


def test_few_independent_elements_do_not_tell_a_student_t() -> None:
    counts = counts_on_grid(stats.t(20).rvs(size=(1, NUM), random_state=3))[0]
    assert next(iter(fit_all(counts, NUM))) == "student_t"
    assert next(iter(fit_all(counts, NUM / 1000))) == "gaussian", "as many elements, nearly all of them copies"


def test_the_fit_is_scipys_of_the_elements() -> None:
    z = LAWS["student_t"].rvs(size=(1, 5000), random_state=1)
    found = fit("student_t", counts_on_grid(z)[0])
    df, location, scale = stats.t.fit(z[0])
    assert (found.df, found.location, found.scale) == pytest.approx((df, location, scale), rel=0.02, abs=0.01)


@pytest.mark.parametrize("family", LAWS)
def test_quantiles_for_a_qq_plot(family: str) -> None:
    levels = np.array([0.001, 0.1, 0.5, 0.99])
    found = fit(family, counts_of(family)).quantile(levels)
    np.testing.assert_allclose(found, LAWS[family].ppf(levels), rtol=0.05, atol=0.02)


def test_elements_far_out_do_not_break_the_fit() -> None:
    z = np.append(np.random.default_rng(2).normal(size=5000), [80.0, -500.0])
    fits = fit_all(counts_on_grid(z[None])[0], z.size)
    assert all(np.isfinite(found.log_likelihood) for found in fits.values())
    assert next(iter(fits)) == "student_t"


def test_no_spread_cannot_be_fitted() -> None:
    with pytest.raises(UserError, match="one bin"):
        fit("gaussian", counts_on_grid(np.full((1, 9), 1e-9))[0])
