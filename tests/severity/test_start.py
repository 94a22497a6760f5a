"""Start rules on hand-computed cases, and on simulated latents of both channels."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from linear_stubs import chain, levels
from pydantic import TypeAdapter
from start_case import Case
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.diffusion import DDPMLevels
from workbench.severity.calibration.fusion import Fusion
from workbench.severity.calibration.non_blind import LogLinear, NonBlindFit, OfOperator
from workbench.severity.estimate import SeverityEstimate, error_variance
from workbench.severity.start import (
    AnyStart,
    Channel,
    Fixed,
    Full,
    Official,
    OracleGaussian,
    OracleVariance,
    SNRMatch,
    Start,
    StartRule,
)
from workbench.severity.variance import Evidence

SHAPE = (4, 4, 4)
GRIDS = [1, 10, 500, 1000]
VARIANCES = [0.001, 0.03, 0.1, 0.37, 0.8]

both_channels = pytest.mark.parametrize("channel", ["forward", "mmse"])


def case(var_hat: list[float], num_steps: int = 1000, z_hat: Tensor | None = None, truth: Tensor | None = None) -> Case:
    """A case with one image for each var_hat."""
    num = len(var_hat)
    z_hat = torch.randn(num, *SHAPE, generator=randomness.generator("z_hat")) if z_hat is None else z_hat
    estimate = SeverityEstimate(z_hat, torch.tensor(var_hat).reshape(-1, 1, 1, 1))
    measurement = Measurement(y=torch.zeros(num, 1, 8, 8), ids=torch.arange(num), noise_std=torch.zeros(num))
    noise = torch.randn(z_hat.shape, generator=randomness.generator("noise"))
    return Case(Evidence(estimate, measurement, truth=truth), chain(num_steps), noise)


def begins_at(start: Start, here: Case) -> list[int]:
    return [int(t) for t in here.chain.recorded_time(start.position)]


def timesteps(rule: StartRule, var_hat: list[float], num_steps: int = 1000) -> list[int]:
    here = case(var_hat, num_steps)
    return begins_at(here.start(rule), here)


def assert_pure_noise(start: Start, here: Case, image: int) -> None:
    assert start.fell_back[image]
    assert start.position[image] == 0
    torch.testing.assert_close(start.z[image], here.noise[image], rtol=0, atol=0)


@pytest.mark.parametrize("member", [SNRMatch(), Official(), Fixed(), Full()], ids=lambda rule: rule.kind)
def test_the_shapes_of_a_start(member: StartRule) -> None:
    here = case([0.01, 0.1, 0.5], 50)
    start = here.start(member)
    assert start.z.shape == here.noise.shape
    assert start.z.dtype == torch.float32
    assert start.position.dtype == torch.int64
    assert start.fell_back.dtype == torch.bool
    assert start.position.shape == start.fell_back.shape == (3,)
    assert ((start.position >= 0) & (start.position <= len(here.chain))).all()
    assert TypeAdapter(AnyStart).validate_python({"kind": member.kind}) == member


@pytest.mark.parametrize("member", [SNRMatch(), SNRMatch(channel="mmse"), Official(), Fixed(), Full()])
def test_an_images_start_does_not_depend_on_its_neighbours(member: StartRule) -> None:
    whole = case([0.01, 0.3, 2.0], 50)
    start = whole.start(member)
    for i in range(3):
        known = Evidence(whole.estimate.take(torch.tensor([i])), whole.evidence.measurement.take([i]))
        one = Case(known, whole.chain, whole.noise[i : i + 1])
        alone = one.start(member)
        torch.testing.assert_close(alone.z[0], start.z[i])
        assert alone.position[0] == start.position[i]
        assert alone.fell_back[0] == start.fell_back[i]


@pytest.mark.parametrize("var", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("member", [SNRMatch(), Official()], ids=lambda rule: rule.kind)
def test_variances_that_are_none_are_refused(member: StartRule, var: float) -> None:
    with pytest.raises(UserError, match=r"var_hat must be positive and finite .*: train the severity encoder"):
        case([0.1, var]).start(member)
    with pytest.raises(UserError, match="that of 1 of 2 images is not"):
        case([var, 0.1]).start(member)


# full and fixed


def test_full_begins_from_pure_noise_at_the_first_timestep() -> None:
    here = case([0.01, 0.9], 10)
    start = here.start(Full())
    torch.testing.assert_close(start.z, here.noise, rtol=0, atol=0)
    assert begins_at(start, here) == [999, 999]
    assert not start.fell_back.any(), "it was asked for, not fallen back to"


@pytest.mark.parametrize(
    ("timestep", "num_steps", "begins"),
    [(200, 1000, 200), (0, 1000, 0), (999, 10, 999), (998, 10, 899), (200, 10, 199), (99, 10, 99)],
)
def test_fixed_begins_at_the_first_grid_timestep_at_or_below_its_own(
    timestep: int, num_steps: int, begins: int
) -> None:
    here = case([0.01, 0.9], num_steps)
    start = here.start(Fixed(timestep=timestep))
    assert begins_at(start, here) == [begins, begins]
    a = float(levels().alpha_bar_at(torch.tensor([begins])))
    expected = math.sqrt(a) * here.estimate.z_hat + math.sqrt(1 - a) * here.noise
    torch.testing.assert_close(start.z, expected)
    assert not start.fell_back.any()


def test_fixed_refuses_a_timestep_that_the_schedule_has_not() -> None:
    with pytest.raises(UserError, match="below T = 1000, got 1000"):
        case([0.1]).start(Fixed(timestep=1000))


@pytest.mark.parametrize(("timestep", "num_steps", "last"), [(98, 10, 99), (0, 500, 1), (200, 1, 999)])
def test_fixed_refuses_a_timestep_below_which_the_grid_has_no_step(timestep: int, num_steps: int, last: int) -> None:
    message = f"start.timestep = {timestep} is below {last}, the last timestep of the grid of {num_steps} steps"
    with pytest.raises(UserError, match=message):
        case([0.1], num_steps).start(Fixed(timestep=timestep))


# official


def test_official_indices_on_the_default_schedule() -> None:
    var = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.5, 1.0])
    assert Official().index(var, levels().alpha_bar).tolist() == [29, 54, 95, 127, 176, 254]


def test_official_evaluates_first_at_the_timestep_before_its_index() -> None:
    assert timesteps(Official(c=1.0), [0.05, 0.1, 0.2, 0.3, 0.5]) == [28, 53, 94, 126, 175]
    assert timesteps(Official(c=1.0), [0.05, 0.1, 0.2, 0.3, 0.5], num_steps=10) == [99] * 5, "the last of its grid"


@pytest.mark.parametrize("c", [1.0, 1.2])
def test_official_mixes_by_the_variance_and_not_by_the_schedule(c: float) -> None:
    here = case([0.05, 0.5])
    start = here.start(Official(c=c))
    for i, v in enumerate([0.05, 0.5]):
        expected = math.sqrt(1 - c * v) * here.estimate.z_hat[i] + math.sqrt(c * v) * here.noise[i]
        torch.testing.assert_close(start.z[i], expected)
    assert not start.fell_back.any()


def test_official_without_a_real_square_root_falls_back_to_pure_noise() -> None:
    here = case([0.5, 0.8, 0.9, 7.0])
    start = here.start(Official(c=1.2))
    assert start.fell_back.tolist() == [False, False, True, True]
    assert start.z.isfinite().all()
    for image in (2, 3):
        assert_pure_noise(start, here, image)


@pytest.mark.parametrize("num_steps", [1000, 50, 10])
def test_official_takes_the_last_step_where_the_grid_ends_above_its_timestep(num_steps: int) -> None:
    """What the rule adds noise to is never decoded as it is."""
    here = case([1e-5, 4e-3], num_steps)
    start = here.start(Official())
    assert start.position.max() == num_steps - 1
    assert not start.fell_back.any()


# snr_match


def target_snr(v: float, channel: Channel) -> float:
    return 1 / v if channel == "forward" else (1 - v) / v


@both_channels
@pytest.mark.parametrize("num_steps", GRIDS)
@pytest.mark.parametrize("offset_db", [0.0, 3.0, -2.0])
def test_snr_match_begins_at_the_first_grid_timestep_that_is_noisy_enough(
    channel: Channel, num_steps: int, offset_db: float
) -> None:
    here = case(VARIANCES, num_steps)
    start = here.start(SNRMatch(channel=channel, offset_db=offset_db))
    snr = here.chain.snr.tolist()
    assert not start.fell_back.any()
    for v, position in zip(VARIANCES, start.position.tolist(), strict=True):
        target = target_snr(v, channel) / 10 ** (offset_db / 10)
        assert snr[position] <= target
        if position + 1 < num_steps:
            assert snr[position + 1] > target


def test_snr_match_on_a_schedule_that_one_can_follow_by_hand() -> None:
    """SNR along the grid is 1/9, 1, 9, 99: a start at exactly the target's SNR counts as noisy enough."""
    four = DDPMLevels(torch.tensor([0.99, 0.9, 0.5, 0.1], dtype=torch.float64)).chain(4, SHAPE)
    for v, channel, offset_db, timestep in [
        (1 / 16, "forward", 0, 1),  # target 16: SNR 9 is the first at or below
        (1.0, "forward", 0, 2),
        (0.5, "mmse", 0, 2),  # (1 - v) / v = 1
        (2.0, "forward", 0, 3),
        (1 / 16, "forward", 20, 3),  # 16 / 100
        (1 / 16, "forward", -10, 0),  # 160
        (0.25, "mmse", 0, 2),  # 3
        (0.25, "mmse", -6, 1),  # 3 x 3.98 = 11.9
    ]:
        here = case([v])
        here = replace(here, chain=four)
        start = here.start(SNRMatch(channel=channel, offset_db=offset_db))
        assert begins_at(start, here) == [timestep], (v, channel, offset_db)


