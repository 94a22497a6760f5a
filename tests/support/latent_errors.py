"""Latents with errors of known law, for tests of calibration: each has unit variance and no flaw but the one named."""

from collections.abc import Callable

import numpy as np
import torch

from workbench.metrics.calibration import Calibration, Rows, collect, summarise

Array = np.ndarray
SHAPE = (4, 8, 8)


def gaussian(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    return rng.normal(size=size)


def laplace(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    return rng.laplace(scale=np.sqrt(0.5), size=size)


def student_t(df: float) -> Callable[[np.random.Generator, tuple[int, ...]], Array]:
    return lambda rng, size: rng.standard_t(df, size=size) * np.sqrt((df - 2) / df)


def autoregressive(correlation: float) -> Callable[[np.random.Generator, tuple[int, ...]], Array]:
    """Stationary Gaussian fields, correlated by correlation ** (|dy| + |dx|) at (dy, dx); channels are independent."""

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        height, width = (np.linalg.cholesky(kernel(correlation, length)) for length in size[2:])
        return np.einsum("ab,cd,nkbd->nkac", height, width, rng.normal(size=size))

    return draw


def kernel(correlation: float, length: int) -> Array:
    return correlation ** np.abs(np.subtract.outer(np.arange(length), np.arange(length)))


def levels(num: int, seed: int) -> Array:
    """True error variances, one an image."""
    return np.random.default_rng([1, seed]).uniform(0.05, 0.4, num)


def forward(noise: Array, variance: Array, seed: int) -> tuple[Array, Array]:
    """(z_hat, z0) with z_hat = z0 + e, e independent of z0."""
    z0 = np.random.default_rng([2, seed]).normal(size=noise.shape)
    return z0 + np.sqrt(variance)[:, None, None, None] * noise, z0


def mmse(noise: Array, variance: Array, seed: int) -> tuple[Array, Array]:
    """(z_hat, z0) with z0 = z_hat - e, e independent of z_hat, z0 of unit variance."""
    scale = np.sqrt(1 - variance)[:, None, None, None]
    z_hat = scale * np.random.default_rng([2, seed]).normal(size=noise.shape)
    return z_hat, z_hat - np.sqrt(variance)[:, None, None, None] * noise


def collected(z_hat: Array, z0: Array, var_hat: Array) -> Rows:
    return collect(*(torch.from_numpy(np.asarray(array)) for array in (z_hat, z0, var_hat)))


def calibration_of(
    noise: Callable[[np.random.Generator, tuple[int, ...]], Array] = gaussian,
    flaw: Callable[[Array], Array] = lambda noise: noise,
    channel: Callable[[Array, Array, int], tuple[Array, Array]] = forward,
    predicted: Callable[[Array], Array] = lambda variance: variance,
    num: int = 400,
    seed: int = 0,
) -> Calibration:
    """The calibration of `num` images whose noise has a flaw, or whose predicted variance has."""
    variance = levels(num, seed)
    drawn = flaw(noise(np.random.default_rng([0, seed]), (num, *SHAPE)))
    return summarise(collected(*channel(drawn, variance, seed), predicted(variance)))
