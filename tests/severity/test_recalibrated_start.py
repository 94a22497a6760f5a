"""`snr_match` on a recalibrated variance, on a bound, and whitened by latent channel."""

import math
from itertools import pairwise

import pytest
import torch
from linear_stubs import chain
from start_case import Case
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.severity.calibration.conformal import check_sample
from workbench.severity.calibration.fusion import Fusion
from workbench.severity.calibration.recalibration import Factor, Isotonic, LogMap, Recalibration, Unchanged
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import Channel, SNRMatch, Start
from workbench.severity.variance import Evidence, Need

DOUBLES = LogMap(x=(0.0,), y=(math.log(2),))
SCORES = tuple(torch.linspace(-1, 1, 99).tolist())
BOUND_AT_TENTH = math.exp(SCORES[89])
"""The 90th of 99 scores."""
PROFILE = (0.5, 1.0, 1.5, 1.0)
FIT = Recalibration(log_map=DOUBLES, scores=SCORES, channel_profile=PROFILE)
VARIANCES = [0.02, 0.1, 0.3]
SHAPE = (4, 128, 128)
NUM_ELEMENTS = math.prod(SHAPE[1:])

both_channels = pytest.mark.parametrize("channel", ["forward", "mmse"])


def case(z_hat: Tensor, var_hat: list[float], fit: Recalibration | None = FIT) -> Case:
    num = len(z_hat)
    estimate = SeverityEstimate(z_hat, torch.tensor(var_hat).reshape(-1, 1, 1, 1))
    measurement = Measurement(y=torch.zeros(num, 1, 8, 8), ids=torch.arange(num), noise_std=torch.zeros(num))
    noise = torch.randn(z_hat.shape, generator=randomness.generator("noise"))
    return Case(Evidence(estimate, measurement, recalibration=fit), chain(), noise)


def small(var_hat: list[float] = VARIANCES, fit: Recalibration | None = FIT) -> Case:
    z_hat = torch.randn(len(var_hat), 4, 4, 4, generator=randomness.generator("z_hat"))
    return case(z_hat, var_hat, fit)


def matched(rule: SNRMatch, here: Case) -> list[float]:
    variance = here.start(rule).variance
    assert variance is not None
    return variance.tolist()


def same(one: Start, other: Start) -> None:
    assert one.position.tolist() == other.position.tolist()
    torch.testing.assert_close(one.z, other.z)


# recalibration and risk


def test_the_recalibrated_variance_is_matched() -> None:
    rule = SNRMatch(recalibration=Isotonic())
    assert matched(rule, small()) == pytest.approx([2 * v for v in VARIANCES])
    same(small().start(rule), small([2 * v for v in VARIANCES]).start(SNRMatch()))


def test_a_risk_matches_the_bound_on_the_recalibrated_variance() -> None:
    rule = SNRMatch(recalibration=Factor(), risk=0.1)
    bounds = [2 * BOUND_AT_TENTH * v for v in VARIANCES]
    assert matched(rule, small()) == pytest.approx(bounds)
    same(small().start(rule), small(bounds).start(SNRMatch()))


def test_a_risk_alone_bounds_var_hat_as_it_is() -> None:
    fit = replace_map(LogMap(x=(0.0,), y=(0.0,)))
    assert matched(SNRMatch(risk=0.1), small(fit=fit)) == pytest.approx([BOUND_AT_TENTH * v for v in VARIANCES])


def replace_map(log_map: LogMap) -> Recalibration:
    return FIT.model_copy(update={"log_map": log_map})


def test_less_risk_begins_earlier() -> None:
    positions = [small().start(SNRMatch(risk=risk)).position for risk in (0.02, 0.1, 0.5, 0.9)]
    for earlier, later in pairwise(positions):
        assert (earlier < later).all()