@both_channels
def test_snr_match_mixes_as_its_channel_says(channel: Channel) -> None:
    here = case(VARIANCES, 500)
    start = here.start(SNRMatch(channel=channel, offset_db=1.0))
    levels = here.chain.alpha_bar[start.position].tolist()
    for i, (v, a) in enumerate(zip(VARIANCES, levels, strict=True)):
        if channel == "forward":
            gain, missing = 1.0, 1 - a - a * v
        else:
            gain, missing = 1 / (1 - v), 1 - a - a * v / (1 - v)
        assert missing > 0
        expected = math.sqrt(a) * gain * here.estimate.z_hat[i] + math.sqrt(missing) * here.noise[i]
        torch.testing.assert_close(start.z[i], expected, rtol=1e-5, atol=1e-5)


@both_channels
@pytest.mark.parametrize("offset_db", [0.0, 6.0, -6.0])
def test_only_a_negative_offset_leaves_no_room_for_noise(channel: Channel, offset_db: float) -> None:
    """Under a negative offset z_hat is noisier than the start by itself: nothing is added, and nothing is NaN."""
    here = case([0.1, 0.4])
    start = here.start(SNRMatch(channel=channel, offset_db=offset_db))
    a = here.chain.alpha_bar[start.position].reshape(-1, 1, 1, 1).float()
    gain = 1 if channel == "forward" else 1 / (1 - here.estimate.var_hat)
    added = start.z - a.sqrt() * gain * here.estimate.z_hat
    assert start.z.isfinite().all()
    if offset_db < 0:
        torch.testing.assert_close(added, torch.zeros_like(added), rtol=0, atol=1e-5)
    else:
        assert (added.flatten(1).norm(dim=1) > 1e-2).all()


