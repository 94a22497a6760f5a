"""The true error variance, and estimates taken apart."""

import pytest
import torch

from workbench.core import randomness
from workbench.severity.estimate import SeverityEstimate, error_variance


def test_the_error_variance_is_bessel_corrected_and_per_image() -> None:
    z0 = torch.randn(2, 1, 2, 2, generator=randomness.generator("z0"))
    error = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 2.0]]).reshape(2, 1, 2, 2)
    torch.testing.assert_close(error_variance(z0 + error, z0), torch.tensor([5 / 3, 1.0]))


def test_a_constant_error_has_no_variance() -> None:
    z0 = torch.randn(2, 4, 3, 3, generator=randomness.generator("z0"))
    torch.testing.assert_close(error_variance(z0 + 7, z0), torch.zeros(2), rtol=0, atol=1e-10)


@pytest.mark.parametrize("std", [0.1, 0.8])
def test_the_error_variance_of_noise_is_its_own(std: float) -> None:
    z0, noise = torch.randn(2, 3, 4, 64, 64, generator=randomness.generator("noise"))
    torch.testing.assert_close(error_variance(z0 + std * noise, z0), torch.full((3,), std**2), rtol=0.06, atol=0)


def test_take() -> None:
    number = torch.arange(4.0).reshape(-1, 1, 1, 1)
    taken = SeverityEstimate(number.expand(4, 2, 3, 3), number + 10).take(torch.tensor([3, 1]))
    assert taken.z_hat[:, 0, 0, 0].tolist() == [3, 1]
    assert taken.var_hat.flatten().tolist() == [13, 11]