@pytest.mark.parametrize("residual", [0.05, 0.5])
def test_fusion_raises_the_recalibrated_variance_by_its_own_factor(residual: float) -> None:
    """The residual contradicts var_hat as it was predicted; by that factor the recalibrated variance is raised."""
    usual = Fusion(0.0, 0.3, torch.zeros(2), torch.eye(2), 0.0, 1.0)
    z0 = torch.randn(2, 4, 16, 16, generator=randomness.generator("z0"))
    z_hat = z0 + math.sqrt(residual) * torch.randn(z0.shape, generator=randomness.generator("error"))
    here = case(z_hat, [0.05, 0.05]).knowing(
        measurement=Measurement(y=z0, ids=torch.arange(2), noise_std=torch.zeros(2)),
        forward=lambda z, _: z,
        encode=lambda y, _: z_hat,
        fusion=usual,
    )
    plain = here.start(SNRMatch(variance="fused"))
    doubled = here.start(SNRMatch(variance="fused", recalibration=Factor()))
    assert plain.variance is not None
    assert matched(SNRMatch(variance="fused", recalibration=Factor()), here) == pytest.approx(
        (2 * plain.variance).tolist()
    )
    bounds = matched(SNRMatch(variance="fused", recalibration=Factor(), risk=0.1), here)
    assert bounds == pytest.approx((2 * BOUND_AT_TENTH * plain.variance).tolist())
    assert min(bounds) >= 2 * BOUND_AT_TENTH * 0.05 * (1 - 1e-6), "never below the bound itself"
    assert doubled.distrusted is not None
    assert plain.distrusted is not None
    assert doubled.distrusted.tolist() == plain.distrusted.tolist() == [residual == 0.5] * 2


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"recalibration": Isotonic()}, "recalibration=isotonic"),
        ({"risk": 0.1}, "risk=0.1"),
        ({"noise": "channel"}, "noise=channel"),
    ],
)
def test_what_was_never_fitted_is_asked_for(fields: dict[str, object], asked: str) -> None:
    rule = SNRMatch().replace(fields)
    assert Need.RECALIBRATION in rule.needs
    with pytest.raises(
        UserError, match=rf"start\.{asked} needs a fit .*: pass recalibration= from FitRecalibration.* load_restorer"
    ):
        small(fit=None).start(rule)


def test_nothing_is_asked_of_a_rule_that_needs_no_fit() -> None:
    assert SNRMatch().needs == Need.VAR_HAT
    same(small(fit=None).start(SNRMatch()), small().start(SNRMatch()))
    assert "recalibration" not in SNRMatch().canonical()
    assert {"risk", "noise"}.isdisjoint(SNRMatch().canonical())
    assert SNRMatch(recalibration=Unchanged()).identity == SNRMatch().identity
    assert len({rule.identity for rule in (SNRMatch(), SNRMatch(risk=0.1), SNRMatch(noise="channel"))}) == 3


@pytest.mark.parametrize("risk", [0, 1, -0.1, 5, math.nan])
def test_a_risk_is_a_probability(risk: float) -> None:
    message = "input should be a finite" if math.isnan(risk) else "input should be above 0 and below 1"
    with pytest.raises(UserError, match=f"^risk: {message}"):
        SNRMatch().replace({"risk": risk})


def test_a_risk_that_so_few_images_cannot_promise_is_refused() -> None:
    with pytest.raises(UserError, match=r"risk=\S+ needs more than 1000000000 validation images"):
        check_sample(10, 1e-320)
    with pytest.raises(UserError, match=r"risk=0\.001 needs 999 validation images"):
        small().start(SNRMatch(risk=0.001))


@pytest.mark.parametrize("variance", ["residual", "max"])
@pytest.mark.parametrize("fields", [{"risk": 0.1}, {"recalibration.kind": "factor"}])
def test_the_residuals_variance_is_not_recalibrated(variance: str, fields: dict[str, object]) -> None:
    with pytest.raises(UserError, match="set variance=encoder, fused or mahalanobis"):
        SNRMatch().replace({"variance": variance, **fields})
    SNRMatch().replace({"variance": variance, "noise": "channel"})


