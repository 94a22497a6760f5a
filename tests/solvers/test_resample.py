"""ReSample: its inner problem against the closed-form minimiser, its stops, stages and resampling."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from linear_steps import NUM, chain_through, jacobian, step_of
from linear_stubs import StubDegradation, chain, levels
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.degradations import GaussianBlur
from workbench.diffusion import DDIM
from workbench.solvers import Networks, NoGuidance, ReSample, Step
from workbench.solvers.resample import LOG_SNR_BELOW, least_residual, ratio, resampled

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


def stage_step(clean_end: bool = True, **changes: Any) -> Step:
    end = -1 if clean_end else 0
    through = chain_through((300, 700, 690), (880, 120, 119), (990, 3, end))
    return step_of(StubDegradation(), position=DUE, chain=through, solver_noise=noise(), **changes)


@pytest.mark.parametrize(
    ("limits", "of_latents", "of_images"),
    [
        ((-3.74, -0.645), [1, 2], []),
        ((-5.4, 3.0), [2], [0, 1]),
        ((-2.9, 99.0), [], [1, 2]),
        ((-99.0, -99.0), [0, 1, 2], []),
        ((99.0, 99.0), [], []),
    ],
)
def test_the_stage_follows_from_the_log_snr(
    limits: tuple[float, float], of_latents: list[int], of_images: list[int]
) -> None:
    step = stage_step()
    solver = ReSample(image_log_snr=limits[0], latent_log_snr=limits[1], max_iterations=3, tau=0.0)
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
    assert not torch.allclose(ReSample(every=3, image_log_snr=-99).step(step)[0], NoGuidance().step(step)[0])


def test_resampling_has_the_papers_mean_and_variance() -> None:
    """s^2 = gamma (1 - a') / a (1 - a / a'); the mean and the variance as they stand in the paper."""
    step, gamma, z0 = stage_step(sampler=DDIM()), 40.0, torch.full((NUM, 4, 4, 4), 0.7)
    advanced = torch.full_like(z0, -0.4)
    a, a_next = (level.reshape(-1, 1, 1, 1) for level in (step.alpha_bar, step.alpha_bar_next))
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


def published(
    form: str, t: int, t_next: int, gamma: float, alpha_bar: list[float]
) -> tuple[float, float, float, float]:
    """(s^2, m, share of z0, variance) as the forms stand in the module's table, in plain Python."""

    def at(timestep: int) -> float:
        return alpha_bar[timestep] if timestep >= 0 else 1.0

    a, a_next, b = at(t), at(t_next), at(t - 1)
    s2, m = {
        "paper": (gamma * (1 - a_next) / a * (1 - a / a_next), a_next),
        "code": (gamma * (1 - a_next) / (1 - a) * (1 - a / a_next), a_next),
        "flash": (gamma * (1 - b) / a * (1 - a / b), a),
    }[form]
    return s2, m, s2 * m**0.5 / (s2 + 1 - m), s2 * (1 - m) / (s2 + 1 - m)


@pytest.mark.parametrize("form", ["paper", "code", "flash"])
def test_each_published_form_has_its_mean_and_variance(form: Any) -> None:
    step, gamma, z0 = stage_step(), 40.0, torch.full((NUM, 4, 4, 4), 0.7)
    advanced = torch.full_like(z0, -0.4)
    found = resampled(step, advanced, z0, gamma, form)
    assert step.solver_noise is not None
    alpha_bar = levels().alpha_bar.tolist()
    # the third image reaches the clean end, where `paper` and `code` are 0 / 0 as written
    for i in range(NUM if form == "flash" else 2):
        t, t_next = [(700, 690), (120, 119), (3, -1)][i]
        s2, m, of_z0, variance = published(form, t, t_next, gamma, alpha_bar)
        mean = of_z0 * 0.7 + (1 - m) / (s2 + 1 - m) * -0.4
        torch.testing.assert_close(found[i], mean + variance**0.5 * step.solver_noise[i], rtol=1e-5, atol=1e-6)


def test_the_forms_differ() -> None:
    def r(form: Any, t_next: int) -> float:
        return float(ratio(*(levels().alpha_bar_at(torch.tensor([t])) for t in (501, t_next)), 40.0, form)[0])

    assert r("paper", 491) == pytest.approx(5 * r("paper", 499), rel=0.05)
    # 1 - a' is all but 1 - a: on a grid of all T, `flash` has the r of `paper`, of which `code` has a / (1 - a)
    assert r("flash", 500) == pytest.approx(r("paper", 500), rel=0.01)
    a = float(levels().alpha_bar[501])
    assert r("code", 500) == pytest.approx(r("paper", 500) * a / (1 - a))


def test_at_the_clean_end_flash_adds_noise_and_the_others_do_not() -> None:
    step, z0, advanced = stage_step(), torch.full((NUM, 4, 4, 4), 0.7), torch.full((NUM, 4, 4, 4), -0.4)
    ended = step.take(torch.tensor([2]))
    for form, random in (("paper", False), ("code", False), ("flash", True)):
        found = resampled(ended, advanced[2:], z0[2:], 40.0, form)  # type: ignore[arg-type]
        assert found.isfinite().all()
        assert (found.std() > 1e-3) == random
    at_zero = replace(ended, chain=chain_through((990, 0, -1)))
    assert torch.equal(resampled(at_zero, advanced[2:], z0[2:], 40.0, "flash"), advanced[2:])


