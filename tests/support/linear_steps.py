"""A step of three images on linear networks, for tests of solvers in closed form."""

from collections import Counter
from typing import Any

import torch
from linear_stubs import LinearAutoencoder, LinearPrior, chain, images
from torch import Tensor

from workbench import randomness
from workbench.degradations import Degradation
from workbench.diffusion import DDPM, Chain
from workbench.solvers import Networks, Step

NUM = 3


def step_of(degradation: Degradation, **changes: Any) -> Step:
    """A step of three images at timesteps of their own, on 8 x 8 images and linear networks."""
    x, ids = images(NUM)
    z, noise = torch.randn(2, NUM, 4, 4, 4, generator=randomness.generator("z"))
    given = {
        "z": z,
        "position": torch.tensor([299, 879, 996]),
        "chain": chain_through((299, 700, 690), (879, 120, 119), (996, 3, -1)),
        "noise": noise,
        "measurement": degradation.measure(x, torch.tensor([0.2, 0.5, 0.9]), ids, 0),
        "networks": Networks(
            LinearAutoencoder(scale=1.6, shift=0.3), LinearPrior(), degradation, [Counter() for _ in range(NUM)]
        ),
        "sampler": DDPM(num_steps=1000),
    }
    return Step(**(given | changes))


def chain_through(*steps: tuple[int, int, int]) -> Chain:
    """A chain of 1000 levels with given steps: (position, timestep, the next one), -1 for the clean end."""
    whole = chain()
    time, alpha_bar = whole.time.clone(), whole.alpha_bar.clone()
    levels = torch.cat([chain().all_timesteps("a test"), torch.ones(1).double()])
    for position, timestep, following in steps:
        time[position] = timestep
        alpha_bar[position], alpha_bar[position + 1] = levels[timestep], levels[following]
    return Chain(time, alpha_bar, whole.by_timestep)


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
