"""A user's physics, by the function that makes it and as an object."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import deepinv_factories
import numpy as np
import pandas as pd
import pytest
import torch
from command_line import Trained
from deepinv.physics import Inpainting
from given_y import given
from torch import Tensor

from workbench.core.config import Config, UserError, parse_overrides
from workbench.degradations import AnyDegradation, DeepinvPhysics, GaussianBlur, GivenPhysics, RandomInpainting
from workbench.notebook import load_restorer
from workbench.restoration import Restored
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

SHAPE = (1, 16, 16)


class Holder(Config):
    degradation: AnyDegradation = GaussianBlur()


def named(factory: str, **fields: Any) -> DeepinvPhysics:
    return DeepinvPhysics(factory=f"deepinv_factories:{factory}", **fields)


def images(num_images: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(num_images, *SHAPE, generator=torch.Generator().manual_seed(0))
    return x, torch.linspace(0, 1, num_images), torch.arange(num_images)


def test_each_image_is_measured_by_the_physics_of_its_severity() -> None:
    x, _, ids = images()
    severity = torch.tensor([0.75, 0.0, 0.75, 0.25, 0.0, 1.0])
    operator = named("defocus", settings={"max_radius": 3.0})
    params = operator.parameters(severity, ids, 0, SHAPE)
    expected = [deepinv_factories.defocus(level, 3.0).A(x[i : i + 1]) for i, level in enumerate(severity.tolist())]
    torch.testing.assert_close(operator.A(x, params), torch.cat(expected))


def test_noise_is_the_workbenchs() -> None:
    x, severity, ids = images()
    quiet = named("defocus", noise_std=0.0)
    measured = quiet.measure(x, severity, ids, 0)
    assert torch.equal(measured.y, quiet.A(x, measured.params))
    noise = named("defocus", noise_std=0.1).measure(x, severity, ids, 0).y - measured.y
    assert noise.std().item() == pytest.approx(0.1, rel=0.1)


def test_a_factory_that_takes_a_seed_gets_one_for_each_image() -> None:
    x = torch.ones(6, *SHAPE)
    severity, ids = torch.ones(6), torch.arange(6)
    operator = named("masked", noise_std=0.0)
    assert operator.draws_parameters
    assert not named("defocus").draws_parameters
    masks = operator.measure(x, severity, ids, 0).y
    assert len(masks.flatten(1).unique(dim=0)) == 6
    assert masks.mean().item() == pytest.approx(0.2, abs=0.05)
    assert torch.equal(operator.measure(x[:2], severity[:2], ids[4:], 0).y, masks[4:])
    assert not torch.equal(operator.measure(x, severity, ids, 1).y, masks)


def test_physics_that_change_the_shape_are_seen_through_their_pseudo_inverse() -> None:
    x, severity, ids = images()
    measured = named("halved", noise_std=0.0).measure(x, severity, ids, 0)
    assert measured.y.shape == (6, 1, 8, 8)
    physics = deepinv_factories.halved(0.5, SHAPE)
    each = [physics.A_dagger(physics.A(x[i : i + 1])) for i in range(6)]
    torch.testing.assert_close(measured.encoder_input(), torch.cat(each))
    assert named("halved").measure(x, severity, ids, 0).take([1]).encoder_input().shape == (1, *SHAPE)


def test_pseudo_inverse_on_wish() -> None:
    x, severity, ids = images()
    assert named("masked").measure(x, severity, ids, 0).view is None
    seen = named("masked", view_by="A_dagger", noise_std=0.0).measure(x, severity, ids, 0)
    assert seen.view is not None
    torch.testing.assert_close(seen.view, seen.y)  # a mask is its own pseudo-inverse


def test_the_source_is_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (
        "from deepinv.physics import Physics\n\n\ndef make(severity, gain=1):\n    return Physics(A=lambda x: {} * x)\n"
    )

    def identity(source: str) -> str:
        (tmp_path / "users_optics.py").write_text(source)
        sys.modules.pop("users_optics", None)
        importlib.invalidate_caches()
        return Holder().replace({"degradation": DeepinvPhysics(factory="users_optics:make")}).identity

    one = identity(text.format(1.0))
    assert identity(text.format(10.5)) != one
    assert identity(text.format(1.0)) == one
    again = DeepinvPhysics(factory="users_optics:make", settings={"gain": 2})
    assert again.identity != DeepinvPhysics(factory="users_optics:make").identity


def test_config_goes_through_json_and_overrides() -> None:
    overrides = {
        "degradation.kind": "deepinv_physics",
        "degradation.factory": "deepinv_factories:defocus",
        "degradation.settings.max_radius": 3,
    }
    holder = Holder().replace(overrides)
    assert holder.degradation == named("defocus", settings={"max_radius": 3})
    assert Holder.parse(holder.model_dump(mode="json")).identity == holder.identity
    assert DeepinvPhysics.of(deepinv_factories.defocus, settings={"max_radius": 3}) == holder.degradation


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "degradation.factory: field required"),
        ({"factory": "defocus"}, "is not of the form MODULE:NAME"),
        ({"factory": ":defocus"}, "is not of the form MODULE:NAME"),
        ({"factory": "no_such_module:f"}, "cannot import no_such_module"),
        ({"factory": "deepinv_factories:nothing"}, "deepinv_factories has no nothing"),
        ({"factory": "deepinv_factories:NOT_CALLABLE"}, "deepinv_factories:NOT_CALLABLE is not a function"),
        ({"factory": "deepinv_factories:wrong_way_back.<locals>.Flat"}, "move it to the module"),
        ({"factory": "deepinv_factories:defocus", "settings": {"radius": 3}}, "unexpected keyword argument 'radius'"),
        ({"factory": "deepinv_factories:masked", "settings": {"seed": 3}}, "multiple values"),
        ({"factory": "deepinv_factories:Gamma.A"}, "missing a required argument"),
    ],
)
def test_what_names_no_fitting_function_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        Holder.parse({"degradation": {"kind": "deepinv_physics", **fields}})
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_module_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_optics.py").write_text("def make(severity:\n")
    with pytest.raises(UserError, match=r"cannot import broken_optics .*SyntaxError") as refusal:
        DeepinvPhysics.parse({"factory": "broken_optics:make"})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("factory", ["defocus", "masked", "halved", "gamma"])
def test_sound_physics_pass(factory: str) -> None:
    before = torch.random.get_rng_state()
    named(factory, claims_linear=factory != "gamma").check(SHAPE, gradient=True)
    assert torch.equal(torch.random.get_rng_state(), before)


UNSOUND = {
    "forgotten": "measures 1 x 16 x 16 images as 128, and the severity encoder reads A_dagger(y), which must",
    "wrong_way_back": "give the physics a suitable A_dagger. It returns a float32 tensor of 1 x 256 for one",
    "rounded": "its gradient is zero everywhere",
    "detached": "is not differentiable: write A in torch operations",
    "in_numpy": "is not differentiable: write A in torch operations",
    "drawn": "measure the same images differently",
    "drawn_at_each_call": "measure the same images differently",
    "for_two_images": "measures two images, but not one",
    "mixing_images": "measured differently in a batch than alone",
    "growing": "depends on the severity (1 x 8 x 8 at 0, 1 x 8 x 8 at 0.5, 1 x 4 x 4 at 1)",
    "of_another_size": "cannot measure 1 x 16 x 16 images",
    "unevenly_noisy": "must have one standard deviation for all images",
    "blind": "gives the same result for all random images, so it measures nothing",
    "counting": "its noise model is PoissonNoise",
    "clipping": "its sensor_model is not part of A and would be ignored",
    "infinite": "is not finite",
    "in_parts": "must be a real or complex tensor with images first, got a TensorList",
    "no_physics": "expected a deepinv.physics.Physics, got a int",
    "failing": "fails at severity 0: KeyError: 'calibration'",
}


@pytest.mark.parametrize("factory", UNSOUND)
def test_unsound_physics_are_one_line(factory: str) -> None:
    with pytest.raises(UserError) as refusal:
        named(factory).check(SHAPE, gradient=True)
    assert UNSOUND[factory] in str(refusal.value)
    assert str(refusal.value).startswith(f"deepinv_factories:{factory}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("factory", ["rounded", "detached", "in_numpy"])
def test_without_guidance_no_gradient_is_needed(factory: str) -> None:
    named(factory).check(SHAPE, gradient=False)


def test_the_level_of_noise_is_that_of_the_physics() -> None:
    x, severity, ids = images()
    operator = named("noisy")
    operator.check(SHAPE, gradient=True)
    measured = operator.measure(x, severity, ids, 0)
    torch.testing.assert_close(measured.noise_std, 0.1 + 0.1 * severity)
    noise = (measured.y - operator.A(x, measured.params)) / measured.noise_std.reshape(-1, 1, 1, 1)
    assert noise.std().item() == pytest.approx(1, rel=0.1)
    assert named("defocus").measure(x, severity, ids, 0).noise_std.tolist() == pytest.approx([0.05] * 6)
    given = GivenPhysics(physics=deepinv_factories.noisy(0.0))
    assert given.measurement(x).noise_std.tolist() == pytest.approx([0.1] * 6)
    assert GivenPhysics(physics=deepinv_factories.noisy(0.0), noise_std=0.1).measurement(x).noise_std[
        0
    ] == pytest.approx(0.1)


def test_noise_that_contradicts_the_physics_is_refused() -> None:
    for stated in (0.05, 0.0, 0.2):
        with pytest.raises(
            UserError, match=rf"standard deviation of 0\.1, but noise_std is {stated:g}: make them equal"
        ):
            named("noisy", noise_std=stated).check(SHAPE, gradient=True)
        with pytest.raises(UserError, match="but noise_std is"):
            GivenPhysics(physics=deepinv_factories.noisy(0.0), noise_std=stated).measurement(images()[0])
    with pytest.raises(UserError, match="its noise model is PoissonNoise"):
        GivenPhysics(physics=deepinv_factories.counting(0.0)).measurement(images()[0])


def test_results_from_before_keep_their_names() -> None:
    """The level of noise and what is observed were not to choose; a physics' source has its own part in the name."""
    canonical = named("defocus").canonical()
    assert canonical.keys() == {"kind", "noise_std", "view_by", "factory", "settings", "claims_linear", "source"}
    assert canonical["noise_std"] == 0.05
    assert named("defocus", noise_std=0.05).identity == named("defocus").identity
    assert named("defocus", observed_by="all").identity != named("defocus").identity


