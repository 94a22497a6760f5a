"""One network in other clothes, as another prediction, as a flow, on latents of another width, restores alike."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.autoencoders import Patch
from workbench.core.tensors import Times
from workbench.degradations import GaussianBlur
from workbench.diffusion import DDIM, DDPMLevels, NoiseLevels, Prior, load_prior
from workbench.diffusion.noise_levels import FlowLevels
from workbench.diffusion.prediction import Prediction, target
from workbench.restoration import Restorer
from workbench.severity.start import SNRMatch
from workbench.severity.untrained import Untrained
from workbench.solvers import LDPS, MMPS, Solver
from workbench.weights import zoo

PAIR = zoo.zoo_root() / "tiny_imagenet_64_patch"


class FlowAt(FlowLevels):
    """A flow whose chains visit the levels of a table of alpha_bar."""

    def __init__(self, table: DDPMLevels) -> None:
        super().__init__()
        signal, noise = table.table.sqrt(), (1 - table.table).sqrt()
        self.table, self.sigma = table, noise / (signal + noise)

    def times(self, num_steps: int, latent_shape: tuple[int, int, int]) -> Tensor:
        return 1000 * self.sigma[self.table.times(num_steps, latent_shape).long()]

    @property
    def cleanest(self) -> float:
        return float(1000 * self.sigma[0])

    def timestep(self, time: Times) -> Tensor:
        """The timestep of each network time."""
        return (self.sigma - time.cpu().double().reshape(-1, 1) / 1000).abs().argmin(1)


class Wrapped(nn.Module):
    """A prior's network for inputs x = signal u + noise eps of other levels, with another prediction.

    Args:
        prior: the prior.
        levels: the other levels.
        prediction: what is answered.
        timestep: the prior's timestep of a network time.
    """

    def __init__(
        self, prior: Prior, levels: NoiseLevels, prediction: Prediction, timestep: Callable[[Times], Tensor]
    ) -> None:
        super().__init__()
        self.prior, self.levels, self.prediction, self.timestep = prior, levels, prediction, timestep
        self.config = SimpleNamespace(in_channels=prior.latent_channels)

    def forward(self, x: Tensor, time: Times) -> Any:
        scale = self.levels.scale_at(time).reshape(-1, 1, 1, 1).to(x)
        z0_hat, eps = self.prior.predict(x / scale, self.timestep(time))
        signal, noise = (part.reshape(-1, 1, 1, 1).to(x) for part in self.levels.mixture_at(time))
        return SimpleNamespace(sample=target(self.prediction, self.levels.std * z0_hat, eps, signal, noise))


def as_timestep(time: Times) -> Tensor:
    return time.cpu().round().long()


def wrapped(prior: Prior, how: str) -> Prior:
    """The prior in other clothes."""
    own = prior.levels
    assert isinstance(own, DDPMLevels)
    match how:
        case "epsilon" | "sample":
            return Prior(Wrapped(prior, own, how, as_timestep), own, how)
        case "flow":
            levels = FlowAt(own)
            return Prior(Wrapped(prior, levels, "flow_prediction", levels.timestep), levels, "flow_prediction")
    std = float(how)
    # latents of standard deviation std have the same noise at another alpha_bar
    table = own.table / (own.table + std**2 * (1 - own.table))
    wide = DDPMLevels(table, std)
    return Prior(Wrapped(prior, wide, "epsilon", as_timestep), wide, "epsilon")


@pytest.mark.parametrize("solver", [LDPS(), MMPS(share=4)], ids=lambda solver: solver.kind)
@pytest.mark.parametrize("how", ["epsilon", "sample", "flow", "0.5", "2"])
def test_it_restores_alike(how: str, solver: Solver) -> None:
    autoencoder = Patch().load(PAIR / "autoencoder").requires_grad_(False)
    own = load_prior(PAIR).requires_grad_(False)
    ids = torch.arange(2)
    x = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 32)
    measurement = GaussianBlur().measure(x, torch.tensor([0.3, 0.7]), ids, 0)
    restored = [
        Restorer(
            autoencoder=autoencoder,
            prior=prior,
            estimator=Untrained(autoencoder),
            degradation=GaussianBlur(),
            start=SNRMatch(variance="residual"),
            solver=solver,
            sampler=DDIM(num_steps=20),
        ).restore_all(measurement)
        for prior in (own, wrapped(own, how))
    ]
    assert torch.equal(restored[0].nfe, restored[1].nfe)
    assert restored[0].nfe.min() > 1
    assert (restored[0].x_hat - restored[1].x_hat).abs().max() < 2e-3
