"""Degradations as deepinv physics, for deepinv's reconstructors."""

import pytest
import torch
from deepinv.physics import LinearPhysics
from every_degradation import EVERY

from workbench.degradations import Degradation
from workbench.degradations.as_physics import as_physics

SIZE = 16


@pytest.mark.parametrize("degradation", EVERY, ids=lambda degradation: degradation.kind)
def test_it_measures_and_inverts_like_the_degradation(degradation: Degradation) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 1, SIZE, SIZE, generator=generator)
    measurement = degradation.measure(x, torch.tensor([0.1, 0.5, 0.9]), torch.arange(3), 0)
    physics = as_physics(degradation, measurement)
    expected = degradation.A(x, measurement.params)
    observed = torch.ones_like(expected) if measurement.observed is None else measurement.observed
    torch.testing.assert_close(physics.A(x), expected * observed)
    torch.testing.assert_close(physics.noise_model.sigma, measurement.noise_std)
    assert isinstance(physics, LinearPhysics) == degradation.linear
    if degradation.linear:
        y = torch.rand(measurement.y.shape, generator=generator)
        forth = (physics.A(x) * y).flatten(1).sum(1)
        back = (x * physics.A_adjoint(y)).flatten(1).sum(1)
        torch.testing.assert_close(forth, back, rtol=1e-4, atol=1e-4)