def test_a_chain_may_end_at_the_level_of_timestep_0() -> None:
    """Latent diffusion's own DDIM ends there: z' of the last step is as diffusers' set_alpha_to_one=False has it."""
    step = stage_step(clean_end=False, sampler=DDIM(eta=1.0))
    z0_hat, eps = step.networks.predict(step.z, step.time)
    a, a_0 = float(levels().alpha_bar[3]), float(levels().alpha_bar[0])
    variance = (1 - a_0) / (1 - a) * (1 - a / a_0)
    expected = a_0**0.5 * z0_hat[2] + (1 - a_0 - variance) ** 0.5 * eps[2] + variance**0.5 * step.noise[2]
    torch.testing.assert_close(step.reverse(z0_hat, eps)[2], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stage_step(sampler=DDIM()).reverse(z0_hat, eps)[2], z0_hat[2])


@pytest.mark.parametrize(("correct_last", "left"), [(False, [10, 20, 30]), (True, [1, 11, 21])])
def test_the_last_step_is_corrected_if_asked(correct_last: bool, left: list[int]) -> None:
    """Flash-Diffusion's authors count from the last step: at t = 1, 21, 41 ... of their grid of 500."""
    solver = ReSample(every=10, correct_last=correct_last, image_log_snr=-99, latent_log_snr=-99, max_iterations=1)
    found = []
    for steps_left in range(1, 31):
        step = step_of(StubDegradation(), position=torch.full((NUM,), 1000 - steps_left), solver_noise=noise())
        solver.step(step)
        assert step.networks.accounts is not None
        found += [steps_left] * ("decoder_grad" in step.networks.accounts[0])
    assert found == left


def test_proximity_reaches_the_regularised_least_squares_solution() -> None:
    """||y - g x||^2 + p ||x - x0||^2 of a gain g is least at (g y + p x0) / (g^2 + p), in every pixel."""
    step, p = step_of(StubDegradation()), 0.5
    start = torch.full((NUM, 1, 8, 8), 0.5)
    found = least_residual(step, start, lambda _, x: x, 0.0, 0.02, 1500, proximity=p)
    gain = step.measurement.params["gain"]
    torch.testing.assert_close(found, (gain * step.measurement.y + p * start) / (gain**2 + p), rtol=0, atol=5e-3)


def test_proximity_is_as_published_for_images_on_minus_one_to_one() -> None:
    """The gradient of ||y - A(D(z))||^2 + p ||z - start||^2 with images on [-1, 1] is 4 times ours with p / 4."""
    step, p = step_of(StubDegradation()), 0.8
    start, z = noise(), (noise() + 0.3).requires_grad_(True)
    m = step.measurement

    def wide(x: Tensor) -> Tensor:
        return 2 * x - 1

    theirs = (wide(m.y) - wide(step.networks.forward(z, m))).square().sum() + p * (z - start).square().sum()
    ours = m.residual(step.networks.forward(z, m)).square().sum() + p / 4 * (z - start).square().sum()
    (in_theirs,) = torch.autograd.grad(theirs, z)
    (in_ours,) = torch.autograd.grad(ours, z)
    torch.testing.assert_close(in_theirs, 4 * in_ours)


def test_fields_added_later_leave_identities_alone() -> None:
    later = {"correct_last", "resampling", "proximity"}
    assert not later & set(ReSample().canonical())
    assert "clean_end" not in DDIM().canonical()
    changed = ReSample(correct_last=True, resampling="flash", proximity=1.0).canonical()
    assert later <= set(changed)


def test_gamma_zero_trusts_the_prior_and_a_large_one_the_measurement() -> None:
    step, z0, advanced = stage_step(), torch.full((NUM, 4, 4, 4), 0.7), torch.full((NUM, 4, 4, 4), -0.4)
    torch.testing.assert_close(resampled(step, advanced, z0, 0.0), advanced)
    a_next = step.alpha_bar_next.reshape(-1, 1, 1, 1)
    renoised = (a_next.sqrt() * z0 + (1 - a_next).sqrt() * noise()).float()
    torch.testing.assert_close(resampled(step, advanced, z0, 1e9), renoised, rtol=1e-3, atol=1e-3)


def test_resampling_without_noise_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="solver_noise"):
        resampled(step_of(StubDegradation()), torch.zeros(NUM, 4, 4, 4), torch.zeros(NUM, 4, 4, 4), 1.0)


def test_stages_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"latent_log_snr \(-2\) must not be below image_log_snr \(-1\)"):
        ReSample(image_log_snr=-1, latent_log_snr=-2)


@pytest.mark.parametrize("part", LOG_SNR_BELOW)
def test_stages_are_where_the_parts_of_t_had_them(part: float) -> None:
    """Bit for bit the same steps, and the same canonical form, as when stages were parts of T."""
    stored = {"image_below": part, "latent_below": part}
    solver = ReSample.model_validate(stored)
    timesteps = torch.arange(1000)
    assert torch.equal(chain().snr.log().flip(0) > solver.image_log_snr, timesteps / 1000 < part)
    assert stored.items() <= solver.canonical().items()
    assert "image_log_snr" not in solver.canonical()


def test_other_parts_of_t_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"image_below = 0\.5, as in older results, is now a log-SNR: set image_log_snr"
    ):
        ReSample.parse({"kind": "resample", "image_below": 0.5})