def test_more_severe_images_and_larger_offsets_begin_earlier() -> None:
    begins = timesteps(SNRMatch(), VARIANCES)
    assert begins == sorted(begins)
    assert len(set(begins)) == len(begins)
    for weaker, stronger in [(-3, 0), (0, 3), (3, 9)]:
        low = timesteps(SNRMatch(offset_db=weaker), [0.1, 0.4])
        high = timesteps(SNRMatch(offset_db=stronger), [0.1, 0.4])
        assert all(one < other for one, other in zip(low, high, strict=True))


def test_under_mmse_an_uninformative_measurement_begins_from_pure_noise() -> None:
    here = case([0.5, 0.99999, 1.0, 1.7])
    start = here.start(SNRMatch(channel="mmse"))
    assert start.fell_back.tolist() == [False, True, True, True]
    assert start.z.isfinite().all()
    for image in (1, 2, 3):
        assert_pure_noise(start, here, image)


def test_under_forward_only_what_no_timestep_matches_begins_from_pure_noise() -> None:
    noisiest = float(chain().snr[0])
    here = case([1.0, 0.99 / noisiest, 1.01 / noisiest])
    start = here.start(SNRMatch(channel="forward"))
    assert start.fell_back.tolist() == [False, False, True]
    assert start.position.tolist()[1] == 0
    assert_pure_noise(start, here, 2)


def test_a_nearly_exact_guess_still_takes_the_last_step() -> None:
    assert timesteps(SNRMatch(), [1e-9]) == [0]
    assert timesteps(SNRMatch(channel="mmse"), [1e-9], num_steps=10) == [99]


# oracle


