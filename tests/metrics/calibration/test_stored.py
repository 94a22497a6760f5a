"""Calibrations as JSON: what comes back is what was written."""

import math

import numpy as np
import pytest
from latent_errors import SHAPE, collected, forward, gaussian, levels

from workbench.metrics.calibration import ALL, Calibration, as_json, bins_for, ence_of, from_json, summarise
from workbench.metrics.calibration.level import equal_mass_bins


@pytest.fixture(scope="module")
def found() -> Calibration:
    variance = levels(60, seed=0)
    noise = gaussian(np.random.default_rng(0), (60, *SHAPE))
    return summarise(collected(*forward(noise, variance, seed=0), variance))


def test_all_comes_back_to_six_digits(found: Calibration) -> None:
    (name, read), *others = from_json(as_json({ALL: found})).items()
    assert (name, others) == (ALL, [])
    assert read.num_images == found.num_images == 60
    assert read.figures.keys() == found.figures.keys()
    for name, value in found.figures.items():
        ends = [getattr(read.figures[name], end) for end in ("mean", "low", "high")]
        assert ends == pytest.approx([value.mean, value.low, value.high], rel=1e-5, nan_ok=True)
        assert read.figures[name].num_images == 60
    assert read.floors == pytest.approx(found.floors, rel=1e-5)
    assert read.p_values == pytest.approx(found.p_values, rel=1e-5)
    for name, curve in found.curves.items():
        np.testing.assert_allclose(read.curves[name].x, curve.x, rtol=1e-5)
        np.testing.assert_allclose(read.curves[name].mean, curve.mean, rtol=1e-5)
    assert list(read.fits) == list(found.fits), "likeliest first"
    levels_of_qq = np.array([0.1, 0.9])
    for family, fit in found.fits.items():
        np.testing.assert_allclose(read.fits[family].quantile(levels_of_qq), fit.quantile(levels_of_qq), rtol=1e-4)


def test_what_is_undefined_stays_so() -> None:
    undefined = summarise(
        collected(*forward(gaussian(np.random.default_rng(0), (2, *SHAPE)), np.ones(2), 0), np.ones(2)), 1
    )
    assert math.isnan(undefined.figures["effective_elements"].mean)
    text = as_json({ALL: undefined})
    assert "NaN" not in text, "no JSON"
    assert math.isnan(from_json(text)[ALL].figures["effective_elements"].mean)


@pytest.mark.parametrize("text", ['{"all": 3}', '{"all": {"num_images": 3}}', '{"all": null}', "{"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a calibration|Expecting"):
        from_json(text)


def test_ence_of_any_variance_is_that_of_the_summary(found: Calibration) -> None:
    variance = levels(60, seed=0)
    noise = gaussian(np.random.default_rng(0), (60, *SHAPE))
    square = variance * (noise**2).mean((1, 2, 3))
    same = ence_of(variance, square)
    ence = found.figures["ence"]
    assert (same.mean, same.low, same.high) == pytest.approx((ence.mean, ence.low, ence.high))
    doubled = ence_of(variance / 4, square)
    assert doubled.low < 1.0 < doubled.high
    assert doubled.mean == pytest.approx(1.0, abs=0.05), "errors are twice as large as claimed"


def test_bins_are_as_many_as_two_images_each_allow() -> None:
    assert [bins_for(num) for num in (2, 3, 7, 20, 1000)] == [1, 1, 3, 10, 10]
    for num in (2, 7, 20):
        assert np.bincount(equal_mass_bins(np.arange(float(num)), bins_for(num))).min() >= 2