@pytest.mark.parametrize("factory", ["masked", "masked_gamma", "pasted_over"])
def test_dropped_entries_are_not_observed(factory: str) -> None:
    x, severity, ids = images()
    operator = named(factory)
    operator.check(SHAPE, gradient=True)
    measured = operator.measure(x, severity, ids, 0)
    seeds = measured.params["seed"].tolist()
    levels = severity.tolist()
    masks = [
        deepinv_factories.masked(level, SHAPE, seed, torch.device("cpu")).mask
        for level, seed in zip(levels, seeds, strict=True)
    ]
    assert measured.observed is not None
    assert torch.equal(measured.observed, torch.cat(masks))
    filling = measured.y[measured.observed == 0]
    assert (filling == float(factory == "pasted_over")).all(), "noise is not added to them"
    y, lines = given(operator, measured.y, measured.params)
    assert lines == []
    assert torch.equal(y, measured.y)
    assert torch.equal(measured.num_observed(), torch.cat(masks).sum((1, 2, 3)))
    assert named(factory, observed_by="all").measure(x, severity, ids, 0).observed is None


def test_missing_frequencies_are_not_observed() -> None:
    x, severity, ids = images()
    operator = named("masked_frequencies", claims_linear=True)
    operator.check(SHAPE, gradient=True)
    measured = operator.measure(x, severity, ids, 0)
    assert measured.observed is not None
    rows = measured.observed.flatten(0, 1).any(2)
    assert rows[:, ::2].all()
    assert not rows[:, 1::2].any()
    # and the imaginary part of 4 frequencies, which is 0 for every real image
    assert measured.num_observed().tolist() == [2 * 8 * 16 - 4] * 6


