"""Where diffusion begins: hand-computed cases, the grid rule, and the statistics of the latent that it begins from."""

import math

import pytest
import torch
from stubs import measurement_of, schedule

from workbench.config import UserError
from workbench.diffusion import DDIM, Schedule
from workbench.measurement import Measurement
from workbench.severity.estimate import SeverityEstimate, error_variance
from workbench.severity.start import Fixed, Full, Official, OracleVariance, Situation, SNRMatch

SCHEDULE = schedule()
SNR = SCHEDULE.snr
OFFICIAL_INDICES = {0.05: 29, 0.1: 54, 0.2: 95, 0.3: 127, 0.5: 176, 1.0: 254}
RULES = (SNRMatch(), SNRMatch(channel="mmse"), Official(c=1.0))


def situation(
    var_hat: list[float] | torch.Tensor,
    z_hat: torch.Tensor | None = None,
    truth: torch.Tensor | None = None,
    num_steps: int = 1000,
    on: Schedule = SCHEDULE,
) -> Situation:
    """A situation with these variances; z_hat defaults to ones."""
    var = torch.as_tensor(var_hat)
    generator = torch.Generator().manual_seed(7)
    z_hat = torch.ones(len(var), 2, 4, 4) if z_hat is None else z_hat
    noise = torch.randn(z_hat.shape, generator=generator)
    measurement: Measurement = measurement_of(torch.zeros(len(var), 1, 8, 8), torch.arange(len(var)))
    grid = DDIM(num_steps=num_steps).grid(on)
    return Situation(SeverityEstimate(z_hat, var.reshape(-1, 1, 1, 1)), measurement, on, grid, noise, truth)


def test_the_stub_schedule_is_that_of_diffusers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear").alphas_cumprod
    torch.testing.assert_close(SCHEDULE.alpha_bar.float(), theirs, rtol=1e-4, atol=0)


def test_full_is_pure_noise_and_all_steps():
    s = situation([0.1, 0.9])
    start = Full()(s)
    assert torch.equal(start.z, s.noise)
    assert start.position.tolist() == [0, 0]
    assert start.timestep(s.grid).tolist() == [999, 999]
    assert not start.fell_back.any()


@pytest.mark.parametrize(("timestep", "num_steps", "begins"), [(200, 1000, 200), (250, 10, 199), (199, 10, 199)])
def test_fixed_takes_the_first_grid_timestep_at_or_below(timestep, num_steps, begins):
    s = situation([0.1, 0.9], num_steps=num_steps)
    start = Fixed(timestep=timestep)(s)
    assert start.timestep(s.grid).tolist() == [begins, begins]
    a = float(SCHEDULE.alpha_bar[begins])
    torch.testing.assert_close(start.z, math.sqrt(a) * s.estimate.z_hat + math.sqrt(1 - a) * s.noise)
    assert not start.fell_back.any()


def test_fixed_below_the_grid_costs_nothing_and_keeps_the_guess():
    s = situation([0.1], num_steps=10)  # its last timestep is 99
    start = Fixed(timestep=50)(s)
    assert start.timestep(s.grid).tolist() == [-1]
    assert torch.equal(start.z, s.estimate.z_hat)


def test_fixed_beyond_the_schedule_is_refused():
    with pytest.raises(UserError, match="below T = 1000"):
        Fixed(timestep=1000)(situation([0.1]))


def test_official_indices():
    var = torch.tensor(list(OFFICIAL_INDICES))
    assert Official().index(var, SCHEDULE).tolist() == list(OFFICIAL_INDICES.values())


def test_official_first_evaluates_one_below_its_index():
    s = situation(list(OFFICIAL_INDICES))
    start = Official(c=0.9)(s)
    assert start.timestep(s.grid).tolist() == [index - 1 for index in OFFICIAL_INDICES.values()]
    for i, v in enumerate(OFFICIAL_INDICES):
        z = math.sqrt(1 - 0.9 * v) * s.estimate.z_hat[i] + math.sqrt(0.9 * v) * s.noise[i]
        torch.testing.assert_close(start.z[i], z)


