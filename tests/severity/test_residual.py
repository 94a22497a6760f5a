"""Severity from the residual, on problems whose answer is known."""

from collections.abc import Callable

import torch
from torch import Tensor

from workbench.core.measurement import Measurement
from workbench.core.tensors import Latents, Measurements
from workbench.severity.estimate import MIN_VARIANCE
from workbench.severity.variance.residual import residual_variance, risk

NUM_IMAGES = 400


def problem(noise_std: float, dims: int = 64) -> tuple[Tensor, Tensor, Measurement]:
    """A tall random linear F, clean latents, and measurements y = F z0 + n."""
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(96, dims, generator=g) / dims**0.5
    z0 = torch.randn(NUM_IMAGES, dims, 1, 1, generator=g)
    y = z0.flatten(1) @ matrix.T
    noise = noise_std * torch.randn(y.shape, generator=g)
    ids = torch.arange(NUM_IMAGES)
    return matrix, z0, Measurement(y + noise, ids, torch.full((NUM_IMAGES,), noise_std))


def answer(
    matrix: Tensor, measurement: Measurement, z_hat_of: Callable[[Tensor], Tensor], initial: float = 0.5
) -> Tensor:
    return residual_variance(
        z_hat_of(measurement.y),
        measurement,
        lambda z, m: z.flatten(1) @ matrix.T,
        lambda y, m: z_hat_of(y),
        torch.full((NUM_IMAGES,), initial),
        seed=0,
    )


def test_white_error_independent_of_the_noise_is_recovered() -> None:
    matrix, z0, measurement = problem(0.1)
    error = torch.randn(z0.shape, generator=torch.Generator().manual_seed(1))
    for variance in (0.02, 0.2, 1.0):
        v = answer(matrix, measurement, lambda y, variance=variance: z0 + variance**0.5 * error)
        assert abs(float(v.mean()) / variance - 1) < 0.1


def test_an_estimate_that_passes_the_noise_on_is_seen_through() -> None:
    matrix, z0, measurement = problem(0.3)
    inverse = torch.linalg.pinv(matrix)

    def least_squares(y: Tensor) -> Tensor:
        return (y @ inverse.T).reshape(z0.shape)

    residual = measurement.y - least_squares(measurement.y).flatten(1) @ matrix.T
    assert float(residual.square().mean()) < 0.09  # below the noise: believed, it would mean an error of nothing
    true = (least_squares(measurement.y).flatten(1) @ matrix.T - z0.flatten(1) @ matrix.T).square().mean()
    found = risk(
        least_squares(measurement.y).flatten(1) @ matrix.T,
        measurement,
        lambda z, m: z.flatten(1) @ matrix.T,
        lambda y, m: least_squares(y),
        0,
    )
    assert abs(float(found.mean() / true) - 1) < 0.05
    assert float(answer(matrix, measurement, least_squares).median()) > 0.01


def test_risk_is_unbiased_for_every_shrinkage() -> None:
    matrix, z0, measurement = problem(0.5)
    inverse = torch.linalg.pinv(matrix)
    for factor in (0.0, 0.3, 0.7, 1.0):

        def shrunk(y: Measurements, factor: float = factor) -> Latents:
            return factor * (y @ inverse.T).reshape(z0.shape)

        prediction = shrunk(measurement.y).flatten(1) @ matrix.T
        found = risk(prediction, measurement, lambda z, m: z.flatten(1) @ matrix.T, lambda y, m: shrunk(y), 0)
        error = prediction - z0.flatten(1) @ matrix.T
        true = (error - error.mean(1, keepdim=True)).square().mean(1)
        assert abs(float((found - true).mean())) < 4 * float((found - true).std()) / NUM_IMAGES**0.5


def test_only_observed_entries_count() -> None:
    matrix, z0, measurement = problem(0.3)
    mask = (torch.arange(96) < 60).float().expand(NUM_IMAGES, -1)
    spoilt = measurement.y + 100 * (1 - mask)
    masked = Measurement(spoilt, measurement.ids, measurement.noise_std, observed=mask)
    error = torch.randn(z0.shape, generator=torch.Generator().manual_seed(1))
    v = answer(matrix, masked, lambda y: z0 + 0.2**0.5 * error)
    assert abs(float(v.mean()) / 0.2 - 1) < 0.1


def test_a_nonlinear_operator_is_solved_by_secants() -> None:
    matrix, z0, measurement = problem(0.05)
    clean = torch.tanh(2 * z0.flatten(1) @ matrix.T)
    measurement = Measurement(clean, measurement.ids, torch.full((NUM_IMAGES,), 1e-6))
    error = 0.3**0.5 * torch.randn(z0.shape, generator=torch.Generator().manual_seed(1))
    few, many = (
        residual_variance(
            z0 + error,
            measurement,
            lambda z, m: torch.tanh(2 * z.flatten(1) @ matrix.T),
            lambda y, m: z0 + error,
            torch.full((NUM_IMAGES,), 0.01),
            seed=0,
            num_iterations=count,
        )
        for count in (3, 12)
    )
    assert abs(float((few / many).median()) - 1) < 0.15
    assert 0.15 < float(many.median()) < 0.6


def test_a_perfect_estimate_is_believed() -> None:
    matrix, z0, measurement = problem(0.3)
    v = answer(matrix, measurement, lambda y: z0)
    assert float(v.median()) < 0.03
    assert float(v.min()) >= 0.999 * MIN_VARIANCE
