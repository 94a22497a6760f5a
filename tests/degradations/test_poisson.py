"""Photon noise: counts, their exact likelihood, and read noise."""

import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.measurement import Measurement
from workbench.degradations import CT, AtSeverity, Poisson

NUM = 4
IDS = torch.arange(NUM)


def images(low: float = 0.0, side: int = 64) -> Tensor:
    return low + (1 - low) * randomness.uniform(IDS, ("images",), (1, side, side))


def log_likelihood(x: Tensor, m: Measurement) -> Tensor:
    photons = m.params["photons"]
    counts = (photons * m.params["counts"]).round()
    return torch.distributions.Poisson(photons * x).log_prob(counts).flatten(1).sum(1)


def test_counts_are_those_of_photons() -> None:
    operator, x = Poisson(), images().fill_(0.5)
    m = operator.measure(x, torch.tensor([0.0, 0.5, 0.75, 1.0]), IDS, 0)
    photons = m.params["photons"].flatten()
    torch.testing.assert_close(photons, torch.tensor([1000.0, 100.0, 31.6228, 10.0]))
    counts = (photons[:, None] * m.encoder_input().flatten(1)).double()
    assert (counts - counts.round()).abs().max() < 1e-2
    torch.testing.assert_close(counts.mean(1), photons.double() / 2, rtol=0.02, atol=0.1)
    torch.testing.assert_close(counts.var(1), photons.double() / 2, rtol=0.1, atol=0.1)
    assert [operator.describe(s) for s in (0.0, 0.5, 1.0)] == ["1000 photons", "100 photons", "10 photons"]


def test_least_squares_is_the_likelihood() -> None:
    """Differences between images, of residuals squared over twice the noise variance and of log likelihoods."""
    operator = Poisson()
    m = operator.measure(images(), torch.linspace(0, 1, NUM), IDS, 0)

    def exponent(x: Tensor) -> Tensor:
        return m.residual(operator.A(x.float(), m.params)).double().flatten(1).square().sum(1) / (2 * m.noise_std**2)

    one, other = images(0.1), images(0.1).flip(0)
    difference = exponent(one) - exponent(other)
    expected = log_likelihood(other.double(), m) - log_likelihood(one.double(), m)
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=0.05)


def test_its_gradient_is_the_likelihoods() -> None:
    operator = Poisson()
    m = operator.measure(images(), torch.full((NUM,), 0.8), IDS, 0)
    double = {name: value.double() for name, value in m.params.items()}
    x = images(0.1).double().requires_grad_()
    residual = m.y.double() - operator.A(x, double)
    (own,) = torch.autograd.grad(residual.square().sum() / (2 * float(m.noise_std[0]) ** 2), x)
    (expected,) = torch.autograd.grad(-log_likelihood(x, m).sum(), x)
    torch.testing.assert_close(own, expected, rtol=1e-2, atol=1e-2)


def test_it_is_smooth_where_prediction_and_count_agree() -> None:
    counts = torch.tensor([0.0, 0.01, 0.5, 1.0], dtype=torch.float64).reshape(NUM, 1, 1, 1)
    params = {"photons": torch.full((NUM, 1, 1, 1), 100.0).double(), "counts": counts}
    x = (counts + 0.02).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Poisson().A(x, params), x)
    around = torch.linspace(0.98, 1.02, 401, dtype=torch.float64).reshape(1, 1, 1, -1) * 0.5
    y = Poisson().A(around, {name: value[2:3] for name, value in params.items()}).flatten()
    slopes = y.diff() / around.flatten().diff()
    assert slopes.diff().abs().max() < 1e-3
    assert (slopes > 0).all()
    below = torch.linspace(-1, 0, 50, dtype=torch.float64).reshape(1, 1, 1, -1)
    assert Poisson().A(below, {name: value[2:3] for name, value in params.items()}).isfinite().all()


@pytest.mark.parametrize("read", [0.0, 0.02, 0.1])
def test_read_noise_is_counted(read: float) -> None:
    operator, x = Poisson(noise_std=read), images(0.3)
    m = operator.measure(x, torch.full((NUM,), 0.5), IDS, 0)
    unit = m.residual(operator.A(x, m.params)) / m.noise_std[:, None, None, None]
    assert unit.square().mean() == pytest.approx(1, abs=0.05)
    # as images: the variances of photons and of the detector
    error = (m.encoder_input() - x).square().mean()
    assert error == pytest.approx(float(x.mean()) / 100 + read**2, rel=0.05)


def test_black_is_unbiased() -> None:
    """The most likely constant for pixels of few photons is their mean."""
    x = torch.full((1, 1, 256, 256), 0.02)
    operator = Poisson()
    m = operator.measure(x, torch.ones(1), IDS[:1], 0)
    tried = torch.linspace(0.005, 0.04, 141)
    cost = [m.residual(operator.A(torch.full_like(x, float(level)), m.params)).square().sum() for level in tried]
    assert tried[torch.stack(cost).argmin()] == pytest.approx(float(m.params["counts"].mean()), abs=5e-4)


def test_another_read_noise_keeps_the_counts() -> None:
    m = Poisson().measure(images(), torch.full((NUM,), 0.5), IDS, 0)
    noisy = Poisson(noise_std=0.05).with_own_noise(m)
    torch.testing.assert_close(noisy.encoder_input(), m.encoder_input(), rtol=1e-4, atol=1e-4)


def test_at_one_level() -> None:
    operator = AtSeverity(member=Poisson(), severity=0.5)
    m = operator.measure(images(), torch.full((NUM,), 0.5), IDS, 0)
    expected = Poisson().measure(images(), torch.full((NUM,), 0.5), IDS, 0)
    assert torch.equal(m.y, expected.y)
    assert torch.equal(m.params["counts"], expected.params["counts"])
    given, _ = operator.given_measurement(
        m.encoder_input(), torch.full((NUM,), 0.5), IDS, {"photons": m.params["photons"]}
    )
    torch.testing.assert_close(given.y, m.y)
    counted = AtSeverity(member=CT(noise="log_poisson"))
    assert not counted.measures_images
    assert "weight" in counted.measure(images(side=16), torch.full((NUM,), 0.5), IDS, 0).params


def test_a_users_image() -> None:
    operator = Poisson()
    m = operator.measure(images(), torch.full((NUM,), 0.5), IDS, 0)
    taken, _ = operator.given_parameters({"photons": m.params["photons"]}, (1, 64, 64))
    given, lines = operator.given_measurement(m.encoder_input(), torch.full((NUM,), 0.5), IDS, taken)
    assert not lines
    torch.testing.assert_close(given.y, m.y)
    torch.testing.assert_close(given.params["counts"], m.params["counts"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(operator.severity_of(taken), torch.full((NUM,), 0.5), rtol=1e-4, atol=1e-4)