def test_official_falls_back_where_its_square_root_is_nan():
    s = situation([0.5, 0.9, 2.0])
    start = Official(c=1.2)(s)
    assert start.fell_back.tolist() == [False, True, True]
    assert start.position[1:].tolist() == [0, 0]
    assert torch.equal(start.z[1:], s.noise[1:])
    assert start.z.isfinite().all()


@pytest.mark.parametrize("offset_db", [0.0, 3.0, -3.0, 6.0])
@pytest.mark.parametrize("channel", ["forward", "mmse"])
@pytest.mark.parametrize("num_steps", [1000, 100, 37])
def test_the_start_is_the_last_grid_timestep_that_is_noisy_enough(channel, num_steps, offset_db):
    v = torch.linspace(0.02, 0.8, 40)
    s = situation(v, num_steps=num_steps)
    start = SNRMatch(channel=channel, offset_db=offset_db)(s)
    v = v.double()
    target = (1 / v if channel == "forward" else (1 - v) / v) / 10 ** (offset_db / 10)
    assert not start.fell_back.any()
    assert (SNR[start.timestep(s.grid)] <= target).all()
    finer = start.position + 1
    inside = finer < num_steps
    assert inside.any()
    assert (SNR[s.grid[finer[inside]]] > target[inside]).all()


def test_a_hand_computed_start():
    # alpha_bar 0.9, 0.8, 0.5, 0.2: SNR 9, 4, 1, 1/4
    four = Schedule(torch.tensor([0.9, 0.8, 0.5, 0.2]))
    s = situation([0.2, 0.25, 0.5, 1.0], num_steps=4, on=four)
    forward = SNRMatch()(s)  # targets 5, 4, 2, 1
    assert forward.timestep(s.grid).tolist() == [1, 1, 2, 2]
    z = math.sqrt(0.8) * s.estimate.z_hat[0] + math.sqrt(1 - 0.8 - 0.8 * 0.2) * s.noise[0]
    torch.testing.assert_close(forward.z[0], z)
    mmse = SNRMatch(channel="mmse")(s)  # targets 4, 3, 1, 0
    assert mmse.timestep(s.grid).tolist() == [1, 2, 2, 3]
    z = math.sqrt(0.5) * s.estimate.z_hat[1] / 0.75 + math.sqrt(1 - 0.5 - 0.5 / 3) * s.noise[1]
    torch.testing.assert_close(mmse.z[1], z)
    assert mmse.fell_back.tolist() == [False, False, False, True]


@pytest.mark.parametrize("channel", ["forward", "mmse"])
def test_the_offset_divides_the_target(channel):
    """10 dB: ten times noisier than matched."""
    matched, shifted = (SNRMatch(channel=channel, offset_db=db)(situation([0.03, 0.1])) for db in (0.0, 10.0))
    grid = situation([0.1]).grid
    ratio = SNR[matched.timestep(grid)] / SNR[shifted.timestep(grid)]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 10), rtol=0.05, atol=0)


@pytest.mark.parametrize("channel", ["forward", "mmse"])
def test_the_missing_noise_is_negative_only_under_a_negative_offset(channel):
    """A clamped start adds no noise: z is z_hat scaled."""
    s = situation(torch.linspace(0.02, 0.7, 30), num_steps=100)

    def adds_noise(offset_db: float) -> torch.Tensor:
        z = SNRMatch(channel=channel, offset_db=offset_db)(s).z
        return z.flatten(1).std(1) > 0  # z_hat is constant

    assert adds_noise(0.0).all()
    assert adds_noise(3.0).all()
    assert not adds_noise(-6.0).any()


def test_an_uninformative_guess_is_not_used_under_mmse():
    s = situation([0.5, 0.999999, 1.0, 1.7])
    start = SNRMatch(channel="mmse")(s)
    assert start.fell_back.tolist() == [False, True, True, True]
    assert torch.equal(start.z[1:], s.noise[1:])
    assert start.position[1:].tolist() == [0, 0, 0]
    assert start.z.isfinite().all()


