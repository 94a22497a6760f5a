"""Every solver on the linear-Gaussian problem: chains against their closed recursion, guidance against its gradient."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from linear_stubs import levels
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError, kind_of, members
from workbench.core.measurement import Measurement
from workbench.degradations import JPEG, Degradation, GaussianBlur, GaussianNoise, RandomInpainting
from workbench.diffusion import DDIM, DDPM, DDPMLevels
from workbench.diffusion.prediction import Prediction
from workbench.restoration.engine import Batch, Engine
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import Channel, SNRMatch
from workbench.severity.variance import Evidence
from workbench.solvers import GMLDPS, LDPS, MMPS, PSLD, AnySolver, Guided, LDPSFew, NoGuidance, Solver, Step
from workbench.testing import (
    Gaussian,
    LinearGaussian,
    affine,
    check_chain,
    closed_chain,
    conformance_table,
    final_latents,
    linear_gaussian,
    step_table,
    with_exact_likelihood,
)
from workbench.testing.likelihood import log_likelihood

OFF: dict[str, dict[str, float]] = {
    "ldps": {"guidance_scale": 0},
    "gml_dps": {"guidance_scale": 0, "weight": 0},
    "psld": {"guidance_scale": 0, "weight": 0},
    "resample": {"image_log_snr": 99, "latent_log_snr": 99},
    "ldps_few": {"guidance_scale": 1e-9},
    "mmps": {"iterations": 0},
    "no_guidance": {},
}
"""What turns each solver's guidance off. Without an entry here a new solver that diffuses fails the first test."""

SAMPLERS = [DDIM(num_steps=20), DDIM(num_steps=20, eta=0.5), DDIM(num_steps=20, eta=1), DDPM(num_steps=20)]
DIFFUSING = [member for member in members(AnySolver) if issubclass(member, Solver) and member.diffuses]
GUIDED = [LDPS(guidance_scale=0.7), GMLDPS(guidance_scale=0.7, weight=0.4), PSLD(guidance_scale=0.7, weight=0.4)]

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: f"{sampler.kind} {sampler.eta}")
every_guided = pytest.mark.parametrize("solver", GUIDED, ids=lambda solver: solver.kind)


@cache
def problem() -> LinearGaussian:
    return linear_gaussian()


def step_of(here: LinearGaussian, z: Tensor, timestep: int) -> Step:
    num, sampler = len(z), DDIM()
    return Step(
        z=z,
        position=torch.full((num,), 999 - timestep),
        chain=here.chain(sampler),
        noise=torch.zeros_like(z),
        measurement=here.repeated(num),
        networks=here.networks,
        sampler=sampler,
    )


# unguided


@pytest.mark.parametrize("member", DIFFUSING, ids=kind_of)
@every_sampler
def test_without_guidance_every_solver_ends_as_its_discrete_chain_says(member: Any, sampler: DDIM) -> None:
    solver = member(**OFF[kind_of(member)])
    check_chain(solver, problem(), sampler=sampler, num_draws=2048)
    if sampler.eta == 0:  # the whole chain is affine in its start: no error but of float32
        slope, offset = affine(lambda z: final_latents(problem(), solver, sampler, z), problem().latent_shape)
        gap = Gaussian.standard(problem().size).moved(slope, offset).gap(expected(problem().latents, sampler))
        assert max(gap.mean, gap.covariance) < 1e-4


def expected(target: Gaussian, sampler: DDIM) -> Gaussian:
    return closed_chain(target, problem().chain(sampler), sampler.eta)


def posterior_chain(here: LinearGaussian, sampler: DDIM) -> Gaussian:
    return closed_chain(here.posterior, here.chain(sampler), sampler.eta)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_whatever_the_network_predicts(prediction: Prediction) -> None:
    here, sampler = linear_gaussian(prediction=prediction), DDIM(num_steps=20)
    slope, offset = affine(lambda z: final_latents(here, NoGuidance(), sampler, z), here.latent_shape)
    gap = Gaussian.standard(here.size).moved(slope, offset).gap(expected(here.latents, sampler))
    assert max(gap.mean, gap.covariance) < 1e-3


class Wrong(NoGuidance):
    """A reverse step with a tenth too much noise level."""

    def step(self, step: Step) -> Tensor:
        z0_hat, eps = step.networks.predict(step.z, step.time)
        return step.reverse(z0_hat, 1.1 * eps)


