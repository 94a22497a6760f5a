"""Severity from the measurement's residual: the latent error that explains how far A(D(z_hat)) is from A(x).

Write F(z) = A(D(z)), h(y) for the encoder and z_hat = h(y), y = A(x) + n with n ~ N(0, sigma^2 I) on m observed
entries. The measured error of z_hat, e^2 = |F(z_hat) - A(x)|^2 / m, can be estimated without the truth: Stein's
unbiased risk estimate (Stein, Annals of Statistics 9, 1981) is

    e^2  ~  |y - F(z_hat)|^2 / m  -  sigma^2  +  2 sigma^2 div / m,       div = divergence of y -> F(h(y))

The last term matters: an encoder that has not learnt to remove this noise passes it on, its residual falls below the
noise, and without this term its error would seem small. The divergence is estimated with one random probe (Ramani, Blu
and Unser, IEEE TIP 17, 2008). A latent error of variance v causes, in expectation,

    g(v) = mean over u ~ N(0, I) of |F(z_hat + sqrt(v) u) - F(z_hat)|^2 / m

if it is white, and the result is the v with g(v) = e^2. Neither truth nor training is used; A and h may be nonlinear.

All of this is done after P, the removal of the mean: s2 is the variance of the latent error around its mean, and an
error in brightness alone, which a mismatched encoder often makes, would otherwise count as a large error of every
element.
"""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.measurement import Measurement
from workbench.core.tensors import Latents, Measurements, Scalars
from workbench.severity.estimate import MAX_VARIANCE, MIN_VARIANCE
from workbench.severity.variance.base import (
    Encode,
    Evidence,
    Forward,
    Need,
    Variance,
    VarianceSource,
    positive,
    required,
)

PROBE_STEP = 0.1  # fraction of the noise: small compared with the variation of y, large compared with rounding
EXPONENTS = 0.3, 3.0  # g is close to a power of v, 1 if F is linear: outside this range, a secant is noise


class Residual(VarianceSource):
    """The variance of the latent error that explains the residual of the measurement; needs no severity encoder."""

    kind: Literal["residual"] = "residual"
    reads: ClassVar[Need] = Need.OPERATOR

    def __call__(self, evidence: Evidence) -> Variance:
        return Variance(explained_variance(evidence, self.asker))


def explained_variance(evidence: Evidence, asker: str) -> Scalars:
    """`residual_variance` of the evidence, searched from the encoder's var_hat, of which only the magnitude matters.

    Raises:
        UserError: without the operator, naming `asker`.
    """
    forward = required(evidence.forward, asker, Need.OPERATOR)
    encode = required(evidence.encode, asker, Need.OPERATOR)
    z_hat, first_guess = evidence.estimate.z_hat, positive(evidence.estimate.predicted_s2())
    return residual_variance(z_hat, evidence.measurement, forward, encode, first_guess, seed=evidence.seed)


def residual_variance(
    z_hat: Latents,
    measurement: Measurement,
    forward: Forward,
    encode: Encode,
    initial: Scalars,
    *,
    seed: int,
    num_iterations: int = 3,
) -> Scalars:
    """The variance of a white latent error that explains the residual, per image, within [1e-3, 4].

    The cost per image is 2 + num_iterations evaluations of D and of A, and 1 of the encoder.

    Args:
        initial: start of the search, for example the encoder's own var_hat.
        seed: keys the probes, with the image ids.
        num_iterations: evaluations of g. For a linear problem the first is exact.
    """
    prediction = forward(z_hat, measurement)
    wanted = risk(prediction, measurement, forward, encode, seed)
    probe = randomness.normal(measurement.ids, (seed, "residual"), tuple(z_hat.shape[1:])).to(z_hat)

    def log_gain(log_v: Tensor) -> Tensor:
        """log g(v) from one probe, the same at every v, which makes g smooth; it averages over many elements."""
        moved = forward(z_hat + (0.5 * log_v).exp().reshape(-1, 1, 1, 1) * probe, measurement)
        return _mean_square(moved - prediction, measurement).clamp(min=1e-30).log()

    v = _solve(log_gain, wanted.clamp(min=1e-30).log(), initial.log(), num_iterations).exp()
    # a negative estimate of a square means an error too small to detect
    return torch.where(wanted > 0, v, MIN_VARIANCE)


def risk(prediction: Measurements, measurement: Measurement, forward: Forward, encode: Encode, seed: int) -> Scalars:
    """Stein's unbiased estimate of |P (prediction - A(x))|^2 / m per image, prediction = F(h(y)); may be negative.

    Without noise it is the mean squared residual. As n is white, E <n, P F(h(y))> = sigma^2 div(P F(h(.))).
    """
    variance = measurement.noise_std.square()
    probe = randomness.normal(measurement.ids, (seed, "stein"), tuple(measurement.y.shape[1:])).to(measurement.y)
    probe = _centred(probe, measurement)
    step = (PROBE_STEP * measurement.noise_std).clamp(min=1e-4).reshape(-1, *[1] * (probe.ndim - 1))
    moved = forward(encode(measurement.y + step * probe, measurement), measurement)
    m = measurement.num_observed()
    # the probe is centred, so this is the divergence of P F(h(y)) in directions preserved by P
    divergence = (probe * (moved - prediction) / step).flatten(1).sum(1)
    residual = _mean_square(measurement.y - prediction, measurement)
    return residual - variance * (m - 1) / m + 2 * variance * divergence / m


def _centred(difference: Measurements, measurement: Measurement) -> Measurements:
    """P: the observed entries minus their mean, per image; 0 elsewhere."""
    seen = difference if measurement.observed is None else difference * measurement.observed
    mean = (seen.flatten(1).sum(1) / measurement.num_observed()).reshape(-1, *[1] * (seen.ndim - 1))
    centred = seen - mean
    return centred if measurement.observed is None else centred * measurement.observed


def _mean_square(difference: Measurements, measurement: Measurement) -> Scalars:
    """Mean square of P's result over the observed entries, per image."""
    return _centred(difference, measurement).flatten(1).square().sum(1) / measurement.num_observed()


def _solve(log_gain: Callable[[Tensor], Tensor], wanted: Tensor, log_v: Tensor, num_iterations: int) -> Tensor:
    """log v with log_gain(log v) = wanted, by the secant method, starting with an exponent of 1."""
    low, high = math.log(MIN_VARIANCE), math.log(MAX_VARIANCE)
    log_v = log_v.clamp(low, high)
    exponent = torch.ones_like(log_v)
    value = log_gain(log_v)
    for _ in range(num_iterations - 1):
        following = (log_v + (wanted - value) / exponent).clamp(low, high)
        gain = log_gain(following)
        secant = (gain - value) / (following - log_v)
        exponent = torch.where((following - log_v).abs() > 1e-3, secant, exponent).clamp(*EXPONENTS)
        log_v, value = following, gain
    return (log_v + (wanted - value) / exponent).clamp(low, high)
