"""What evaluations are worth by variance, and the allocation of a budget: optimal, and within it."""

import itertools

import numpy as np
import pytest
import torch
from linear_stubs import chain
from start_case import Case

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import Allocated, Allocating, Allocation, Curves, MissingNoise, SNRMatch
from workbench.severity.start.allocated import cheapest_best, price_of
from workbench.severity.variance import Evidence, Need

CANDIDATES = tuple(range(41))
NFE = np.array(CANDIDATES, dtype=float)
LOG = np.linspace(-5, 0, 400)
SAME = np.zeros(len(LOG), dtype=np.int64)
"""One operator for all."""
VARIANCE = np.exp(LOG)


def worth(variance: np.ndarray) -> np.ndarray:
    """(log v + 6) log(1 + n): the n-th evaluation is worth about (log v + 6) / n, so n = (log v + 6) / price - 1."""
    return np.outer(np.log(variance) + 6, np.log1p(NFE))


def test_the_allocation_is_the_known_optimum() -> None:
    noisy = worth(VARIANCE) + np.random.default_rng(0).normal(0, 1, (len(VARIANCE), 1))
    allocation = Allocation.fit(
        Curves.fit(CANDIDATES, LOG[:, None], SAME, noisy, degree=2), LOG[:, None], SAME, budget=10
    )
    expected = (np.log(VARIANCE) + 6) / allocation.price - 1
    assert np.abs(NFE[allocation.index(LOG[:, None], SAME)] - expected).max() < 1
    assert (
        allocation.chosen(torch.from_numpy(LOG[:, None]), torch.from_numpy(SAME)).tolist()
        == NFE[allocation.index(LOG[:, None], SAME)].tolist()
    )


@pytest.mark.parametrize("budget", [0.0, 0.3, 1.0, 5.5, 12.0])
def test_the_budget_is_met(budget: float) -> None:
    spent = NFE[cheapest_best(worth(VARIANCE), NFE, price_of(worth(VARIANCE), NFE, budget))].mean()
    assert budget - 0.1 <= spent <= budget


def test_no_more_is_spent_than_helps() -> None:
    quality = -np.square(NFE[None] - np.array([[3.0], [7.0]]))
    assert price_of(quality, NFE, 20) == 0
    assert NFE[cheapest_best(quality, NFE, 0)].tolist() == [3, 7]


def test_no_assignment_of_that_cost_is_better() -> None:
    """Against all assignments of four images to four candidates, of curves that are not concave."""
    quality, nfe = np.random.default_rng(1).normal(size=(4, 4)), np.array([0.0, 1.0, 3.0, 4.0])
    for budget in (0.5, 1.0, 2.0, 3.0):
        chosen = cheapest_best(quality, nfe, price_of(quality, nfe, budget))
        spent, reached = nfe[chosen].sum(), quality[np.arange(4), chosen].sum()
        assert spent <= 4 * budget
        others = [np.array(other) for other in itertools.product(range(4), repeat=4)]
        best = max(quality[np.arange(4), other].sum() for other in others if nfe[other].sum() <= spent)
        assert reached == pytest.approx(best)


def test_two_predictors_are_both_used() -> None:
    """log v and a second number, of which the worth of an evaluation depends on the second alone."""
    second = np.random.default_rng(2).uniform(0, 4, len(LOG))
    quality = np.outer(second, np.log1p(NFE))
    x = np.stack([LOG, second], axis=1)
    allocation = Allocation.fit(Curves.fit(CANDIDATES, x, SAME, quality, degree=2), x, SAME, budget=10)
    expected = np.clip(second / allocation.price - 1, 0, None)
    assert np.abs(NFE[allocation.index(x, SAME)] - expected).max() < 1


def test_operators_have_curves_of_their_own() -> None:
    """Of two operators in turn, one needs nothing and the other what its variance says."""
    operator = np.arange(len(LOG)) % 2
    quality = operator[:, None] * worth(VARIANCE) - 0.3 * (1 - operator)[:, None] * NFE
    x = LOG[:, None]
    allocation = Allocation.fit(Curves.fit(CANDIDATES, x, operator, quality, degree=2), x, operator, budget=5)
    nfe = NFE[allocation.index(x, operator)]
    assert nfe[operator == 0].max() <= 1
    assert 8 < nfe[operator == 1].mean() < 11
    assert nfe[operator == 1][-20:].mean() > 2 * nfe[operator == 1][:20].mean()
    other = allocation.curves(x[:1], np.array([7]))
    assert np.isfinite(other).all(), "an operator that was not fitted has the shared curve"