def test_a_chain_that_is_wrong_is_noticed() -> None:
    with pytest.raises(AssertionError, match="does not end as its chain should"):
        check_chain(Wrong(), problem())
    with pytest.raises(AssertionError, match="does not end as its chain should"):
        check_chain(LDPS(guidance_scale=0.5), problem())


def test_steps_bring_chains_to_prior_and_posterior() -> None:
    table = step_table(problem())
    for _, chain in table.groupby(["target", "eta"]):
        gaps = chain.sort_values("num_steps").covariance_gap.tolist()
        assert gaps == sorted(gaps, reverse=True)
        assert gaps[-1] < 0.08
        assert gaps[0] > 5 * gaps[-1]
        # the start is N(0, I), not the diffused target: alpha_bar_T is 1e-4, and the mean remembers a hundredth
        assert chain.mean_gap.max() < 0.011


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_gap_falls_as_one_over_the_steps(eta: float) -> None:
    """On noise levels that end in no noise, from the diffused posterior itself, nothing is left but the steps."""
    fine = DDPMLevels(torch.linspace(16, -9, 8000, dtype=torch.float64).sigmoid())
    target = problem().posterior
    start = target.diffused(float(fine.alpha_bar[-1]))
    coarse, most = (
        closed_chain(target, fine.chain(n, problem().latent_shape), eta, start).gap(target) for n in (2000, 8000)
    )
    assert max(coarse.mean, most.mean) < 1e-9
    assert most.covariance == pytest.approx(coarse.covariance / 4, rel=0.2)


# with the exact likelihood


@every_guided
def test_with_the_exact_likelihood_every_guided_solver_follows_the_posteriors_score(solver: Guided) -> None:
    exact = with_exact_likelihood(solver, problem())
    assert exact.kind == solver.kind
    assert isinstance(exact, type(solver))
    sampler = DDIM(num_steps=20)
    slope, offset = affine(lambda z: final_latents(problem(), exact, sampler, z), problem().latent_shape)
    end = Gaussian.standard(problem().size).moved(slope, offset)
    gap = end.gap(expected(problem().posterior, sampler))
    assert max(gap.mean, gap.covariance) < 1e-4
    assert end.gap(expected(problem().latents, sampler)).mean > 0.1, "the measurement says something"


@pytest.mark.parametrize("sampler", SAMPLERS[1:], ids=lambda sampler: f"{sampler.kind} {sampler.eta}")
def test_so_it_does_where_the_sampler_draws_noise(sampler: DDIM) -> None:
    check_chain(with_exact_likelihood(LDPS(), problem()), problem(), problem().posterior, sampler)


@pytest.mark.parametrize("degradation", [GaussianNoise(noise_std=0.3), GaussianBlur()], ids=lambda d: d.kind)
def test_and_on_other_operators(degradation: Degradation) -> None:
    here, sampler = linear_gaussian(degradation, severity=0.4, image_size=8), DDIM(num_steps=10)
    exact = with_exact_likelihood(LDPS(), here)
    slope, offset = affine(lambda z: final_latents(here, exact, sampler, z), here.latent_shape)
    gap = Gaussian.standard(here.size).moved(slope, offset).gap(posterior_chain(here, sampler))
    assert max(gap.mean, gap.covariance) < 1e-3


def test_the_likelihood_is_that_of_draws() -> None:
    """log p(y | z_t) by Monte Carlo over z0 given z_t, relative to its value at another z_t."""
    here, timestep = linear_gaussian(RandomInpainting(noise_std=0.5), severity=0.9), 300
    a = float(levels().alpha_bar[timestep])
    z = here.unflatten(here.latents.diffused(a).draw(2, randomness.generator("z_t")))
    step = step_of(here, z, timestep)
    z0_hat, _ = here.networks.predict(z, step.time)
    found = log_likelihood(here, step, z0_hat)

    matrix, offset = here.forward
    eye = torch.eye(here.size).double()
    sampled = []
    for z_t in z.flatten(1).double():
        z0 = here.latents.given(math.sqrt(a) * eye, z_t, 1 - a).draw(200_000, randomness.generator("z0"))
        residual = here.y - offset - z0 @ matrix.T
        sampled.append((-residual.square().sum(1) / (2 * here.noise_variance)).exp().mean().log())
    assert float(found[0] - found[1]) == pytest.approx(float(sampled[0] - sampled[1]), abs=0.05)


