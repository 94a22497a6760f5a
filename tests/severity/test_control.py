"""Controls of a matched start: what each takes away, and that each spends what the start spends."""

from dataclasses import replace

import pytest
import torch
from linear_stubs import chain
from start_case import Case

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import Budget, Control, Costs, EqualCost, Fixed, Outcomes, SNRMatch, Spending, spend
from workbench.severity.variance import Evidence

SHAPE = (4, 4, 4)
NUM = 200
STEPS = 500
PER_STEP, ENCODER_DECODER = 3.0, 10.0

severities = torch.linspace(0, 1, NUM)
variances = (
    0.02 * (3 * severities).exp() * (0.3 * torch.randn(NUM, generator=randomness.generator("v"))).exp()
).float()


def case() -> Case:
    z_hat = torch.randn(NUM, *SHAPE, generator=randomness.generator("z_hat"))
    noise = torch.randn(NUM, *SHAPE, generator=randomness.generator("noise"))
    measurement = Measurement(
        y=torch.zeros(NUM, 1, 8, 8), ids=torch.arange(NUM), noise_std=torch.zeros(NUM), severity=severities
    )
    estimate = SeverityEstimate(z_hat, variances.reshape(-1, 1, 1, 1))
    return Case(Evidence(estimate, measurement), chain(STEPS), noise)


def costs_of(nfe: torch.Tensor, probes: float = 0.0) -> Costs:
    flops = ENCODER_DECODER + probes + PER_STEP * nfe
    return Costs.of(nfe.tolist(), flops.tolist(), ENCODER_DECODER)


def budget_of(control: Control, here: Case, probes: float = 0.0) -> Budget:
    matched = here.start(SNRMatch())
    nfe = (len(here.chain) - matched.position).double()
    rows = Outcomes(here.evidence.measurement.ids, variances, severities, variances)
    costs = costs_of(nfe, probes)
    return spend(EqualCost(control=control), costs, here.chain, rows, rows, seed=0)


@pytest.mark.parametrize("control", ["timestep", "missing_noise", "permuted", "known_severity"])
@pytest.mark.parametrize("probes", [0.0, 7.0])
def test_every_control_spends_what_the_matched_start_spends_up_to_a_step(control: Control, probes: float) -> None:
    here = case()
    matched_nfe = float((len(here.chain) - here.start(SNRMatch()).position).double().mean())
    start = here.start(Spending(EqualCost(control=control), budget_of(control, here, probes)))
    nfe = float((len(here.chain) - start.position).double().mean())
    # what the control saves on probes of the residual goes into steps; missing_noise needs the probes itself
    extra = 0.0 if control == "missing_noise" else probes / PER_STEP
    assert nfe == pytest.approx(matched_nfe + extra, abs=0.51)


def test_costs_are_read_from_rows() -> None:
    costs = costs_of(torch.tensor([10.0, 20.0, 40.0]), probes=7.0)
    assert costs.per_step == pytest.approx(PER_STEP)
    assert costs.matched == pytest.approx(ENCODER_DECODER + 7)
    assert costs.total == pytest.approx(ENCODER_DECODER + 7 + PER_STEP * 70 / 3)
    alike = costs_of(torch.tensor([10.0, 10.0]))
    assert alike.per_step == pytest.approx(PER_STEP), "of images that all take as many steps"


def test_one_timestep_is_a_fixed_start() -> None:
    here = case()
    start = here.start(Spending(EqualCost(control="timestep"), Budget(position=480)))
    fixed = here.start(Fixed(timestep=int(here.chain.time[480])))
    torch.testing.assert_close(start.z, fixed.z, rtol=0, atol=0)
    assert start.position.tolist() == fixed.position.tolist() == [480] * NUM