@both_channels
@pytest.mark.parametrize("offset_db", [0.0, 3.0])
def test_the_oracle_is_snr_match_with_the_true_variance(channel: Channel, offset_db: float) -> None:
    z0 = torch.randn(3, *SHAPE, generator=randomness.generator("z0"))
    error = (
        torch.randn(3, *SHAPE, generator=randomness.generator("e")) * torch.tensor([0.1, 0.3, 0.6])[:, None, None, None]
    )
    s2 = error_variance(z0 + error, z0)
    here = case([0.9, 0.9, 0.9], 500, z0 + error, truth=z0)
    told = case(s2.tolist(), 500, z0 + error)
    oracle = here.start(OracleVariance(channel=channel, offset_db=offset_db))
    match = told.start(SNRMatch(channel=channel, offset_db=offset_db))
    torch.testing.assert_close(oracle.z, match.z)
    assert oracle.position.tolist() == match.position.tolist()
    assert oracle.position.tolist() != here.start(SNRMatch(channel=channel, offset_db=offset_db)).position.tolist()


def test_the_gaussian_oracle_starts_there_too_from_another_error() -> None:
    draws = randomness.generator("gaussian oracle")
    z0 = torch.randn(400, *SHAPE, generator=draws)
    variance = torch.linspace(0.02, 0.3, 400)
    # an error with one number per image and channel, correlated with what it should be independent of
    error = variance.sqrt()[:, None, None, None] * (0.8 * z0 + torch.randn(400, 4, 1, 1, generator=draws))
    here = case([0.9] * 400, 500, z0 + error, truth=z0)
    real, ideal = here.start(OracleVariance()), here.start(OracleGaussian())
    torch.testing.assert_close(ideal.variance, real.variance)
    assert ideal.position.tolist() == real.position.tolist()
    a = here.chain.alpha_bar[ideal.position].reshape(-1, 1, 1, 1)
    noise = (ideal.z - a.sqrt() * z0) / (1 - a).sqrt()
    assert noise.std().item() == pytest.approx(1, abs=0.02), "what the prior was trained on, at every start"
    assert (noise * z0).mean().item() == pytest.approx(0, abs=0.02)
    assert (noise[..., 1:] * noise[..., :-1]).mean().item() == pytest.approx(0, abs=0.03)
    again = here.start(OracleGaussian())
    torch.testing.assert_close(again.z, ideal.z, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["oracle_variance", "oracle_gaussian"])
def test_the_oracle_without_the_truth_is_refused(kind: str) -> None:
    with pytest.raises(UserError, match="the true error variance needs the clean images") as raised:
        case([0.1]).start(TypeAdapter(AnyStart).validate_python({"kind": kind}))
    assert "\n" not in str(raised.value)


def test_no_other_rule_looks_at_the_truth() -> None:
    z0 = torch.randn(2, *SHAPE, generator=randomness.generator("z0"))
    for rule in (SNRMatch(), SNRMatch(channel="mmse"), Official(), Fixed(), Full()):
        torch.testing.assert_close(
            case([0.1, 0.4], truth=z0).start(rule).z, case([0.1, 0.4]).start(rule).z, rtol=0, atol=0
        )


# simulated latents

SIMULATED = [0.05, 0.3, 0.7]
LARGE = (4, 128, 128)
NUM_ELEMENTS = math.prod(LARGE)


def simulated(channel: Channel) -> tuple[Tensor, Case]:
    """z0 of unit variance and z_hat whose error is independent of z0 (forward) or of z_hat (mmse)."""
    num = len(SIMULATED)
    one, two = torch.randn(2, num, *LARGE, generator=randomness.generator("simulated"))
    v = torch.tensor(SIMULATED).reshape(-1, 1, 1, 1)
    if channel == "forward":
        z0, z_hat = one, one + v.sqrt() * two
    else:
        z_hat = (1 - v).sqrt() * one
        z0 = z_hat + v.sqrt() * two
    torch.testing.assert_close(error_variance(z_hat, z0), v.flatten(), rtol=0.03, atol=0)
    torch.testing.assert_close(z0.flatten(1).var(1), torch.ones(num), rtol=0.03, atol=0)
    return z0, case(SIMULATED, 1000, z_hat)


def regress(z: Tensor, z0: Tensor) -> tuple[float, float, float]:
    """Variance of z, slope of z on z0, and variance of what is left."""
    slope = float((z * z0).mean() / z0.square().mean())
    return float(z.var()), slope, float((z - slope * z0).var())


