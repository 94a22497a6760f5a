"""A step of three images on linear networks, for tests of solvers in closed form."""

from collections import Counter
from typing import Any

import torch
from stubs import LinearAutoencoder, LinearPrior, images
from torch import Tensor

from workbench import randomness
from workbench.degradations import Degradation
from workbench.diffusion import DDPM
from workbench.solvers import Networks, Step

NUM = 3


def step_of(degradation: Degradation, **changes: Any) -> Step:
    """A step of three images at timesteps of their own, on 8 x 8 images and linear networks."""
    x, ids = images(NUM)
    z, noise = torch.randn(2, NUM, 4, 4, 4, generator=randomness.generator("z"))
    given = {
        "z": z,
        "position": torch.tensor([299, 879, 996]),
        "timestep": torch.tensor([700, 120, 3]),
        "timestep_next": torch.tensor([690, 119, -1]),
        "noise": noise,
        "measurement": degradation.measure(x, torch.tensor([0.2, 0.5, 0.9]), ids, 0),
        "networks": Networks(
            LinearAutoencoder(scale=1.6, shift=0.3), LinearPrior(), degradation, [Counter() for _ in range(NUM)]
        ),
        "sampler": DDPM(num_steps=1000),
    }
    return Step(**(given | changes))


def jacobian(step: Step) -> tuple[Tensor, Tensor]:
    """(J, A(D(0))) in float64, J = d A(D(z)) / dz: (batch, values of y, values of z) and (batch, values of y)."""
    shape = step.z.shape[1:]
    basis = torch.eye(shape.numel()).reshape(-1, *shape)
    slopes, offsets = [], []
    for i in range(len(step.z)):
        one = step.take(torch.tensor([i]))
        networks = one.networks.charging(None)
        zero = networks.forward(torch.zeros(1, *shape), one.measurement)
        many = one.measurement.take(torch.zeros(len(basis), dtype=torch.int64))
        slopes.append((networks.forward(basis, many) - zero).flatten(1).double().mT)
        offsets.append(zero.flatten().double())
    return torch.stack(slopes), torch.stack(offsets)
