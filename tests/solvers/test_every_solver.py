"""What holds for every solver, and the controls."""

from typing import Any, ClassVar, Literal

import pytest
import torch
from examples import EVERY as EVERY_DEGRADATION
from stubs import CurvedDegradation, LinearAutoencoder, LinearPrior, StubDegradation, images
from torch import Tensor

from workbench import randomness
from workbench.config import UserError, kind_of, members
from workbench.diffusion import DDPM
from workbench.measurement import Measurement
from workbench.solvers import AnySolver, DecodeOnly, Networks, NoGuidance, Solver, Step

every = pytest.mark.parametrize("member", members(AnySolver), ids=kind_of)


class LinearOnly(NoGuidance):
    """A solver that needs an adjoint."""

    kind: Literal["linear_only"] = "linear_only"  # type: ignore[assignment]
    linear_only: ClassVar[bool] = True


def step_of(y_offset: float = 0.0) -> Step:
    x, ids = images(2)
    measurement = StubDegradation().measure(x, torch.tensor([0.2, 0.9]), ids, 0)
    z, noise = torch.randn(2, 2, 4, 4, 4, generator=randomness.generator("z"))
    return Step(
        z=z,
        timestep=torch.tensor([500, 0]),
        timestep_next=torch.tensor([499, -1]),
        noise=noise,
        measurement=Measurement(
            y=measurement.y + y_offset, ids=ids, noise_std=measurement.noise_std, params=measurement.params
        ),
        networks=Networks(LinearAutoencoder(), LinearPrior(), StubDegradation()),
        sampler=DDPM(num_steps=1000),
    )


@every
def test_a_step_keeps_shape_and_type_and_leaves_its_input_alone(member: Any) -> None:
    step = step_of()
    before = step.z.clone()
    advanced = member().step(step)
    assert advanced.shape == before.shape
    assert advanced.dtype == before.dtype
    assert advanced.isfinite().all()
    assert not advanced.requires_grad
    torch.testing.assert_close(step.z, before, rtol=0, atol=0)


@every
def test_what_needs_no_linear_operator_takes_every_operator(member: Any) -> None:
    solver: Solver = member()
    for degradation in EVERY_DEGRADATION:
        if degradation.linear or not solver.linear_only:
            solver.check(degradation)
        else:
            with pytest.raises(UserError):
                solver.check(degradation)


def test_what_needs_a_linear_operator_refuses_others_in_one_line() -> None:
    LinearOnly().check(StubDegradation())
    with pytest.raises(UserError, match="solver linear_only needs a linear operator, stub is not") as raised:
        LinearOnly().check(CurvedDegradation())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("solver", [NoGuidance(), DecodeOnly()], ids=lambda solver: solver.kind)
def test_controls_do_not_look_at_the_measurement(solver: Solver) -> None:
    torch.testing.assert_close(solver.step(step_of()), solver.step(step_of(y_offset=3.0)), rtol=0, atol=0)


def test_guided_solvers_do() -> None:
    for member in members(AnySolver):
        if kind_of(member) not in ("no_guidance", "decode_only"):
            solver = member()
            assert isinstance(solver, Solver)
            assert not torch.allclose(solver.step(step_of()), solver.step(step_of(y_offset=3.0)))


def test_no_guidance_costs_one_evaluation_of_the_prior() -> None:
    step = step_of()
    NoGuidance().step(step)
    assert dict(step.networks.evaluations) == {"prior": 1}


def test_decode_only_evaluates_nothing_and_does_not_diffuse() -> None:
    step = step_of()
    torch.testing.assert_close(DecodeOnly().step(step), step.z, rtol=0, atol=0)
    assert not step.networks.evaluations
    assert not DecodeOnly().diffuses


@pytest.mark.parametrize(("graded", "suffix"), [(True, "_grad"), (False, "")])
def test_networks_count_what_is_called_and_whether_a_gradient_was_taken(graded: bool, suffix: str) -> None:
    networks = Networks(LinearAutoencoder(), LinearPrior(), StubDegradation())

    def leaf(*shape: int) -> Tensor:
        return torch.zeros(*shape, requires_grad=graded)

    for _ in range(2):
        networks.predict(leaf(3, 4, 4, 4), torch.zeros(3, dtype=torch.int64))
    networks.decode(leaf(3, 4, 4, 4))
    networks.encode(leaf(3, 1, 8, 8))
    assert dict(networks.evaluations) == {f"prior{suffix}": 2, f"decoder{suffix}": 1, f"encoder{suffix}": 1}


def test_no_gradient_is_counted_where_none_is_recorded() -> None:
    networks = Networks(LinearAutoencoder(), LinearPrior(), StubDegradation())
    with torch.no_grad():
        networks.decode(torch.zeros(1, 4, 4, 4, requires_grad=True))
    assert dict(networks.evaluations) == {"decoder": 1}
