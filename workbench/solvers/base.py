"""What every solver is: one step of reverse diffusion that also listens to the measurement."""

from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from workbench.autoencoders import Autoencoder
from workbench.config import Config, UserError
from workbench.degradations import Degradation
from workbench.diffusion import DDIM, Prior
from workbench.measurement import Measurement
from workbench.tensors import Images, Latents, Measurements, Scalars, Timesteps


@dataclass
class Networks:
    """The networks and the operator, and a count of how often each was evaluated for each image.

    Solvers call these and not the modules, so a cost cannot move to where it is not counted.

    Attributes:
        evaluations: per image, by name: "prior", "decoder", "encoder", and each with "_grad" for evaluations through
            which a gradient was taken.
    """

    autoencoder: Autoencoder
    prior: Prior
    degradation: Degradation
    evaluations: Counter[str] = field(default_factory=Counter)

    def predict(self, z: Latents, timestep: Timesteps) -> tuple[Latents, Latents]:
        """The prior's (z0_hat, eps)."""
        self._count("prior", z)
        return self.prior.predict(z, timestep)

    def decode(self, z: Latents) -> Images:
        """D(z)."""
        self._count("decoder", z)
        return self.autoencoder.decode(z)

    def forward(self, z: Latents, measurement: Measurement) -> Measurements:
        """A(D(z)), what the measurement's operator would make of z."""
        return self.degradation.A(self.decode(z), dict(measurement.params))

    def encode(self, x: Images) -> Latents:
        """E(x)."""
        self._count("encoder", x)
        return self.autoencoder.encode(x)

    def _count(self, name: str, argument: Tensor) -> None:
        graded = argument.requires_grad and torch.is_grad_enabled()
        self.evaluations[f"{name}_grad" if graded else name] += 1


@dataclass(frozen=True)
class Step:
    """One reverse step of a batch of images, each at its own noise level.

    Attributes:
        z: the latents now.
        timestep, timestep_next: of each image; -1 is the clean end.
        noise: standard normal, like z, from each image's own generator.
        measurement: what was measured, for the same images.
    """

    z: Latents
    timestep: Timesteps
    timestep_next: Timesteps
    noise: Latents
    measurement: Measurement
    networks: Networks
    sampler: DDIM

    def reverse(self, z0_hat: Latents, eps: Latents) -> Latents:
        """The sampler's unconditional step from these estimates."""
        schedule = self.networks.prior.schedule
        a, a_next = schedule.alpha_bar_at(self.timestep), schedule.alpha_bar_at(self.timestep_next)
        return self.sampler.step(z0_hat, eps, a, a_next, self.noise)

    def residual_norm(self, z0_hat: Latents) -> Scalars:
        """||y - A(D(z0_hat))||_2 over the observed entries, per image, on the scale of [0, 1] images."""
        prediction = self.networks.forward(z0_hat, self.measurement)
        return self.measurement.residual(prediction).flatten(1).norm(dim=1)


class Solver(Config):
    """A rule for one reverse step. Stateless: what it needs is in the Step."""

    kind: str

    diffuses: ClassVar[bool] = True
    """Whether reverse diffusion runs at all."""
    guided: ClassVar[bool] = True
    """Whether gradients through the operator are taken."""
    linear_only: ClassVar[bool] = False
    """Whether the operator must be linear."""

    @abstractmethod
    def step(self, step: Step) -> Latents:
        """The latents at the next, lower noise level."""

    def check(self, degradation: Degradation) -> None:
        """Refuse, before compute is spent, an operator that the solver cannot handle."""
        if self.linear_only and not degradation.linear:
            raise UserError(f"solver {self.kind} needs a linear operator, {degradation.kind} is not; use ldps")
