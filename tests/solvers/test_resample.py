"""ReSample: its inner problem against the closed-form minimiser, its stops, stages and resampling."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from linear_steps import NUM, jacobian, step_of
from stubs import StubDegradation
from torch import Tensor

from workbench import randomness
from workbench.degradations import GaussianBlur
from workbench.diffusion import DDIM
from workbench.solvers import Networks, NoGuidance, ReSample, Step
from workbench.solvers.resample import least_residual, resampled

FEWER = 2  # latent channels that are optimised where the least squares problem is to have no exact solution


def noise() -> Tensor:
    return torch.randn(NUM, 4, 4, 4, generator=randomness.generator("resample"))


def loose(step: Step, noise_std: list[float]) -> Step:
    """The step with other stated noise."""
    return replace(step, measurement=replace(step.measurement, noise_std=torch.tensor(noise_std)))


def test_latent_optimisation_reaches_the_least_squares_solution() -> None:
    """In two of four latent channels y cannot be explained: what is left is the projection's residual."""
    step = step_of(StubDegradation())
    slope, at_zero = jacobian(step)
    columns = slope.reshape(NUM, -1, 4, 16)[:, :, :FEWER].flatten(2)
    target = step.measurement.y.flatten(1).double() - at_zero
    expected = torch.linalg.lstsq(columns, target[..., None]).solution.reshape(NUM, FEWER, 4, 4)

    def image_of(networks: Networks, v: Tensor) -> Tensor:
        return networks.decode(torch.cat([v, torch.zeros_like(v)], dim=1))

    found = least_residual(step, torch.zeros(NUM, FEWER, 4, 4), image_of, 0.0, 0.02, 1500)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-2)


def test_image_optimisation_reaches_the_least_squares_solution() -> None:
    step = step_of(StubDegradation())
    found = least_residual(step, torch.full((NUM, 1, 8, 8), 0.5), lambda _, x: x, 0.0, 0.02, 1500)
    torch.testing.assert_close(found, step.measurement.y / step.measurement.params["gain"], rtol=0, atol=5e-3)


def test_an_image_stops_at_its_noise_and_is_charged_no_more() -> None:
    step = loose(step_of(StubDegradation()), [10.0, 0.1, 0.02])
    start = torch.zeros(NUM, 4, 4, 4)
    found = least_residual(step, start, Networks.decode, 1.0, 5e-3, 1000)
    torch.testing.assert_close(found[0], start[0], rtol=0, atol=0)
    accounts = step.networks.accounts
    assert accounts is not None
    evaluations = [account["decoder_grad"] for account in accounts]
    assert evaluations[0] == 1 < evaluations[1] < evaluations[2] < 1000
    rms = step.residual_norm(found) / 8
    assert (rms <= step.measurement.noise_std).all()
    assert (rms[1:] > 0.9 * step.measurement.noise_std[1:]).all(), "it stops there, and does not fit the noise"


def test_an_image_stops_alike_whatever_its_neighbours_do() -> None:
    step = loose(step_of(GaussianBlur()), [10.0, 0.1, 0.02])
    start = noise()
    whole = least_residual(step, start, Networks.decode, 1.0, 0.02, 60)
    for i in range(NUM):
        alone = least_residual(step.take(torch.tensor([i])), start[i : i + 1], Networks.decode, 1.0, 0.02, 60)
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-4, atol=1e-4)


# of a grid of 1000 steps: at 700, 120 and 3 of T = 1000 timesteps
DUE = torch.tensor([300, 880, 990])


def stage_step(**changes: Any) -> Step:
    return step_of(StubDegradation(), position=DUE, solver_noise=noise(), **changes)


@pytest.mark.parametrize(
    ("limits", "of_latents", "of_images"),
    [
        ((2 / 3, 1 / 3), [1, 2], []),
        ((0.8, 0.05), [2], [0, 1]),
        ((0.6, 0.0), [], [1, 2]),
        ((1.0, 1.0), [0, 1, 2], []),
        ((0.0, 0.0), [], []),
    ],
)
def test_the_stage_follows_from_the_timestep(
    limits: tuple[float, float], of_latents: list[int], of_images: list[int]
) -> None:
    step = stage_step()
    solver = ReSample(image_below=limits[0], latent_below=limits[1], max_iterations=3, tau=0.0)
    advanced = solver.step(step)
    # the operator needs no network: images cost one decoding and one encoding
    expected = {i: Counter(prior=1) for i in range(NUM)}
    for i in of_latents:
        expected[i] += Counter(decoder_grad=3)
    for i in of_images:
        expected[i] += Counter(decoder=1, encoder=1)
    assert step.networks.accounts == list(expected.values())
    free = NoGuidance().step(stage_step())
    for i in range(NUM):
        assert torch.equal(advanced[i], free[i]) == (i not in of_latents + of_images)


def test_only_every_kth_step_seeks_consistency() -> None:
    step = step_of(StubDegradation(), position=DUE + 1, solver_noise=noise())
    torch.testing.assert_close(ReSample(every=10).step(step), NoGuidance().step(step), rtol=0, atol=0)
    assert not torch.allclose(ReSample(every=3, image_below=1).step(step)[0], NoGuidance().step(step)[0])


def test_resampling_has_the_papers_mean_and_variance() -> None:
    """s^2 = gamma (1 - a') / a (1 - a / a'); the mean and the variance as they stand in the paper."""
    step, gamma, z0 = stage_step(sampler=DDIM()), 40.0, torch.full((NUM, 4, 4, 4), 0.7)
    advanced = torch.full_like(z0, -0.4)
    schedule = step.networks.prior.schedule
    a, a_next = (schedule.alpha_bar_at(t).reshape(-1, 1, 1, 1) for t in (step.timestep, step.timestep_next))
    found = resampled(step, advanced, z0, gamma)
    rest = 1 - a_next
    s2 = gamma * rest / a * (1 - a / a_next)
    # the last image is at the clean end, where both are 0 / 0
    mean = ((s2 * a_next.sqrt() * z0 + rest * advanced) / (s2 + rest))[:2]
    variance = (s2 * rest / (s2 + rest))[:2]
    assert step.solver_noise is not None
    torch.testing.assert_close(found[:2], (mean + variance.sqrt() * step.solver_noise[:2]).float())
    clean = found[2]
    assert clean.isfinite().all()
    assert (clean == clean.flatten()[0]).all(), "nothing random at the clean end"
    assert -0.4 < float(clean.flatten()[0]) < 0.7


def test_gamma_zero_trusts_the_prior_and_a_large_one_the_measurement() -> None:
    step, z0, advanced = stage_step(), torch.full((NUM, 4, 4, 4), 0.7), torch.full((NUM, 4, 4, 4), -0.4)
    torch.testing.assert_close(resampled(step, advanced, z0, 0.0), advanced)
    a_next = step.networks.prior.schedule.alpha_bar_at(step.timestep_next).reshape(-1, 1, 1, 1)
    renoised = (a_next.sqrt() * z0 + (1 - a_next).sqrt() * noise()).float()
    torch.testing.assert_close(resampled(step, advanced, z0, 1e9), renoised, rtol=1e-3, atol=1e-3)


def test_resampling_without_noise_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="solver_noise"):
        resampled(step_of(StubDegradation()), torch.zeros(NUM, 4, 4, 4), torch.zeros(NUM, 4, 4, 4), 1.0)


def test_stages_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"latent_below \(0.5\) must not exceed image_below \(0.2\)"):
        ReSample(image_below=0.2, latent_below=0.5)
