"""Clipping and quantisation in closed form."""

import torch

from workbench.degradations import Clipping, Quantisation

IDS = torch.arange(3)
LEVELS = torch.tensor([0.0, 0.5, 1.0])


def ramp() -> torch.Tensor:
    return torch.linspace(0, 1, 64).expand(3, 1, 8, 64).clone()


def test_a_gain_of_two_clips_a_quarter_at_each_end() -> None:
    y = Clipping(noise_std=0).measure(ramp(), LEVELS, IDS, 0).y
    torch.testing.assert_close(y[0], ramp()[0])
    torch.testing.assert_close(y[1], (2 * ramp()[1] - 0.5).clamp(0, 1))
    assert (y[1] == 0).float().mean() == 0.25
    assert (y[2] == 0).float().mean() > 0.32


def test_values_are_the_middles_of_eight_to_two_intervals() -> None:
    operator = Quantisation(noise_std=0)
    y = operator.measure(ramp(), LEVELS, IDS, 0).y
    for found, number in zip(y, (8, 4, 2), strict=True):
        assert found.unique().tolist() == [(i + 0.5) / number for i in range(number)]
        assert (found - ramp()[0]).abs().max() <= 0.5 / number + 1e-6
    x = torch.tensor([-0.5, 0.2, 0.7, 1.5]).reshape(1, 1, 1, 4).requires_grad_()
    params = operator.parameters(LEVELS[:1], IDS[:1], 0, (1, 1, 4))
    (gradient,) = torch.autograd.grad(operator.A(x, params).sum(), x)
    assert gradient.flatten().tolist() == [0, 1, 1, 0]
    assert operator.describe(1.0) == "2 grey levels"
