"""The variance that a known operator corrects: the regression, its start, and what ships."""

import pytest
import torch

from workbench.core.config import UserError
from workbench.degradations import GaussianBlur, GaussianNoise, Mixture
from workbench.severity.calibration import NonBlindFit, OfOperator
from workbench.severity.estimate import MAX_VARIANCE

BLUR, NOISE = GaussianBlur().canonical(), GaussianNoise().canonical()


def images(number: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """(own, residual, severity, s2): s2 = scale own^0.5 residual exp(s), up to a factor that no predictor knows."""
    draw = torch.randn(4, number, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    own, residual, severity = (draw[0] * 0.5 - 2).exp(), (draw[1] * 0.5 - 3).exp(), draw[2].sigmoid()
    s2 = scale * own.sqrt() * residual * severity.exp() * (0.3 * draw[3]).exp()
    return own, residual, severity, s2


def test_the_regression_finds_the_law_and_is_calibrated() -> None:
    fitted = OfOperator.fit(BLUR, *images(4000, 2.0))
    weights = torch.tensor(fitted.informed.weights)
    torch.testing.assert_close(weights[:2], torch.tensor([0.5, 1.0]), rtol=0, atol=0.05)
    own, residual, severity, s2 = images(4000, 2.0, seed=1)
    for known in (severity, None):
        ratio = s2 / fitted.variance(own, residual, known)
        assert ratio.mean() == pytest.approx(1, abs=0.05)
    error = {
        known: (s2.log() - fitted.variance(own, residual, severity if known else None).log()).std()
        for known in (True, False)
    }
    assert error[True] == pytest.approx(0.3, abs=0.03)
    assert error[True] < error[False]


def test_each_image_of_a_mixture_gets_the_regression_of_its_own_operator() -> None:
    both = NonBlindFit(operators=(OfOperator.fit(BLUR, *images(200, 2.0)), OfOperator.fit(NOISE, *images(200, 0.2))))
    own, residual, severity, _ = images(6, 1.0, seed=2)
    number = torch.tensor([0, 1, 1, 0, 1, 0])
    found, _ = both.variance(own, residual, severity, number)
    for i, one in enumerate(number.tolist()):
        alone = both.operators[one].variance(own[[i]], residual[[i]], severity[[i]])
        torch.testing.assert_close(found[[i]], alone)
    alone, _ = both.variance(own, residual, severity, None)
    assert torch.equal(alone, both.operators[0].variance(own, residual, severity))


def test_a_fit_is_only_for_the_very_operators_that_it_was_made_for() -> None:
    both = NonBlindFit(operators=(OfOperator.fit(BLUR, *images(50, 2.0)), OfOperator.fit(NOISE, *images(50, 0.2))))
    (only,) = both.of([NOISE]).operators  # type: ignore[union-attr]
    assert only == both.operators[1]
    assert both.of([NOISE, BLUR]).operators == both.operators[::-1]  # type: ignore[union-attr]
    assert both.of([GaussianBlur(noise_std=0.1).canonical()]) is None
    assert both.of([BLUR, Mixture().canonical()]) is None
    assert NonBlindFit.model_validate_json(both.model_dump_json()) == both


def test_variances_stay_in_their_range_and_bad_ones_are_refused() -> None:
    own, residual, severity, s2 = images(50, 2.0)
    fitted = OfOperator.fit(BLUR, own, residual, severity, s2)
    assert fitted.variance(own * 1e9, residual * 1e9, severity).max() == MAX_VARIANCE
    with pytest.raises(UserError, match="at least 20 validation images, got 10"):
        OfOperator.fit(BLUR, *(value[:10] for value in (own, residual, severity, s2)))
    with pytest.raises(UserError, match="positive, finite variances"):
        OfOperator.fit(BLUR, own, residual * 0, severity, s2)


def test_a_residual_far_above_the_usual_is_flagged() -> None:
    own, residual, severity, s2 = images(200, 2.0)
    both = NonBlindFit(operators=(OfOperator.fit(BLUR, own, residual, severity, s2),))
    assert both.variance(own, residual, severity, None)[1].float().mean() < 0.03
    assert both.variance(own, 100 * residual, severity, None)[1].float().mean() > 0.9
    assert not both.variance(own, residual / 100, severity, None)[1].any()
