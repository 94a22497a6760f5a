"""What is special about a degradation at one level."""

import pytest
import torch
from every_degradation import EVERY

from workbench.config import Config, UserError
from workbench.degradations import (
    AnyDegradation,
    AtSeverity,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Mixture,
    RandomInpainting,
)

MEMBERS = [degradation for degradation in EVERY if not isinstance(degradation, AtSeverity)]
IDS = torch.arange(6)


class Holder(Config):
    degradation: AnyDegradation = GaussianBlur()


def images() -> torch.Tensor:
    return torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.kind)
def test_it_is_the_member_at_that_level(member: Degradation) -> None:
    given = AtSeverity(member=member, severity=0.3)  # type: ignore[arg-type]
    severity = given.draw_severity(IDS, 4)
    assert torch.equal(severity, torch.full((6,), 0.3))
    mine = given.measure(images(), severity, IDS, 4)
    its = member.measure(images(), torch.full((6,), 0.3), IDS, 4)
    tensors = its._tensors()
    assert mine._tensors().keys() == tensors.keys()
    for name, tensor in mine._tensors().items():
        torch.testing.assert_close(tensor, tensors[name], rtol=0, atol=0)
    assert (given.linear, given.draws_parameters) == (member.linear, member.draws_parameters)
    assert given.describe(0.3) == member.describe(0.3)


def test_levels_share_masks_and_noise() -> None:
    mild, strong = (AtSeverity(member=RandomInpainting(), severity=level) for level in (0.2, 0.7))
    one, other = (d.measure(images(), d.draw_severity(IDS, 1), IDS, 1) for d in (mild, strong))
    assert one.observed is not None
    assert other.observed is not None
    assert bool((other.observed <= one.observed).all()), "a pixel hidden at the mild level is hidden at the strong one"
    both = other.observed.bool().expand_as(one.y)
    torch.testing.assert_close(one.y[both], other.y[both])


def test_noise_std_holds_for_the_member() -> None:
    given = AtSeverity.parse({"noise_std": 0.02, "member": {"kind": "gaussian_blur", "noise_std": 0.3}})
    assert given.member.noise_std == 0.02
    assert given.replace({"noise_std": 0.1}).member.noise_std == 0.1
    assert torch.equal(given.noise_level(torch.zeros(2)), torch.full((2,), 0.02))
    mixed = AtSeverity(member=Mixture(members=(GaussianBlur(), GaussianNoise())), noise_std=0.07)
    assert isinstance(mixed.member, Mixture)
    assert {member.noise_std for member in mixed.member.members} == {0.07}


def test_chosen_by_overrides_and_named_by_its_level() -> None:
    holder = Holder().replace(
        {"degradation.kind": "at_severity", "degradation.member.kind": "jpeg", "degradation.severity": 0.25}
    )
    assert isinstance(holder.degradation, AtSeverity)
    assert holder.degradation.label == "jpeg 0.25"
    assert holder.identity != holder.replace({"degradation.severity": 0.75}).identity


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"severity": 1.5}, "severity: input should be at least 0 and at most 1"),
        ({"member.kind": "at_severity"}, "unknown kind 'at_severity' for member"),
    ],
)
def test_what_cannot_be_is_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AtSeverity().replace(overrides)