@pytest.mark.parametrize("factory", ["defocus", "gamma", "highlights", "halved"])
def test_all_else_is_observed(factory: str) -> None:
    x, severity, ids = images()
    measured = named(factory).measure(x, severity, ids, 0)
    assert measured.observed is not None
    assert torch.equal(measured.observed, torch.ones_like(measured.y))


def test_a_given_y_may_hold_noise_where_nothing_is_observed() -> None:
    x, _, _ = images()
    g = torch.Generator().manual_seed(1)
    physics = deepinv_factories.masked(0.8, SHAPE, 3, torch.device("cpu"))
    noise = 0.05 * torch.randn(x.shape, generator=g)
    operator = GivenPhysics(physics=physics)
    measurement = operator.measurement(physics.A(x) + noise)
    torch.testing.assert_close(measurement.y, physics.mask * (x + noise))
    assert torch.equal(measurement.num_observed(), physics.mask.sum().expand(6))
    with pytest.warns(UserWarning, match=r"Inpainting: y - A\(x\) is not zero but 1 throughout where A"):
        filled = operator.measurement(physics.A(x) + 1 - physics.mask)
    torch.testing.assert_close(filled.y, physics.A(x))
    for wrong in (x, deepinv_factories.masked(0.8, SHAPE, 4, torch.device("cpu")).A(x)):
        with pytest.raises(UserError, match="use the physics that y comes from, with its own mask, or set observed_by"):
            operator.measurement(wrong)
    assert GivenPhysics(physics=physics, observed_by="all").measurement(x).observed is None