def test_no_grid_timestep_noisy_enough_falls_back_under_forward():
    beyond = 1.1 / float(SNR[-1])
    s = situation([0.9 / float(SNR[-1]), beyond])
    start = SNRMatch()(s)
    assert start.fell_back.tolist() == [False, True]
    assert torch.equal(start.z[1], s.noise[1])


def test_oracle_without_truth_is_refused():
    with pytest.raises(UserError, match="clean images"):
        OracleVariance()(situation([0.1]))


@pytest.mark.parametrize("channel", ["forward", "mmse"])
def test_oracle_is_snr_match_given_the_true_variance(channel):
    z_hat = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    truth = z_hat + torch.tensor([0.1, 0.3, 0.6]).reshape(-1, 1, 1, 1) * z_hat.roll(1, 0)
    oracle = OracleVariance(channel=channel, offset_db=2)(situation([0.9, 0.9, 0.9], z_hat, truth))
    given = SNRMatch(channel=channel, offset_db=2)(situation(error_variance(z_hat, truth), z_hat))
    assert torch.equal(oracle.z, given.z)
    assert torch.equal(oracle.position, given.position)


def simulated(channel: str, v: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(z0, z_hat) of unit-variance latents whose error, of variance v, is independent of z0, or of z_hat."""
    generator = torch.Generator().manual_seed(3)
    first, error = (torch.randn(1, 4, 256, 256, generator=generator) for _ in range(2))
    if channel == "forward":
        return first, first + math.sqrt(v) * error
    z_hat = math.sqrt(1 - v) * first
    return z_hat + math.sqrt(v) * error, z_hat


def deviations(data: str, rule: str, v: float) -> tuple[float, float, float]:
    """How far a start's variance, slope on z0 and residual variance are from 1, sqrt(a) and 1 - a."""
    z0, z_hat = simulated(data, v)
    s = situation([v], z_hat, num_steps=100)
    start = SNRMatch(channel=rule)(s)
    a = float(SCHEDULE.alpha_bar[start.timestep(s.grid)[0]])
    slope = float((start.z * z0).mean() / z0.square().mean())
    residual = float((start.z - slope * z0).var())
    return abs(float(start.z.var()) - 1), abs(slope - math.sqrt(a)), abs(residual - (1 - a))


@pytest.mark.parametrize("v", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("channel", ["forward", "mmse"])
def test_under_the_matching_channel_the_start_is_what_the_prior_expects(channel, v):
    assert max(deviations(channel, channel, v)) < 0.012


@pytest.mark.parametrize("v", [0.3, 0.6])
@pytest.mark.parametrize(("data", "rule"), [("forward", "mmse"), ("mmse", "forward")])
def test_under_the_wrong_channel_it_is_not(data, rule, v):
    variance, slope, residual = deviations(data, rule, v)
    assert variance > 0.1
    assert max(slope, residual) > 0.05


@pytest.mark.parametrize("bad", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.kind}-{getattr(rule, 'channel', '')}")
def test_a_variance_that_is_none_is_refused(rule, bad):
    with pytest.raises(ValueError, match="positive and finite"):
        rule(situation([0.1, bad]))


@pytest.mark.parametrize("rule", [*RULES, Fixed(), Full()], ids=lambda rule: f"{rule.kind}-{getattr(rule, 'channel', '')}")
def test_an_image_starts_the_same_in_any_batch(rule):
    s = situation([0.03, 0.2, 0.95, 0.5])
    together = rule(s)
    for i in range(4):
        pick = torch.tensor([i])
        alone = rule(
            Situation(s.estimate.take(pick), s.measurement.take(pick), s.schedule, s.grid, s.noise[pick], None)
        )
        assert torch.equal(alone.z[0], together.z[i])
        assert int(alone.position) == int(together.position[i])
