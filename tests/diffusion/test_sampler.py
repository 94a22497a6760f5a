"""The reverse step against closed forms.

For latents with independent N(mean, variance) entries the exact posterior mean is linear in z, so a whole chain is:
its mean and variance follow a recursion of scalars, the one of the discrete chain and not of its continuous limit.
"""

import itertools
import math

import pytest
import torch
from linear_stubs import images, levels
from torch import Tensor

from workbench.core import randomness
from workbench.diffusion import DDIM, DDPM, Sampler, diffuse
from workbench.diffusion.sampler import noise_for

MEAN = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64).reshape(1, 4, 1, 1)
SHAPE = (4, 2, 2)
VARIANCE = torch.tensor([0.05, 0.3, 1.0, 2.0], dtype=torch.float64).reshape(1, 4, 1, 1)


def exact_estimate(z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """E[z0 | z_t] and the noise that goes with it, for z0 ~ N(MEAN, VARIANCE) and one alpha_bar a per image."""
    a = a.reshape(-1, 1, 1, 1)
    z0_hat = MEAN + a.sqrt() * VARIANCE / (a * VARIANCE + 1 - a) * (z - a.sqrt() * MEAN)
    return z0_hat, (z - a.sqrt() * z0_hat) / (1 - a).sqrt()


def pairs(sampler: DDIM) -> list[tuple[float, float]]:
    """(alpha_bar, next alpha_bar) along a chain."""
    return list(itertools.pairwise(sampler.chain(levels(), SHAPE).alpha_bar.tolist()))


def chain(sampler: DDIM, z: Tensor, noises: list[Tensor] | None = None) -> Tensor:
    """Run the reverse steps from pure noise z with the exact estimate."""
    for number, (a, a_next) in enumerate(pairs(sampler)):
        now, after = (torch.full((len(z),), level, dtype=torch.float64) for level in (a, a_next))
        noise = torch.zeros_like(z) if noises is None else noises[number]
        z = sampler.step(*exact_estimate(z, now), now, after, noise)
    return z


def closed_recursion(sampler: DDIM) -> tuple[Tensor, Tensor]:
    """Mean and variance, an entry, of the end of a chain that starts at N(0, 1), scalar by scalar."""
    mean, variance = torch.zeros_like(MEAN), torch.ones_like(VARIANCE)
    for a, a_next in pairs(sampler):
        sigma = sampler.eta * math.sqrt((1 - a_next) / (1 - a)) * math.sqrt(1 - a / a_next)
        direction = math.sqrt(1 - a_next - sigma**2)
        gain = math.sqrt(a) * VARIANCE / (a * VARIANCE + 1 - a)
        offset = MEAN * (1 - gain * math.sqrt(a))
        slope = math.sqrt(a_next) * gain + direction * (1 - math.sqrt(a) * gain) / math.sqrt(1 - a)
        mean = slope * mean + (math.sqrt(a_next) - direction * math.sqrt(a / (1 - a))) * offset
        variance = slope**2 * variance + sigma**2
    return mean, variance


@pytest.mark.parametrize("num_steps", [1, 4, 50, 1000])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_mean_and_variance_of_a_chain_follow_the_recursion(eta: float, num_steps: int) -> None:
    sampler = DDIM(eta=eta, num_steps=num_steps)
    mean, variance = closed_recursion(sampler)
    origin = chain(sampler, torch.zeros(1, 4, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(origin, mean)

    # the chain is affine in its independent draws: its variance is the sum of its squared responses to each of them
    response = chain(sampler, torch.ones_like(MEAN)) - origin
    total = response.square()
    if num_steps <= 50:
        for draw in range(num_steps):
            noises = [torch.full_like(MEAN, float(number == draw)) for number in range(num_steps)]
            total = total + (chain(sampler, torch.zeros_like(MEAN), noises) - origin).square()
        torch.testing.assert_close(total, variance)
    elif eta == 0:
        torch.testing.assert_close(total, variance)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_more_steps_bring_mean_and_variance_to_the_priors(eta: float) -> None:
    errors = []
    for num_steps in (4, 20, 100, 1000):
        mean, variance = closed_recursion(DDIM(eta=eta, num_steps=num_steps))
        errors.append(float(((variance / VARIANCE).log().abs() + (mean - MEAN).abs()).max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1
    assert errors[0] > 2 * errors[-1]


def test_a_chain_of_draws_has_that_mean_and_variance() -> None:
    sampler, num = DDIM(eta=0.7, num_steps=10), 4000
    g = randomness.generator("chain")
    draws = [torch.randn(num, 4, 1, 1, generator=g, dtype=torch.float64) for _ in range(11)]
    z = chain(sampler, draws[0], draws[1:])
    mean, variance = closed_recursion(sampler)
    assert ((z.mean(0, keepdim=True) - mean).abs() < 4.5 * (variance / num).sqrt()).all()
    assert ((z.var(0, keepdim=True) / variance - 1).abs() < 4.5 * math.sqrt(2 / num)).all()


@pytest.mark.parametrize("sampler", [DDIM(), DDIM(eta=0.5), DDIM(eta=1), DDPM()])
def test_the_last_step_gives_the_clean_estimate(sampler: DDIM) -> None:
    z0_hat, eps, noise = torch.randn(3, 5, 4, 2, 2, generator=randomness.generator("last"))
    a = levels().alpha_bar_at(torch.tensor([0, 1, 99, 500, 999]))
    torch.testing.assert_close(sampler.step(z0_hat, eps, a, torch.ones(5), noise), z0_hat, rtol=0, atol=0)


@pytest.mark.parametrize("timestep", [1, 2, 50, 998, 999])
def test_ddpm_is_ddim_with_eta_1_is_the_textbook(timestep: int) -> None:
    """DDPM (arXiv 2006.11239) eq. 6 and 7: q(z_{t-1} | z_t, z0)."""
    s = levels()
    z0, eps, noise = torch.randn(3, 2, 4, 2, 2, generator=randomness.generator("ddpm"), dtype=torch.float64)
    a, a_next = (s.alpha_bar_at(torch.full((2,), t)) for t in (timestep, timestep - 1))
    z = diffuse(z0, eps, a)
    alpha = float(a[0] / a_next[0])
    beta, a_t, a_before = 1 - alpha, float(a[0]), float(a_next[0])
    mean = math.sqrt(a_before) * beta / (1 - a_t) * z0 + math.sqrt(alpha) * (1 - a_before) / (1 - a_t) * z
    std = math.sqrt((1 - a_before) / (1 - a_t) * beta)
    for sampler in (DDPM(), DDIM(eta=1)):
        stepped = sampler.step(z0, eps, a, a_next, noise)
        torch.testing.assert_close(stepped, mean + std * noise, rtol=1e-9, atol=1e-9)


def test_a_step_along_the_true_noise_stays_on_the_diffused_latent() -> None:
    s, (z0, _) = levels(), images(3)
    eps = torch.randn(z0.shape, generator=randomness.generator("eps"))
    a, a_next = s.alpha_bar_at(torch.tensor([9, 500, 999])), s.alpha_bar_at(torch.tensor([3, 499, 0]))
    torch.testing.assert_close(DDIM().step(z0, eps, a, a_next, torch.zeros_like(z0)), diffuse(z0, eps, a_next))


def test_every_image_steps_at_its_own_level() -> None:
    s, (z0, _) = levels(), images(3)
    eps, noise = torch.randn(2, *z0.shape, generator=randomness.generator("levels"))
    a, a_next = s.alpha_bar_at(torch.tensor([999, 40, 7])), s.alpha_bar_at(torch.tensor([900, 39, 0]))
    whole = DDPM().step(z0, eps, a, a_next, noise)
    for i in range(3):
        one = slice(i, i + 1)
        torch.testing.assert_close(DDPM().step(z0[one], eps[one], a[one], a_next[one], noise[one]), whole[one])


def test_diffused_latents_of_unit_variance_keep_it() -> None:
    num = 4000
    z0, eps = torch.randn(2, num, 1, 1, 1, generator=randomness.generator("unit"))
    for level in (0.01, 0.5, 0.99):
        z = diffuse(z0, eps, torch.full((num,), level))
        assert float(z.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / num))
        assert float((z * z0).mean()) == pytest.approx(math.sqrt(level), abs=5 * math.sqrt(2 / num))


def test_noise_comes_from_each_images_generator() -> None:
    z = torch.zeros(3, 4, 2, 2)
    noise = noise_for(z, [randomness.generator(number) for number in (1, 2, 1)])
    torch.testing.assert_close(noise[0], noise[2], rtol=0, atol=0)
    assert not torch.equal(noise[0], noise[1])


def test_a_sampler_is_chosen_by_kind() -> None:
    from pydantic import TypeAdapter

    adapter: TypeAdapter[DDIM | DDPM] = TypeAdapter(Sampler)
    assert adapter.validate_python({"kind": "ddpm", "num_steps": 7}) == DDPM(num_steps=7)
    assert type(adapter.validate_python({"kind": "ddim", "eta": 0.5})) is DDIM
    assert DDPM().canonical() == {"kind": "ddpm", "num_steps": 1000, "eta": 1}
    with pytest.raises(ValueError, match="eta"):
        DDIM(eta=1.5)
    with pytest.raises(ValueError, match="eta"):
        adapter.validate_python({"kind": "ddpm", "eta": 0.5})
