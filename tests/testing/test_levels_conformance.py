"""Every kind of noise levels with every prediction, and latents of any standard deviation, on closed-form Gaussians."""

import math
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from linear_stubs import levels as default_levels
from pydantic import TypeAdapter
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError, kind_of, members
from workbench.diffusion import DDIM, Chain, DDPMLevels, NoiseLevels
from workbench.diffusion.noise_levels import DynamicShift, EDMLevels, FlowLevels, snr
from workbench.diffusion.prediction import Prediction
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import AnyStart, Fixed, OracleGaussian, OracleVariance, SNRMatch, Start, StartRule
from workbench.severity.variance import Evidence
from workbench.solvers import AnySolver, NoGuidance, Solver
from workbench.testing import LinearGaussian, affine, closed_chain, final_latents, linear_gaussian
from workbench.testing.gaussian import Gaussian


def betas(kind: str, std: float = 1.0, zero_snr: bool = False) -> DDPMLevels:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_schedule=kind, rescale_betas_zero_snr=zero_snr)
    return DDPMLevels(scheduler.alphas_cumprod, std)


KINDS: dict[str, Any] = {
    "scaled_linear": lambda c: DDPMLevels(default_levels().table, c),
    "linear": lambda c: betas("linear", c),
    "cosine": lambda c: betas("squaredcos_cap_v2", c),
    "zero SNR": lambda c: betas("scaled_linear", c, zero_snr=True),
    "flow": lambda c: FlowLevels(std=c),
    "flow, shifted": lambda c: FlowLevels(DynamicShift(), std=c),
    "edm": lambda c: EDMLevels(std=c),
}
PURE_NOISE = ("zero SNR", "flow", "flow, shifted")
"""Whose noisiest level has no signal at all."""
REFUSED = [
    *((kind, "epsilon", "has no information at pure noise") for kind in PURE_NOISE),
    *(
        (kind, p, "needs variance-preserving inputs")
        for kind in ("flow", "flow, shifted")
        for p in ("v_prediction", "edm")
    ),
]
PAIRS = [(k, p) for k in KINDS for p in get_args(Prediction) if (k, p) not in {(k, p) for k, p, _ in REFUSED}]
STDS = [0.5, 1.0, 2.0]

every_kind = pytest.mark.parametrize("kind", KINDS)
every_pair = pytest.mark.parametrize(("kind", "prediction"), PAIRS)
every_std = pytest.mark.parametrize("std", STDS)


def problem(levels: NoiseLevels, prediction: Prediction = "flow_prediction") -> LinearGaussian:
    return linear_gaussian(levels=levels, prediction=prediction)


@every_pair
@every_std
def test_predict_gives_the_exact_posterior_means(kind: str, prediction: Prediction, std: float) -> None:
    """E[z0 | z] = m + sqrt(a) C (a C + (1 - a) I)^-1 (z - sqrt(a) m), whatever the network's own coordinates are."""
    here = problem(KINDS[kind](std), prediction)
    chain = here.chain(DDIM(num_steps=7))
    eye = torch.eye(here.size).double()
    for time, a in zip(chain.time, chain.alpha_bar.tolist(), strict=False):
        z = here.unflatten(here.latents.diffused(a).draw(4, randomness.generator(0)))
        z0_hat, eps = here.networks.predict(z, time.expand(4))
        gain = math.sqrt(a) * torch.linalg.solve(a * here.latents.covariance + (1 - a) * eye, here.latents.covariance)
        flat, mean = z.flatten(1).double(), here.latents.mean
        expected = mean + (flat - math.sqrt(a) * mean) @ gain
        # float32 networks: an error of the answer grows where its equation divides by a small signal or noise
        growth = {"epsilon": 1 / math.sqrt(max(a, 1e-12)), "sample": 1.0}.get(prediction, 1.0)
        torch.testing.assert_close(z0_hat.flatten(1).double(), expected, rtol=1e-3, atol=2e-5 * (1 + growth) / std)
        noise = (flat - math.sqrt(a) * expected) / math.sqrt(1 - a)
        growth = 1 / math.sqrt(1 - a)
        torch.testing.assert_close(eps.flatten(1).double(), noise, rtol=1e-3, atol=2e-5 * (1 + growth))


@every_kind
@every_std
def test_the_discrete_chain_ends_as_its_recursion_says(kind: str, std: float) -> None:
    here, sampler = problem(KINDS[kind](std)), DDIM(num_steps=12)
    slope, offset = affine(lambda z: final_latents(here, NoGuidance(), sampler, z), here.latent_shape)
    end = Gaussian.standard(here.size).moved(slope, offset)
    gap = end.gap(closed_chain(here.latents, here.chain(sampler), sampler.eta))
    assert max(gap.mean, gap.covariance) < 1e-3


