"""What is special about the Gaussian blur."""

import pytest
import torch

from workbench.degradations import GaussianBlur


def filters(*severity: float) -> torch.Tensor:
    levels = torch.tensor(severity, dtype=torch.float64)
    return GaussianBlur().parameters(levels, torch.arange(len(severity)), 0, (1, 32, 32))["filter"]


def test_filter_is_a_sampled_gaussian_that_sums_to_one() -> None:
    level = (2 - 0.3) / 2.7  # std 2 px
    (centre,) = filters(level)[:, 0, 9]
    expected = torch.exp(-(torch.arange(-9.0, 10, dtype=torch.float64) ** 2) / 8)
    torch.testing.assert_close(centre / centre[9], expected)
    torch.testing.assert_close(filters(0, level, 1).sum((1, 2, 3)), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("std", [1.0, 1.5, 2.0, 2.5])
def test_std_is_in_pixels_and_linear_in_severity(std: float) -> None:
    (weights,) = filters((std - 0.3) / 2.7)[:, 0]
    offset = torch.arange(-9.0, 10, dtype=torch.float64)
    for axis in (0, 1):
        assert (weights.sum(axis) * offset**2).sum().sqrt().item() == pytest.approx(std, rel=0.01)


def test_an_impulse_becomes_the_filter() -> None:
    x = torch.zeros(2, 3, 32, 32)
    x[:, :, 16, 15] = 1
    params = GaussianBlur().parameters(torch.tensor([0.2, 1.0]), torch.arange(2), 0, (3, 32, 32))
    y = GaussianBlur().A(x, params)
    torch.testing.assert_close(y[:, :, 7:26, 6:25], params["filter"].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("size", [4, 9, 32])
def test_a_flat_image_stays_flat(size: int) -> None:
    x = torch.full((1, 1, size, size), 0.7)
    params = GaussianBlur().parameters(torch.ones(1), torch.arange(1), 0, (1, size, size))
    torch.testing.assert_close(GaussianBlur().A(x, params), x)