@both_channels
def test_at_the_start_latents_have_unit_variance_and_the_snr_of_their_timestep(channel: Channel) -> None:
    z0, here = simulated(channel)
    start = here.start(SNRMatch(channel=channel))
    tolerance = 5 * math.sqrt(2 / NUM_ELEMENTS)
    for i, a in enumerate(here.chain.alpha_bar[start.position].tolist()):
        variance, slope, left = regress(start.z[i], z0[i])
        assert variance == pytest.approx(1, abs=tolerance)
        assert slope == pytest.approx(math.sqrt(a), abs=tolerance)
        assert left == pytest.approx(1 - a, abs=tolerance * (1 - a))


@both_channels
def test_under_the_wrong_channel_they_have_not(channel: Channel) -> None:
    z0, here = simulated("mmse" if channel == "forward" else "forward")
    start = here.start(SNRMatch(channel=channel))
    tolerance = 5 * math.sqrt(2 / NUM_ELEMENTS)
    for i, a in list(enumerate(here.chain.alpha_bar[start.position].tolist()))[1:]:
        variance, slope, _ = regress(start.z[i], z0[i])
        assert abs(variance - 1) > 3 * tolerance
        # too weak a signal if the guess was shrunk and the rule does not know, too strong if it was not and the rule
        # believes it was
        factor = 1 - SIMULATED[i] if channel == "forward" else 1 / (1 - SIMULATED[i])
        assert slope == pytest.approx(factor * math.sqrt(a), rel=0.05)


# whose variance is matched


def as_the_residual() -> NonBlindFit:
    """A regression that follows the residual alone."""
    alone, level = LogLinear(intercept=0, weights=(0, 1)), LogLinear(intercept=0, weights=(0, 1, 0, 0))
    return NonBlindFit(operators=(OfOperator(operator={}, informed=level, uninformed=alone, usual=1),))


def doubting(variance: str, **fields: object) -> Case:
    """An image that the encoder is right about and one that it is ten times over-confident about; F is the identity.

    The residual of a latent of 64 elements, all observed without noise, is its error.
    """
    z0 = torch.randn(2, *SHAPE, generator=randomness.generator("z0"))
    error = torch.tensor([0.05, 0.5]).sqrt().reshape(-1, 1, 1, 1) * torch.randn(
        2, *SHAPE, generator=randomness.generator("error")
    )
    here = case([0.05, 0.05], z_hat=z0 + error, truth=z0)
    usual = Fusion(0.0, 0.3, torch.zeros(2), torch.eye(2), 0.0, 1.0)
    measurement = Measurement(y=z0, ids=here.evidence.measurement.ids, noise_std=torch.zeros(2))
    features = torch.tensor([[0.5, 0.0], [4.0, 0.0]])
    estimate = replace(here.estimate, features=features)
    given: dict[str, Any] = {"forward": lambda z, _: z, "encode": lambda y, _: z0 + error, "fusion": usual}
    given["non_blind"] = as_the_residual()
    return here.knowing(estimate=estimate, measurement=measurement, **{**given, **fields})


@pytest.mark.parametrize(
    ("variance", "expected"),
    [
        ("encoder", [0.05, 0.05]),
        ("residual", [0.05, 0.5]),
        ("max", [0.05, 0.5]),
        ("fused", [0.05, 0.5]),
        ("mahalanobis", [0.05, 0.2]),
        ("non_blind", [0.05, 0.5]),
    ],
)
def test_whose_variance_is_matched(variance: str, expected: list[float]) -> None:
    start = doubting(variance).start(SNRMatch(variance=variance))  # type: ignore[arg-type]
    assert start.variance is not None
    assert start.variance.tolist() == pytest.approx(expected, rel=0.5)
    flags = None if start.distrusted is None else start.distrusted.tolist()
    assert flags == ([False, True] if variance in ("fused", "non_blind") else None)
    assert (start.position[1] < start.position[0]) == (variance != "encoder")


@pytest.mark.parametrize(
    ("variance", "lacks", "message"),
    [
        ("residual", "forward", "needs the operator"),
        ("max", "encode", "needs the operator"),
        ("fused", "fusion", "needs in-distribution statistics.*: pass fusion= from FitFusion"),
        ("mahalanobis", "fusion", "needs in-distribution statistics"),
        ("non_blind", "encode", "needs the operator"),
        ("non_blind", "non_blind", "needs a fit on validation images of the operator.*: pass non_blind="),
    ],
)
def test_what_a_rule_needs_is_said(variance: str, lacks: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        doubting(variance, **{lacks: None}).start(SNRMatch(variance=variance))  # type: ignore[arg-type]
