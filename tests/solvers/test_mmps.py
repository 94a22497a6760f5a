"""Moment matching on linear networks: the correction in closed form, its cost, and operators that round."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from linear_steps import NUM, jacobian, step_of
from linear_stubs import StubDegradation
from torch import Tensor

from workbench.core.measurement import Measurement
from workbench.degradations import JPEG, Mixture, MotionBlurCRF, RandomInpainting
from workbench.diffusion import DDIM
from workbench.solvers import MMPS, NoGuidance, Step
from workbench.testing import gaussian_prior, linear_gaussian

LATENTS = linear_gaussian(image_size=8).latents


def gaussian_step(noise_std: float = 0.2) -> Step:
    """Three images at three noise levels, with the exact prior of correlated Gaussian latents."""
    step = step_of(RandomInpainting(noise_std=noise_std), sampler=DDIM())
    step.networks.prior = gaussian_prior(LATENTS, (4, 4, 4))
    return step


def posterior_mean(step: Step) -> Tensor:
    """E[z0 | z_t, y] from the two Gaussian factors z_t and y of N(m, C), in float64."""
    slope, at_zero = jacobian(step)
    found = []
    for i in range(NUM):
        a = float(step.alpha_bar[i])
        eye = torch.eye(len(LATENTS.mean), dtype=torch.float64)
        given_z = LATENTS.given(a**0.5 * eye, step.z[i].flatten().double(), 1 - a)
        seen = slope[i].abs().sum(1) > 0
        y = (step.measurement.y[i].flatten().double() - at_zero[i])[seen]
        found.append(given_z.given(slope[i][seen], y, float(step.measurement.noise_std[i]) ** 2).mean)
    return torch.stack(found).reshape(step.z.shape).float()


@pytest.mark.parametrize("noise_std", [0.5, 0.1])
def test_conjugate_gradients_reach_the_posterior_mean_at_every_noise_level(noise_std: float) -> None:
    step = gaussian_step(noise_std)
    z0_hat, eps = step.networks.predict(step.z, step.time)
    a_next = step.alpha_bar_next.reshape(-1, 1, 1, 1).sqrt().float()
    expected = step.reverse(z0_hat, eps) + a_next * (posterior_mean(step) - z0_hat)
    torch.testing.assert_close(MMPS(iterations=40).step(step), expected, rtol=0, atol=5e-3)


def test_the_correction_vanishes_in_infinite_noise() -> None:
    step = gaussian_step()
    m = step.measurement
    drowned = Measurement(y=m.y, ids=m.ids, noise_std=torch.full((NUM,), 1e4), observed=m.observed, params=m.params)
    step = gaussian_step()
    loud = Step(**(vars(step) | {"measurement": drowned}))
    torch.testing.assert_close(MMPS().step(loud), NoGuidance().step(loud), rtol=1e-4, atol=1e-4)


def test_a_weak_measurement_moves_z_as_far_as_the_posteriors_flow_does() -> None:
    """To first order in its information, a kept correction of weight 1 - sqrt(SNR / SNR') is the matched one."""
    step = gaussian_step()
    m = step.measurement
    weak = Measurement(y=m.y, ids=m.ids, noise_std=torch.full((NUM,), 5.0), observed=m.observed, params=m.params)
    step = Step(**(vars(step) | {"measurement": weak}))
    free = NoGuidance().step(step)
    kept, matched = (
        solver.step(step) - free for solver in (MMPS(iterations=10, share=1), MMPS(iterations=10, direction="matched"))
    )
    assert (kept.flatten(1).norm(dim=1) > 1e-6).all()
    torch.testing.assert_close(kept, matched, rtol=0.05, atol=0.05 * float(matched[:2].abs().max()))


def test_a_large_share_is_all_of_the_measurement() -> None:
    step = gaussian_step()
    torch.testing.assert_close(MMPS(share=1e6).step(step), MMPS().step(step))
    assert not torch.allclose(MMPS(share=1).step(step), MMPS().step(step), atol=1e-2)
    with pytest.raises(ValueError, match="share is for direction=kept"):
        MMPS(share=1, direction="matched")


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_cost_of_a_step(iterations: int) -> None:
    step = step_of(StubDegradation())
    MMPS(iterations=iterations).step(step)
    expected = Counter(prior_grad=1, decoder_grad=iterations, decoder=iterations)
    expected += Counter(prior_backward=iterations - 1)
    assert step.networks.accounts == [expected] * NUM


def test_a_measurement_without_noise_gives_finite_latents_that_explain_it() -> None:
    step = gaussian_step()
    m = step.measurement
    clean = Measurement(y=m.y, ids=m.ids, noise_std=torch.zeros(NUM), observed=m.observed, params=m.params)
    step = Step(**(vars(step) | {"measurement": clean}))
    z0_hat, eps = step.networks.predict(step.z, step.time)
    a_next = step.alpha_bar_next.reshape(-1, 1, 1, 1).sqrt().float()
    z0 = z0_hat + (MMPS(iterations=20).step(step) - step.reverse(z0_hat, eps)) / a_next
    assert (step.residual_norm(z0) < 0.05 * step.residual_norm(z0_hat)).all()


def test_where_the_operator_rounds_the_residual_still_falls() -> None:
    step = step_of(JPEG(noise_std=0.02), sampler=DDIM())
    step.networks.prior = gaussian_prior(LATENTS, (4, 4, 4))
    z0_hat, eps = step.networks.predict(step.z, step.time)
    a_next = step.alpha_bar_next.reshape(-1, 1, 1, 1).sqrt().float()
    z0 = z0_hat + (MMPS(iterations=4).step(step) - step.reverse(z0_hat, eps)) / a_next
    noisy = slice(0, 2)  # the last image is at the clean end, where z0_hat has no error
    assert (step.residual_norm(z0)[noisy] < 0.9 * step.residual_norm(z0_hat)[noisy]).all()


def test_in_a_mixture_each_image_is_corrected_as_with_its_own_member_alone() -> None:
    mixture = Mixture(members=(MotionBlurCRF(), JPEG()))
    step = step_of(mixture, sampler=DDIM())
    step.networks.prior = gaussian_prior(LATENTS, (4, 4, 4))
    z = MMPS().step(step)
    for position, member in enumerate(mixture.members):
        alone = replace(step, networks=replace(step.networks, degradation=member))
        params = {
            name.removeprefix(f"{member.kind}."): value
            for name, value in step.measurement.params.items()
            if name.startswith(f"{member.kind}.")
        }
        alone = replace(alone, measurement=replace(step.measurement, params=params))
        chosen = step.measurement.params["member"] == position
        assert chosen.any()
        torch.testing.assert_close(z[chosen], MMPS().step(alone)[chosen], rtol=1e-3, atol=1e-3)