def test_missing_noise_makes_up_the_level_of_the_timestep() -> None:
    """z = sqrt(a) (z0 + e) + the noise that is missing: its noise has variance 1 - a in all, where e leaves room."""
    here = case()
    z0 = torch.randn(NUM, *SHAPE, generator=randomness.generator("z0"))
    e = variances.sqrt().reshape(-1, 1, 1, 1) * torch.randn(NUM, *SHAPE, generator=randomness.generator("e"))
    estimate = SeverityEstimate(z0 + e, variances.reshape(-1, 1, 1, 1))
    position = 400
    start = here.knowing(estimate=estimate).start(Spending(EqualCost(control="missing_noise"), Budget(position)))
    a = here.chain.alpha_bar[position]
    level = ((start.z - a.sqrt() * z0) / (1 - a).sqrt()).square().mean((1, 2, 3))
    room = a * variances < 1 - a
    assert room.any()
    assert float(level[room].mean()) == pytest.approx(1, abs=0.05)
    assert start.position.tolist() == [position] * NUM


def test_permuted_starts_are_those_of_other_images() -> None:
    here = case()
    matched = here.start(SNRMatch())
    start = here.start(Spending(EqualCost(control="permuted"), budget_of("permuted", here)))
    assert sorted(start.position.tolist()) == sorted(matched.position.tolist())
    assert start.position.tolist() != matched.position.tolist()
    assert start.variance is not None
    assert abs(float(torch.corrcoef(torch.stack([start.variance, variances.double()]))[0, 1])) < 0.2


def test_known_severity_starts_earlier_the_more_severe() -> None:
    here = case()
    start = here.start(Spending(EqualCost(control="known_severity"), budget_of("known_severity", here)))
    assert (start.position.diff() <= 0).all()
    assert start.position.unique().numel() > 10
    assert start.variance is not None
    middle = variances[NUM // 2 - 20 : NUM // 2 + 20].double().log().mean().exp()
    assert float(start.variance[NUM // 2]) == pytest.approx(float(middle), rel=0.2)


def test_controls_are_for_studies() -> None:
    here = case()
    with pytest.raises(UserError, match="use it in studies"):
        here.start(EqualCost())
    with pytest.raises(UserError, match="use it in studies"):
        here.start(Spending(EqualCost(control="permuted"), Budget(variances={0: 0.1})))
    unknown = here.knowing(measurement=replace(here.evidence.measurement, severity=None))
    budget = budget_of("known_severity", here)
    with pytest.raises(UserError, match="use it in studies"):
        unknown.start(Spending(EqualCost(control="known_severity"), budget))


def test_a_control_of_a_recalibrated_start_is_refused() -> None:
    with pytest.raises(ValueError, match="no recalibration or risk"):
        EqualCost(of=SNRMatch(risk=0.1))
    with pytest.raises(ValueError, match="channel=forward"):
        EqualCost(of=SNRMatch(channel="mmse"))


@pytest.mark.parametrize("offset_db", [-45.0, 3.0, 40.0])
@pytest.mark.parametrize("total", [ENCODER_DECODER, 1e9])
def test_no_cost_and_no_offset_of_the_start_leads_out_of_the_bounds(offset_db: float, total: float) -> None:
    here = case()
    costs = Costs(total=total, per_step=PER_STEP, matched=ENCODER_DECODER, plain=ENCODER_DECODER)
    rows = Outcomes(here.evidence.measurement.ids, variances, severities, variances)
    control = EqualCost(control="permuted", of=SNRMatch(offset_db=offset_db))
    start = here.start(Spending(control, spend(control, costs, here.chain, rows, None, seed=0)))
    assert set(start.position.tolist()) == ({0} if total > 1e6 else {STEPS - 1})


def test_the_cost_cannot_exceed_the_grid() -> None:
    here = case()
    costs = Costs(total=1e9, per_step=PER_STEP, matched=ENCODER_DECODER, plain=ENCODER_DECODER)
    rows = Outcomes(here.evidence.measurement.ids, variances, severities, variances)
    budget = spend(EqualCost(), costs, here.chain, rows, None, seed=0)
    assert budget.position == 0