def test_the_residual_costs_a_decoder_evaluation() -> None:
    assert Need.OPERATOR in Allocated().needs
    assert Need.OPERATOR not in Allocated(predictors=("variance",)).needs


def test_beyond_the_fitted_variances_the_ends_hold() -> None:
    curves = Curves.fit(CANDIDATES, LOG[:, None], SAME, worth(VARIANCE), degree=2)
    assert curves(np.array([[-99.0], [99.0]]), SAME[:2]) == pytest.approx(curves(LOG[[0, -1], None], SAME[:2]))


@pytest.mark.parametrize(
    ("num_images", "value", "words"), [(5, 1.0, "needs at least 6 images"), (20, np.nan, "finite qualities")]
)
def test_a_fit_that_says_nothing_is_refused(num_images: int, value: float, words: str) -> None:
    quality = worth(VARIANCE[:num_images])
    quality[0, 0] = value
    with pytest.raises(UserError, match=words):
        Curves.fit(CANDIDATES, LOG[:num_images, None], SAME[:num_images], quality, degree=2)


def test_a_budget_below_the_candidates_is_refused() -> None:
    with pytest.raises(UserError, match="below the least candidate, 2"):
        price_of(worth(VARIANCE)[:, 2:], NFE[2:], 1)
    with pytest.raises(UserError, match=r"start\.budget = 1 is below the least candidate, 2"):
        Allocated(budget=1, candidates=(2, 4)).check(chain(50))
    with pytest.raises(UserError, match="more than the 50 steps"):
        Allocated(candidates=(2, 60)).check(chain(50))


def test_a_start_is_the_missing_noise_start_of_its_evaluations() -> None:
    variance = torch.tensor([0.01, 0.1, 0.5])
    draws = randomness.generator("allocated")
    z_hat, noise = torch.randn(3, 4, 4, 4, generator=draws), torch.randn(3, 4, 4, 4, generator=draws)
    measurement = Measurement(y=torch.zeros(3, 1, 8, 8), ids=torch.arange(3), noise_std=torch.zeros(3))
    here = Case(Evidence(SeverityEstimate(z_hat, variance.reshape(-1, 1, 1, 1)), measurement), chain(50), noise)
    curves = Curves.fit(CANDIDATES, LOG[:, None], SAME, worth(VARIANCE), degree=1)
    rule = Allocated(budget=10, candidates=CANDIDATES, predictors=("variance",))
    start = here.start(Allocating(rule, Allocation.fit(curves, LOG[:, None], SAME, rule.budget)))
    nfe = (len(here.chain) - start.position).tolist()
    assert nfe == sorted(nfe)
    assert nfe[0] < nfe[2]
    for i, n in enumerate(nfe):
        fixed = here.start(MissingNoise(nfe=n, of=SNRMatch()))
        assert fixed.position.tolist() == [50 - n] * 3
        torch.testing.assert_close(start.z[i], fixed.z[i], rtol=0, atol=0)


def test_no_evaluations_decode_the_estimate_and_the_match_is_one_of_the_starts() -> None:
    variance = torch.tensor([0.02, 0.3])
    draws = randomness.generator("missing noise")
    z_hat, noise = torch.randn(2, 4, 4, 4, generator=draws), torch.randn(2, 4, 4, 4, generator=draws)
    measurement = Measurement(y=torch.zeros(2, 1, 8, 8), ids=torch.arange(2), noise_std=torch.zeros(2))
    here = Case(Evidence(SeverityEstimate(z_hat, variance.reshape(-1, 1, 1, 1)), measurement), chain(50), noise)
    torch.testing.assert_close(here.start(MissingNoise(nfe=0)).z, z_hat)
    matched = here.start(SNRMatch())
    for i, position in enumerate(matched.position.tolist()):
        torch.testing.assert_close(here.start(MissingNoise(nfe=50 - position)).z[i], matched.z[i], rtol=0, atol=0)
    with pytest.raises(UserError, match="exceeds the 50 steps"):
        MissingNoise(nfe=51).check(here.chain)