# noise by channel


def simulated(channel: Channel) -> tuple[Tensor, Case]:
    """z0 of unit variance and z_hat whose error has PROFILE times the variance, independent of z0 or of z_hat."""
    one, two = torch.randn(2, len(VARIANCES), *SHAPE, generator=randomness.generator("simulated"))
    v = torch.tensor(VARIANCES).reshape(-1, 1, 1, 1) * torch.tensor(PROFILE).reshape(1, -1, 1, 1)
    if channel == "forward":
        return one, case(one + v.sqrt() * two, VARIANCES)
    z_hat = (1 - v).sqrt() * one
    return z_hat + v.sqrt() * two, case(z_hat, VARIANCES)


def noise_by_channel(rule: SNRMatch, z0: Tensor, here: Case) -> tuple[Tensor, Tensor]:
    """Variance of z - sqrt(a) z0 of each image and channel, and 1 - a, which it should be."""
    start = here.start(rule)
    a = here.chain.alpha_bar[start.position].float()
    left = start.z - a.sqrt().reshape(-1, 1, 1, 1) * z0
    return left.flatten(2).var(2), (1 - a)[:, None].expand(-1, SHAPE[0])


@both_channels
def test_every_channel_holds_the_noise_of_its_timestep(channel: Channel) -> None:
    z0, here = simulated(channel)
    found, wanted = noise_by_channel(SNRMatch(channel=channel, noise="channel"), z0, here)
    torch.testing.assert_close(found, wanted, rtol=5 * math.sqrt(2 / NUM_ELEMENTS), atol=0)
    white, same_level = noise_by_channel(SNRMatch(channel=channel), z0, here)
    assert (white / same_level - 1).abs().max() > 0.3, "one variance for all is wrong for most"


@both_channels
def test_the_noisiest_channel_says_where_to_begin(channel: Channel) -> None:
    here = small()
    start = here.start(SNRMatch(channel=channel, noise="channel", offset_db=1.0))
    noisiest = small([max(PROFILE) * v for v in VARIANCES]).start(SNRMatch(channel=channel, offset_db=1.0))
    assert start.position.tolist() == noisiest.position.tolist()
    torch.testing.assert_close(start.z[:, 2], noisiest.z[:, 2])
    assert start.variance is not None
    assert start.variance.tolist() == pytest.approx(VARIANCES), "the mean is what is matched and reported"


@both_channels
def test_equal_channels_are_white(channel: Channel) -> None:
    even = FIT.model_copy(update={"channel_profile": (1.0,) * 4})
    here = small([*VARIANCES, 2.0], fit=even)
    whitened, white = here.start(SNRMatch(channel=channel, noise="channel")), here.start(SNRMatch(channel=channel))
    same(whitened, white)
    assert whitened.fell_back.tolist() == white.fell_back.tolist()


def test_under_mmse_one_uninformative_channel_begins_from_pure_noise() -> None:
    here = small([0.6, 0.7])  # the third channel's error has 0.9 and 1.05 times the variance of a latent
    start = here.start(SNRMatch(channel="mmse", noise="channel"))
    assert start.fell_back.tolist() == [False, True]
    assert start.z.isfinite().all()
    torch.testing.assert_close(start.z[1], here.noise[1], rtol=0, atol=0)


def test_a_risk_and_channels_go_together() -> None:
    rule = SNRMatch(recalibration=Factor(), risk=0.1, noise="channel")
    same(small().start(rule), small([2 * BOUND_AT_TENTH * v for v in VARIANCES]).start(SNRMatch(noise="channel")))


def test_a_profile_of_another_autoencoder_is_refused() -> None:
    with pytest.raises(UserError, match="fitted to 2 channels of another autoencoder"):
        small(fit=FIT.model_copy(update={"channel_profile": (0.9, 1.1)})).start(SNRMatch(noise="channel"))