@pytest.mark.parametrize(
    ("factory", "message"), [("not_adjoint", "not the adjoint"), ("gamma", "declared linear but is not")]
)
def test_claims_are_checked(factory: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        named(factory, claims_linear=True).check(SHAPE, gradient=True)


@pytest.fixture
def cell(trained: Trained) -> Evaluate:
    """A cell whose networks are there."""
    return Evaluate().replace(parse_overrides(trained.flags))


def test_a_cell_refuses_it_before_compute(cell: Evaluate) -> None:
    with pytest.raises(UserError, match="not differentiable"):
        cell.replace({"degradation": named("rounded")}).check()
    cell.replace({"degradation": named("rounded"), "solver.kind": "no_guidance"}).check()
    with pytest.raises(UserError, match="A_dagger"):
        cell.replace({"degradation": GaussianBlur(), "severity_encoder.degradation": named("forgotten")}).check()


def test_measurements_of_another_shape_are_restored_and_scored(cell: Evaluate, trained: Trained) -> None:
    rows = pd.read_parquet(cell.replace({"degradation": named("halved")}).ensure(Runtime(trained.runs)) / ROWS)
    assert len(rows) == cell.num_images
    assert np.isfinite(rows.select_dtypes("number").to_numpy()).all()


def test_an_object_restores_what_it_measured(cell: Evaluate, trained: Trained) -> None:
    x = cell.data.split("test").first(4).batch(slice(None))
    physics = deepinv_factories.halved(0.0, SHAPE)
    operator = GivenPhysics(physics=physics, noise_std=0.05)
    assert operator.linear
    measurement = operator.measurement(physics(x), image_shape=SHAPE)
    assert measurement.severity is None
    torch.testing.assert_close(measurement.encoder_input(), physics.A_dagger(physics(x)), atol=0.01, rtol=0)

    def restored(scale: float) -> Tensor:
        solver = cell.solver.replace(guidance_scale=scale)
        restorer = replace(cell.restorer(Runtime(trained.runs)), degradation=operator, solver=solver)
        return restorer.restore_all(measurement).x_hat

    def misfit(x_hat: Tensor) -> float:
        return float((physics.A(x_hat) - measurement.y).norm())

    # the physics is listened to: guidance brings what it would measure closer to y
    assert misfit(restored(1.0)) < misfit(restored(0.0))


def test_deepinvs_inpainting_restores_as_the_workbenchs_own(tmp_path: Path) -> None:
    """Without an encoder, where the residual alone says where to begin: only what is observed may count."""
    own, shape = RandomInpainting(), (1, 32, 32)
    x = Evaluate().data.split("test").first(2).batch(slice(None))
    severity, ids = torch.ones(2), torch.arange(2)
    params = own.parameters(severity, torch.zeros(2, dtype=torch.int64), 0, shape)  # one mask for all
    y = params["mask"] * (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    physics = Inpainting(img_size=shape, mask=params["mask"][0])
    overrides = {"data.kind": "fashion_mnist", "sampler.num_steps": 10}
    restorer = load_restorer(own, encoder="none", runs=tmp_path, overrides=overrides)
    expected = restorer.restore_all(own.given_measurement(y, severity, ids, params)[0])

    def restored(**fields: Any) -> Restored:
        given = GivenPhysics(physics=physics, **fields)
        return replace(restorer, degradation=given).restore_all(given.measurement(y))

    same, all_entries = restored(), restored(observed_by="all")
    assert same.ids.tolist() == expected.ids.tolist()
    torch.testing.assert_close(same.start_variance, expected.start_variance)
    torch.testing.assert_close(same.x_hat, expected.x_hat)
    # zeros that pass for exact measurements make the estimate look better than it is
    assert all_entries.start_variance.mean() < 0.7 * expected.start_variance.mean()


def test_an_object_is_checked_when_it_is_used() -> None:
    y = torch.rand(3, *SHAPE)
    with pytest.raises(UserError, match=r"^Physics at severity 0 is not differentiable"):
        GivenPhysics(physics=deepinv_factories.rounded(0.0)).measurement(y)
    assert len(GivenPhysics(physics=deepinv_factories.rounded(0.0)).measurement(y, gradient=False)) == 3
    with pytest.raises(UserError, match="but y has shape"):
        GivenPhysics(physics=deepinv_factories.halved(0.0, SHAPE)).measurement(y)
    with pytest.raises(UserError, match="pass image_shape"):
        GivenPhysics(physics=deepinv_factories.halved(0.0, SHAPE)).measurement(y.flatten(1))
    with pytest.raises(UserError, match=r"expected a deepinv\.physics\.Physics, got function"):
        GivenPhysics.parse({"physics": deepinv_factories.rounded})


def test_an_object_has_no_identity() -> None:
    with pytest.raises(UserError, match="no identity"):
        _ = GivenPhysics(physics=deepinv_factories.gamma(0.0)).identity


def test_parameters_that_deepinv_keeps_do_not_leak() -> None:
    """An object that was called with parameters by its owner is used as it stands, and left as it is."""
    x, _, _ = images(3)
    physics = deepinv_factories.defocus(0.5)
    before = physics.filter.clone()
    _ = GivenPhysics(physics=physics).measurement(x)
    assert torch.equal(physics.filter, before)
