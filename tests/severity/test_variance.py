"""Every variance source: its name, what it declares to need, and variances that are not one number per image."""

from dataclasses import replace

import pytest
import torch

from workbench.core import randomness
from workbench.core.config import UserError, kind_of, members
from workbench.core.measurement import Measurement
from workbench.severity.calibration import Fusion, Isotonic, NonBlindFit, OfOperator, Recalibration
from workbench.severity.calibration.non_blind import LogLinear
from workbench.severity.calibration.recalibration import LogMap
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import SNRMatch
from workbench.severity.variance import (
    AnyVariance,
    AtRisk,
    Encoder,
    Evidence,
    Fused,
    Need,
    Recalibrated,
    Residual,
    VarianceSource,
)

NAMES = [kind_of(member) for member in members(AnyVariance)]
SOURCES = [
    *(member() for member in members(AnyVariance)),
    Recalibrated(of=Fused(), method=Isotonic()),
    AtRisk(of=Encoder(), risk=0.1),
]
SHAPE = (4, 4, 4)

every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.kind)


def everything() -> Evidence:
    """Two images of which all is known; A and D are the identity."""
    z0, error = torch.randn(2, 2, *SHAPE, generator=randomness.generator("variance sources"))
    z_hat = z0 + 0.3 * error
    return Evidence(
        SeverityEstimate(z_hat, torch.tensor([0.05, 0.2]).reshape(-1, 1, 1, 1), torch.ones(2, 2)),
        Measurement(y=z0, ids=torch.arange(2), noise_std=torch.zeros(2)),
        forward=lambda z, _: z,
        encode=lambda y, _: z_hat,
        fusion=Fusion(0.0, 0.3, torch.zeros(2), torch.eye(2), 0.0, 1.0),
        recalibration=Recalibration(
            log_map=LogMap(x=(0.0,), y=(0.5,)), scores=tuple(torch.linspace(-1, 1, 99).tolist()), channel_profile=(1.0,)
        ),
        non_blind=NonBlindFit(
            operators=(
                OfOperator(
                    operator={},
                    usual=1.0,
                    informed=LogLinear(intercept=0.0, weights=(0.5, 0.5, 0.0, 0.0)),
                    uninformed=LogLinear(intercept=0.0, weights=(0.5, 0.5)),
                ),
            )
        ),
        truth=z0,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_source_on_the_command_line_in_python_and_in_stored_results(name: str) -> None:
    rule = SNRMatch(variance=name)  # type: ignore[arg-type]
    assert rule.variance.kind == rule.label.replace("true", "oracle") == name
    assert rule.canonical() == {"kind": "snr_match", "channel": "forward", "offset_db": 0.0, "variance": name}
    assert SNRMatch.parse(rule.canonical()) == SNRMatch.parse(rule.model_dump(mode="json")) == rule
    assert SNRMatch().replace({"variance": name}) == SNRMatch().replace({"variance.kind": name}) == rule


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match="unknown kind 'magic' for variance; available: encoder, residual, max, fused"):
        SNRMatch().replace({"variance": "magic"})


def test_stored_results_with_recalibration_and_risk_are_read_and_keep_their_form() -> None:
    stored = {
        "kind": "snr_match",
        "channel": "mmse",
        "offset_db": 3.0,
        "variance": "fused",
        "recalibration": {"kind": "isotonic"},
        "risk": 0.1,
    }
    rule = SNRMatch.parse(stored)
    assert rule.source == AtRisk(of=Fused(), method=Isotonic(), risk=0.1)
    assert rule.canonical() == stored


@every_source
def test_a_source_looks_at_what_it_declares_and_at_nothing_else(source: VarianceSource) -> None:
    whole, told = source(everything()), source(everything().only(source.needs))
    torch.testing.assert_close(told.value, whole.value, rtol=0, atol=0)
    blind = replace(everything().estimate, var_hat=everything().estimate.var_hat * torch.tensor(1.5))
    depends = not torch.equal(source(replace(everything(), estimate=blind)).value, whole.value)
    assert depends or Need.VAR_HAT not in source.needs


@every_source
def test_each_declared_need_is_one(source: VarianceSource) -> None:
    for need in source.needs & ~Need.VAR_HAT:
        with pytest.raises(UserError, match="needs"):
            source(everything().only(source.needs & ~need))


@every_source
@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 4), SHAPE])
def test_a_variance_per_channel_or_element_is_never_averaged_to_be_matched(
    source: VarianceSource, shape: tuple[int, ...]
) -> None:
    evidence = everything()
    evidence = replace(evidence, estimate=replace(evidence.estimate, var_hat=torch.full((2, *shape), 0.1)))
    if Need.VAR_HAT not in source.needs:
        assert source(evidence).value.shape == (2,)
        return
    with pytest.raises(UserError, match="needs one number per image: use an encoder that predicts one, or set"):
        source(evidence)


def test_its_mean_is_asked_for_by_name() -> None:
    estimate = SeverityEstimate(torch.zeros(1, *SHAPE), torch.arange(64.0).reshape(1, *SHAPE))
    assert estimate.predicted_s2().tolist() == [31.5]


def test_what_is_no_multiple_of_var_hat_is_not_recalibrated() -> None:
    with pytest.raises(
        ValueError, match="risk applies to the severity encoder's variance, but residual does not scale it"
    ):
        AtRisk(of=Residual(), risk=0.1)
