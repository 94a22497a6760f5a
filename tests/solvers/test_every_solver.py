"""What holds for every solver, and the controls."""

from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from every_degradation import EVERY as EVERY_DEGRADATION
from linear_steps import chain_through
from linear_stubs import CurvedDegradation, LinearAutoencoder, LinearPrior, StubDegradation, chain, images
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError, kind_of, members
from workbench.core.measurement import Measurement
from workbench.diffusion import DDPM
from workbench.solvers import AnySolver, DecodeOnly, Networks, NoGuidance, Solver, Step
from workbench.solvers.base import middle_step

every = pytest.mark.parametrize("member", members(AnySolver), ids=kind_of)


class LinearOnly(NoGuidance):
    """A solver that needs an adjoint."""

    kind: Literal["linear_only"] = "linear_only"  # type: ignore[assignment]
    linear_only: ClassVar[bool] = True


def counted(num_images: int) -> Networks:
    """Linear networks with an account for each image."""
    accounts = [Counter[str]() for _ in range(num_images)]
    return Networks(LinearAutoencoder(), LinearPrior(), StubDegradation(), accounts)


def step_of(y_offset: float = 0.0) -> Step:
    x, ids = images(2)
    measurement = StubDegradation().measure(x, torch.tensor([0.2, 0.9]), ids, 0)
    z, noise, solver_noise = torch.randn(3, 2, 4, 4, 4, generator=randomness.generator("z"))
    return Step(
        z=z,
        # multiples of ten to go, so that solvers which act at every tenth step do
        position=torch.tensor([500, 990]),
        chain=chain(),
        noise=noise,
        solver_noise=solver_noise,
        measurement=Measurement(
            y=measurement.y + y_offset, ids=ids, noise_std=measurement.noise_std, params=measurement.params
        ),
        networks=counted(2),
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
def test_an_images_step_and_cost_do_not_depend_on_its_neighbours(member: Any) -> None:
    step, solver = step_of(), member()
    together = solver.step(step)
    assert step.networks.accounts is not None
    spent = [account.copy() for account in step.networks.accounts]
    for i in range(2):
        alone = step_of().take(torch.tensor([i]))
        torch.testing.assert_close(solver.step(alone)[0], together[i], rtol=1e-4, atol=1e-5)
        assert alone.networks.accounts == [spent[i]]


@every
@pytest.mark.parametrize("timestep", [0, 3])
def test_the_last_step_ends_in_latents_without_noise(member: Any, timestep: int) -> None:
    """At the clean end nothing random is added, by the sampler or by the solver."""
    solver = member()
    last = 1000 - getattr(solver, "every", 1)
    ends = [
        solver.step(
            replace(
                step_of(),
                position=torch.full((2,), last),
                chain=chain_through((last, timestep, -1)),
                noise=noise,
                solver_noise=noise,
            )
        )
        for noise in (torch.zeros(2, 4, 4, 4), torch.ones(2, 4, 4, 4))
    ]
    assert ends[0].isfinite().all()
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


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
    with pytest.raises(
        UserError, match="solver linear_only needs a linear operator, but curved is not linear"
    ) as raised:
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
    assert step.networks.accounts == [{"prior": 1}] * 2


def test_decode_only_evaluates_nothing_and_does_not_diffuse() -> None:
    step = step_of()
    torch.testing.assert_close(DecodeOnly().step(step), step.z, rtol=0, atol=0)
    assert step.networks.accounts == [{}, {}]
    assert not DecodeOnly().diffuses


@pytest.mark.parametrize(("graded", "suffix"), [(True, "_grad"), (False, "")])
def test_networks_count_what_is_called_and_whether_a_gradient_was_taken(graded: bool, suffix: str) -> None:
    networks = counted(3)

    def leaf(*shape: int) -> Tensor:
        return torch.zeros(*shape, requires_grad=graded)

    for _ in range(2):
        networks.predict(leaf(3, 4, 4, 4), torch.zeros(3, dtype=torch.int64))
    networks.decode(leaf(3, 4, 4, 4))
    networks.encode(leaf(3, 1, 8, 8))
    assert networks.accounts == [{f"prior{suffix}": 2, f"decoder{suffix}": 1, f"encoder{suffix}": 1}] * 3


def test_no_gradient_is_counted_where_none_is_recorded() -> None:
    networks = counted(1)
    with torch.no_grad():
        networks.decode(torch.zeros(1, 4, 4, 4, requires_grad=True))
    assert networks.accounts == [{"decoder": 1}]


def test_a_part_of_a_step_is_that_of_its_images_and_charges_only_them() -> None:
    step = step_of()
    accounts = step.networks.accounts
    last = step.take(torch.tensor([1]))
    torch.testing.assert_close(NoGuidance().step(last), NoGuidance().step(step)[1:])
    assert last.measurement.ids.tolist() == step.measurement.ids[1:].tolist()
    assert (last.position.tolist(), last.time.tolist()) == ([990], [9])
    assert accounts == [{"prior": 1}, {"prior": 2}]


def test_accounts_of_other_images_than_those_evaluated_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images evaluated, 2 accounts to charge"):
        counted(2).decode(torch.zeros(3, 4, 4, 4))


@every
def test_bf16_rounds_the_networks_and_nothing_else(member: Any) -> None:
    step = step_of()
    rounded = member().step(replace(step, networks=replace(step.networks, precision="bf16")))
    exact = member().step(step)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)
    assert torch.equal(rounded, exact) != member.diffuses
    x = images(2)[0]
    assert replace(step.networks, precision="bf16").encode(x).dtype == torch.float32
    assert replace(step.networks, precision="bf16").decode(step.z).dtype == torch.float32


@every
def test_a_step_in_the_middle_of_the_grid_can_be_taken_of_every_solver(member: Any) -> None:
    step = step_of()
    middle = middle_step(step.z, step.measurement, step.networks, DDPM(num_steps=10))
    assert middle.position.tolist() == [5, 5]
    assert middle.time.tolist() == [499, 499]
    assert member().step(middle).isfinite().all()