def test_few_step_guidance_is_exact_for_white_latents() -> None:
    """Where z0 ~ N(0, I), its variance given z_t is 1 - alpha_bar, as ldps_few assumes: its chain is exact."""
    here, sampler = linear_gaussian(latents=Gaussian.standard(16)), DDIM(num_steps=20)
    solver = LDPSFew(direction="matched", decoder_steps=4)
    slope, offset = affine(lambda z: final_latents(here, solver, sampler, z), here.latent_shape)
    gap = Gaussian.standard(16).moved(slope, offset).gap(posterior_chain(here, sampler))
    assert max(gap.mean, gap.covariance) < 1e-3


OPERATORS: list[tuple[Degradation, float]] = [
    (RandomInpainting(noise_std=0.1), 0.5),
    (GaussianNoise(noise_std=0.3), 0.4),
    (GaussianBlur(noise_std=0.02), 0.7),
]


@pytest.mark.parametrize(("degradation", "severity"), OPERATORS, ids=lambda value: getattr(value, "kind", None))
def test_moment_matching_ends_in_the_posterior_of_correlated_latents(degradation: Degradation, severity: float) -> None:
    """Its covariance of z0 given z_t is exact, so one chain without a scale suits every operator and noise level."""
    here, sampler = linear_gaussian(degradation, severity), DDIM(num_steps=20)

    def gap_of(solver: Solver) -> float:
        slope, offset = affine(lambda z: final_latents(here, solver, sampler, z), here.latent_shape)
        gap = Gaussian.standard(here.size).moved(slope, offset).gap(posterior_chain(here, sampler))
        return max(gap.mean, gap.covariance)

    exact = gap_of(MMPS(direction="matched", iterations=16))
    assert exact < 1e-2
    scaled = [gap_of(LDPSFew(direction="matched", decoder_steps=16, guidance_scale=s)) for s in (0.3, 1, 3)]
    assert exact < 0.1 * min(scaled), "no scale of a white variance comes near"


def test_more_iterations_of_moment_matching_come_closer() -> None:
    here, sampler = problem(), DDIM(num_steps=20)
    gaps = []
    for iterations in (1, 3, 8):
        solver = MMPS(direction="matched", iterations=iterations)
        slope, offset = affine(lambda z, s=solver: final_latents(here, s, sampler, z), here.latent_shape)
        gap = Gaussian.standard(here.size).moved(slope, offset).gap(posterior_chain(here, sampler))
        gaps.append(gap.mean)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[1] < 0.5 * gaps[0]


# guidance


def linear_parts(here: LinearGaussian, timestep: int) -> dict[str, tuple[Tensor, Tensor]]:
    """(matrix, offset) of z0_hat(z), the residual, and what gml_dps and psld pull to zero, the last three of z0_hat."""
    networks, shape = here.networks, here.latent_shape

    def glued(z: Tensor) -> Tensor:
        m = here.repeated(len(z))
        x, params = networks.decode(z), dict(m.params)
        back = networks.degradation.A_adjoint(m.y, params) - networks.degradation.A_adjoint(
            networks.degradation.A(x, params), params
        )
        return z - networks.encode(x + back)

    matrix, offset = here.forward
    return {
        "z0_hat": affine(lambda z: networks.predict(z, torch.full((len(z),), timestep))[0], shape),
        "ldps": (-matrix, here.y - offset),
        "gml_dps": affine(lambda z: z - networks.encode(networks.decode(z)), shape),
        "psld": affine(glued, shape),
    }


@every_guided
@pytest.mark.parametrize("timestep", [900, 300, 20])
def test_guidance_is_the_gradient_in_closed_form(solver: Any, timestep: int) -> None:
    """grad_z ||B z0_hat(z) + b|| = K^T B^T u, with u the unit vector along B z0_hat + b and K the prior's matrix."""
    here = problem()
    z = here.unflatten(here.latents.diffused(float(levels().alpha_bar[timestep])).draw(3, randomness.generator(1)))
    step = step_of(here, z, timestep)
    parts = linear_parts(here, timestep)
    gain, start = parts["z0_hat"]
    z0_hat = z.flatten(1).double() @ gain.T + start

    def gradient(matrix: Tensor, offset: Tensor) -> Tensor:
        values = z0_hat @ matrix.T + offset
        return values / values.norm(dim=1, keepdim=True) @ matrix @ gain

    closed = solver.guidance_scale * gradient(*parts["ldps"])
    if solver.kind != "ldps":
        closed = closed + solver.weight * gradient(*parts[solver.kind])
    found = (NoGuidance().step(step) - solver.step(step)).flatten(1).double()
    torch.testing.assert_close(found, closed, rtol=1e-3, atol=1e-5)