@every_kind
def test_unit_coordinates_are_those_of_the_formulas(kind: str) -> None:
    """a_u = c^2 a / (c^2 a + 1 - a), and the network sees z sqrt(c^2 a + 1 - a) in its own units of variance."""
    one = KINDS[kind](1.0)
    time = one.chain(9, (4, 2, 2)).time
    a, scale = one.alpha_bar_at(time), one.scale_at(time)
    for c in STDS:
        other = KINDS[kind](c)
        variance = c**2 * a + 1 - a
        torch.testing.assert_close(other.alpha_bar_at(time), c**2 * a / variance)
        torch.testing.assert_close(other.scale_at(time), scale * variance.sqrt())
    if isinstance(one, DDPMLevels):
        assert torch.equal(one.alpha_bar, one.table), "bit for bit"
        assert (one.scale_at(torch.arange(1000)) == 1).all()


@pytest.mark.parametrize(("kind", "prediction", "message"), REFUSED)
def test_predictions_that_levels_do_not_go_with_are_refused(kind: str, prediction: Prediction, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(KINDS[kind](1.0), prediction)


# solvers and starts know nothing but the chain


@pytest.mark.parametrize("kind", ["flow", "edm", "zero SNR"])
@pytest.mark.parametrize("member", [m for m in members(AnySolver) if issubclass(m, Solver) and m.diffuses], ids=kind_of)
def test_every_solver_runs(kind: str, member: Any) -> None:
    here = problem(KINDS[kind](2.0))
    z = randomness.normal(torch.arange(8), ("start",), here.latent_shape)
    ends = final_latents(here, member(), DDIM(num_steps=10, eta=0.5), z)
    assert ends.isfinite().all()
    if member is not NoGuidance:
        assert not torch.equal(ends, final_latents(here, NoGuidance(), DDIM(num_steps=10, eta=0.5), z))


@dataclass(frozen=True)
class Case:
    evidence: Evidence
    chain: Chain
    noise: Tensor

    def start(self, rule: StartRule) -> Start:
        return rule(self.evidence, self.chain, self.noise)


def case(here: LinearGaussian, num: int = 6) -> Case:
    z0 = here.unflatten(here.latents.draw(num, randomness.generator("z0")))
    v = torch.linspace(0.02, 0.6, num).reshape(-1, 1, 1, 1)
    noise = randomness.normal(torch.arange(num), ("start",), here.latent_shape)
    z_hat = z0 + v.sqrt() * randomness.normal(torch.arange(num), ("error",), here.latent_shape)
    chain = here.chain(DDIM(num_steps=200))
    return Case(Evidence(SeverityEstimate(z_hat, v), here.repeated(num), truth=z0), chain, noise)


@pytest.mark.parametrize("kind", ["flow", "edm"])
@every_std
def test_every_start_rule_runs_or_says_what_it_needs(kind: str, std: float) -> None:
    here = case(problem(KINDS[kind](std)))
    rules = {kind_of(member) for member in members(AnyStart)}
    for rule in ("snr_match", "oracle_variance", "oracle_gaussian", "missing_noise", "full"):
        start = here.start(TypeAdapter(AnyStart).validate_python({"kind": rule}))
        assert start.z.isfinite().all()
        assert (start.position < len(here.chain)).all()
        rules.remove(rule)
    begun = here.start(Fixed(log_snr=-1.0))
    log_snr = here.chain.snr.log()
    position = int(begun.position[0])
    assert log_snr[position] >= -1 > log_snr[position - 1]
    for rule in ("fixed", "official"):
        with pytest.raises(UserError, match="needs a DDPM prior's timesteps"):
            here.start(TypeAdapter(AnyStart).validate_python({"kind": rule}))
        rules.remove(rule)
    assert rules == {"equal_cost", "allocated"}, "each of which chooses one of these, by the results of others"


@pytest.mark.parametrize("kind", ["scaled_linear", "flow", "edm"])
def test_a_matched_start_has_the_snr_of_its_level_whatever_the_levels(kind: str) -> None:
    here = case(problem(KINDS[kind](0.5)))
    for rule in (SNRMatch(), OracleVariance(), OracleGaussian()):
        start = here.start(rule)
        assert start.variance is not None
        assert (here.chain.snr[start.position] <= 1 / start.variance).all()
        assert (snr(here.chain.alpha_bar)[start.position + 1] > 1 / start.variance).all()


def test_a_log_snr_beyond_the_chain_is_refused() -> None:
    with pytest.raises(UserError, match=r"start.log_snr = 99 is above the cleanest level"):
        case(problem(FlowLevels())).start(Fixed(log_snr=99))


def test_a_log_snr_says_the_same_as_a_timestep() -> None:
    here = case(problem(KINDS["scaled_linear"](1.0)))
    position = int(here.start(Fixed(timestep=300)).position[0])
    log_snr = float(here.chain.snr[position].log())
    assert here.start(Fixed(log_snr=log_snr - 1e-9)).position.tolist() == [position] * 6
    assert "log_snr" not in Fixed().canonical()
