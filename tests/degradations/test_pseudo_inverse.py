"""The regularised inverse against the closed form."""

import pytest
import torch
from every_degradation import EVERY

from workbench.core.config import UserError
from workbench.degradations import CT, JPEG, Degradation, GaussianNoise, SuperResolution, pseudo_inverse
from workbench.degradations.base import Params
from workbench.degradations.pseudo_inverse import IMAGE_STD

SIZE = 12
# tomography is so ill-conditioned that the iterations end before the minimum
LINEAR = [degradation for degradation in EVERY if degradation.linear and not isinstance(degradation, CT)]


@pytest.mark.parametrize("degradation", LINEAR, ids=lambda degradation: degradation.kind)
def test_it_solves_the_normal_equations(degradation: Degradation) -> None:
    x = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(3)
    measurement = degradation.measure(x, torch.tensor([0.1, 0.5, 0.9]), ids, 0)
    params, mask = dict(measurement.params), measurement.observed
    solution = pseudo_inverse(degradation, measurement)
    of_ones = degradation.A(torch.ones_like(x), params) * (1 if mask is None else mask)
    grey = (of_ones * measurement.y).flatten(1).sum(1) / of_ones.square().flatten(1).sum(1)
    grey = grey.reshape(-1, 1, 1, 1)
    precision = measurement.noise_std.reshape(-1, 1, 1, 1).square().reciprocal()
    data_term = degradation.A_adjoint(measurement.residual(degradation.A(solution, params)), params) * precision
    prior_term = (solution - grey) / IMAGE_STD**2
    # at the minimum the two gradients cancel
    assert float((data_term - prior_term).norm() / data_term.norm().clamp(min=1e-6)) < 0.02


def test_noise_alone_is_shrunk_towards_grey() -> None:
    degradation = GaussianNoise()
    x = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    measurement = degradation.measure(x, torch.tensor([0.5]), torch.arange(1), 0)
    variance = measurement.noise_std.square()
    weight = IMAGE_STD**2 / (IMAGE_STD**2 + variance)
    expected = weight * measurement.y + (1 - weight) * measurement.y.mean()
    torch.testing.assert_close(pseudo_inverse(degradation, measurement), expected, rtol=0, atol=1e-3)


def test_grey_is_found_whatever_the_operators_gain() -> None:
    """A user's operator that triples and drops, without saying what it dropped."""
    x = torch.full((1, 1, SIZE, SIZE), 0.4)
    mask = (torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    degradation = GaussianNoise(noise_std=0.0)
    measurement = degradation.measure(x, torch.zeros(1), torch.arange(1), 0)
    measurement = degradation.with_values(measurement, 3 * mask * x)

    class Tripling(GaussianNoise):
        def A(self, x: torch.Tensor, params: Params) -> torch.Tensor:
            return 3 * mask * x

        def A_adjoint(self, y: torch.Tensor, params: Params) -> torch.Tensor:
            return 3 * mask * y

    torch.testing.assert_close(pseudo_inverse(Tripling(), measurement), x, rtol=0, atol=1e-3)


def test_a_smaller_measurement_becomes_an_image() -> None:
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    degradation = SuperResolution()
    measurement = degradation.measure(x, torch.tensor([0.2, 1.0]), torch.arange(2), 0)
    assert pseudo_inverse(degradation, measurement).shape == x.shape


def test_a_nonlinear_operator_is_refused() -> None:
    x = torch.rand(1, 1, SIZE, SIZE)
    measurement = JPEG().measure(x, torch.tensor([0.5]), torch.arange(1), 0)
    with pytest.raises(UserError, match="jpeg is not linear"):
        pseudo_inverse(JPEG(), measurement)