def test_no_guided_solver_is_left_out() -> None:
    assert {type(solver) for solver in GUIDED} == {m for m in members(AnySolver) if issubclass(m, Guided)}


# starts


@pytest.mark.parametrize("channel", ["forward", "mmse"])
def test_a_chain_from_a_matched_start_samples_the_prior(channel: Channel) -> None:
    """Over measurements, a matched start is z_t of the true z0: jointly with it, and a free chain goes on from there.

    The error of z_hat is white and of the stated variance; under mmse, where z_hat = E[z0 | y], so are latents.
    """
    num, v, sampler = 4096, 0.3, DDIM(num_steps=50)
    here = problem() if channel == "forward" else linear_gaussian(latents=Gaussian.standard(16))
    size, ids = here.size, torch.arange(num)
    z0 = here.latents.draw(num, randomness.generator("z0"))
    y = z0 + math.sqrt(v if channel == "forward" else v / (1 - v)) * torch.randn(
        num, size, generator=randomness.generator("e"), dtype=torch.float64
    )
    z_hat = here.unflatten(y if channel == "forward" else (1 - v) * y)
    measurement = here.repeated(num)
    chain = here.chain(sampler)
    noise = randomness.normal(ids, ("start",), here.latent_shape)
    estimate = SeverityEstimate(z_hat, torch.full((num, 1, 1, 1), v))
    start = SNRMatch(channel=channel)(Evidence(estimate, measurement), chain, noise)
    assert not start.fell_back.any()
    position = int(start.position[0])
    a = float(chain.alpha_bar[position])

    # z_t and z0 together
    noisy = here.latents.diffused(a)
    shared = math.sqrt(a) * here.latents.covariance
    covariance = torch.cat(
        [torch.cat([noisy.covariance, shared], 1), torch.cat([shared.T, here.latents.covariance], 1)]
    )
    joint = Gaussian(torch.cat([noisy.mean, here.latents.mean]), covariance)
    found = joint.agreement(torch.cat([start.z.flatten(1).double(), z0], 1))
    assert min(found.mean, found.covariance) > 1e-3

    engine = Engine(here.networks, NoGuidance(), sampler, 0, num_slots=num)
    (finished,) = engine.run([Batch(measurement, start.z, start.position)])
    end = closed_chain(here.latents, chain, sampler.eta, noisy, position)
    found = end.agreement(finished.z.flatten(1))
    assert min(found.mean, found.covariance) > 1e-3


# the tables, and bad input


def test_the_table_ranks_solvers_between_the_posterior_and_no_guidance() -> None:
    table = conformance_table([LDPS(), NoGuidance()], problem(), num_steps=(20, 100), num_draws=1024)
    gap = table.set_index(["solver", "likelihood", "num_steps"])
    assert len(table) == 7
    assert gap.loc["posterior"].mean_gap.item() < 0.05
    for steps in (20, 100):
        exact, own, none = (
            gap.loc[key] for key in (("ldps", "exact", steps), ("ldps", "own", steps), ("no_guidance", "none", steps))
        )
        assert exact.mean_gap < 0.05 < own.mean_gap < none.mean_gap
        assert own.covariance_gap < none.covariance_gap
    assert gap.loc["ldps", "exact", 100].covariance_gap < gap.loc["ldps", "exact", 20].covariance_gap


def test_without_solvers_it_is_about_every_one_that_diffuses() -> None:
    table = conformance_table(problem=problem(), num_steps=(2,), num_draws=32)
    assert set(table.solver) == {"posterior", *map(kind_of, DIFFUSING)}


def test_an_operator_that_is_not_linear_is_refused() -> None:
    with pytest.raises(UserError, match="needs a linear operator, but jpeg is not linear"):
        linear_gaussian(JPEG())


def test_what_was_not_observed_says_nothing() -> None:
    here = linear_gaussian(RandomInpainting(), severity=0.5)
    m = here.measurement
    assert m.observed is not None
    assert len(here.y) == int(m.observed.sum()) < 16
    other = Measurement(y=torch.where(m.observed == 0, 9.0, m.y), ids=m.ids, noise_std=m.noise_std, params=m.params)
    same = replace(here, measurement=replace(other, observed=m.observed))
    torch.testing.assert_close(same.posterior.mean, here.posterior.mean)
