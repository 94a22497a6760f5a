"""Normal distributions: what is said in closed form is what draws show, and what is wrong is noticed."""

import math

import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.testing import Gaussian
from workbench.testing.problem import correlated_latents

SIZE, NUM = 16, 4096


def draws(of: Gaussian, num: int = NUM) -> Tensor:
    return of.draw(num, randomness.generator("draws"))


def test_latents_have_unit_variance_on_average_and_are_correlated() -> None:
    latents = correlated_latents(SIZE)
    assert float(latents.covariance.trace()) == pytest.approx(SIZE)
    assert float(latents.mean.norm()) == pytest.approx(math.sqrt(SIZE) / 2)
    assert float((latents.covariance - latents.covariance.diag().diag()).abs().max()) > 0.1


def test_the_gap_is_in_standard_deviations_and_relative_variances() -> None:
    other = correlated_latents(SIZE)
    root = torch.linalg.cholesky(other.covariance)
    gap = Gaussian(other.mean + 0.3 * root.sum(1), 1.2 * other.covariance).gap(other)
    assert (gap.mean, gap.covariance) == (pytest.approx(0.3), pytest.approx(0.2))
    same = other.gap(other)
    assert (same.mean, same.covariance) == (pytest.approx(0), pytest.approx(0, abs=1e-12))


def test_draws_agree_with_their_own_distribution() -> None:
    """The p-values are uniform: over 200 repetitions a tenth of them lies below 0.1."""
    latents, g = correlated_latents(SIZE), randomness.generator("agreement")
    found = [latents.agreement(latents.draw(2048, g)) for _ in range(200)]
    for values in ([each.mean for each in found], [each.covariance for each in found]):
        low = sum(value < 0.1 for value in values)
        assert abs(low - 20) < 4 * math.sqrt(200 * 0.1 * 0.9)


def test_a_small_error_is_noticed() -> None:
    latents = correlated_latents(SIZE)
    seen = draws(latents)
    shifted = Gaussian(latents.mean + 0.1 * latents.covariance.diag().sqrt(), latents.covariance)
    wider = Gaussian(latents.mean, 1.1 * latents.covariance)
    uncorrelated = Gaussian(latents.mean, latents.covariance.diag().diag())
    assert shifted.agreement(seen).mean < 1e-4
    assert wider.agreement(seen).covariance < 1e-4
    assert uncorrelated.agreement(seen).covariance < 1e-4


def test_moved_and_diffused_draws_agree() -> None:
    latents, g = correlated_latents(SIZE), randomness.generator("moved")
    slope, noise = (torch.randn(*shape, generator=g).double() for shape in ((SIZE, SIZE), (NUM, SIZE)))
    seen = draws(latents) @ slope.T + 0.4 + 0.5 * noise
    found = latents.moved(slope, torch.full((SIZE,), 0.4).double(), 0.25).agreement(seen)
    assert min(found.mean, found.covariance) > 1e-3
    diffused = latents.diffused(0.3).agreement(math.sqrt(0.3) * draws(latents) + math.sqrt(0.7) * noise)
    assert min(diffused.mean, diffused.covariance) > 1e-3


def test_what_is_given_is_bayes_rule() -> None:
    """In two dimensions, on a grid: prior density times likelihood, normalised."""
    prior = Gaussian(torch.tensor([0.5, -1.0]).double(), torch.tensor([[1.0, 0.6], [0.6, 2.0]]).double())
    matrix, y, noise_variance = torch.tensor([[1.0, -0.5]]).double(), torch.tensor([2.0]).double(), 0.3
    axis = torch.linspace(-9, 9, 601, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    density = torch.distributions.MultivariateNormal(prior.mean, prior.covariance).log_prob(z)
    weight = torch.softmax(density - (y - z @ matrix.T)[:, 0].square() / (2 * noise_variance), 0)
    mean = weight @ z
    found = prior.given(matrix, y, noise_variance)
    torch.testing.assert_close(found.mean, mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.covariance, ((z - mean) * weight[:, None]).T @ (z - mean), rtol=1e-6, atol=1e-6)
