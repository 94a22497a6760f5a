"""The linear-Gaussian latent problem: all networks are exact, so prior, posterior and chains are known."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.core.tensors import Latents
from workbench.degradations import Degradation, RandomInpainting
from workbench.diffusion import DDIM, Chain, NoiseLevels
from workbench.diffusion.prediction import Prediction
from workbench.solvers import Networks
from workbench.testing.gaussian import Gaussian
from workbench.testing.linear import CHANNELS, LinearAutoencoder, gaussian_prior


@dataclass(frozen=True)
class LinearGaussian:
    """Latents z0 ~ N(m, C), a linear decoder D and operator A, and one measurement y = A(D(z0)) + noise.

    Attributes:
        networks: the autoencoder, the exact prior of N(m, C), and the operator.
        latents: N(m, C), for flattened latents.
        measurement: y, for one image.
        latent_shape: (channel, height, width).
    """

    networks: Networks
    latents: Gaussian
    measurement: Measurement
    latent_shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """d, the number of elements of a latent."""
        return len(self.latents.mean)

    def chain(self, sampler: DDIM) -> Chain:
        """The noise levels that a chain of the prior visits."""
        return sampler.chain(self.networks.prior.levels, self.latent_shape)

    @property
    def noise_variance(self) -> float:
        """Variance of the noise in y."""
        return float(self.measurement.noise_std[0]) ** 2

    @cached_property
    def observed(self) -> Tensor:
        """Which entries of y were observed, (m,) bool for y with m entries."""
        entries = torch.ones_like(self.measurement.y)
        if self.measurement.observed is not None:
            entries = entries * self.measurement.observed
        return entries.flatten().bool()

    @cached_property
    def y(self) -> Tensor:
        """The observed entries of y, (k,) float64."""
        return self.measurement.y.flatten().double()[self.observed]

    @cached_property
    def forward(self) -> tuple[Tensor, Tensor]:
        """A(D(z)) = matrix z + offset on the observed entries, (k, d) and (k,) float64."""
        matrix, offset = affine(lambda z: self.networks.forward(z, self.repeated(len(z))), self.latent_shape)
        return matrix[self.observed], offset[self.observed]

    @cached_property
    def posterior(self) -> Gaussian:
        """The distribution of z0 given y."""
        matrix, offset = self.forward
        return self.latents.given(matrix, self.y - offset, self.noise_variance)

    def repeated(self, num: int) -> Measurement:
        """The measurement repeated for `num` images with ids 0, 1 ..., so that each has its own random draws."""
        return replace(self.measurement.take([0] * num), ids=torch.arange(num))

    def unflatten(self, z: Tensor) -> Latents:
        """Reshape latents (n, d) to their shape, in float32."""
        return z.float().reshape(-1, *self.latent_shape)


def linear_gaussian(
    degradation: Degradation | None = None,
    severity: float = 0.5,
    image_size: int = 4,
    latents: Gaussian | None = None,
    encoder_error: float = 0.2,
    levels: NoiseLevels | None = None,
    prediction: Prediction = "v_prediction",
) -> LinearGaussian:
    """A problem with one measurement of a latent drawn from the prior.

    Args:
        degradation: a linear operator; by default, half of the pixels of an image are dropped.
        severity: severity of the degradation.
        image_size: size of the greyscale images; latents have image_size^2 elements.
        latents: distribution of the latents; by default correlated, with nonzero mean and unit variance on average.
        encoder_error: distance of E(D(z)) from z.
        levels: the noise levels; latent diffusion's by default.
        prediction: what the prior's network predicts.

    Raises:
        UserError: if the operator is not linear.
    """
    degradation = RandomInpainting(noise_std=0.1) if degradation is None else degradation
    if not degradation.linear:
        raise UserError(f"the linear-Gaussian problem needs a linear operator, but {degradation.kind} is not linear")
    latent_shape = (CHANNELS, image_size // 2, image_size // 2)
    latents = correlated_latents(image_size**2) if latents is None else latents
    autoencoder = LinearAutoencoder(encoder_error=encoder_error)
    z0 = latents.draw(1, randomness.generator("truth")).float().reshape(1, *latent_shape)
    measurement = degradation.measure(autoencoder.decode(z0), torch.tensor([severity]), torch.tensor([0]), 0)
    prior = gaussian_prior(latents, latent_shape, levels, prediction)
    return LinearGaussian(Networks(autoencoder, prior, degradation), latents, measurement, latent_shape)


def correlated_latents(size: int) -> Gaussian:
    """N(m, C) with variances a factor of 45 apart along random directions, 1 on average, and |m| = sqrt(d) / 2."""
    g = randomness.generator("latents")
    directions = torch.linalg.qr(torch.randn(size, size, generator=g, dtype=torch.float64))[0]
    variances = torch.logspace(-1, 0.65, size, dtype=torch.float64)
    mean = torch.randn(size, generator=g, dtype=torch.float64)
    return Gaussian(mean / mean.norm() * size**0.5 / 2, (directions * (variances / variances.mean())) @ directions.T)


def affine(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """(matrix, offset) of an affine function on batches of float32 tensors of `shape`, in float64.

    The function is called once, with zero and the basis: (d + 1, *shape).
    """
    size = torch.Size(shape).numel()
    points = torch.cat([torch.zeros(1, size), torch.eye(size)]).reshape(-1, *shape)
    values = function(points).flatten(1).double()
    return (values[1:] - values[0]).T, values[0]
