"""What is special about a sequence of degradations."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.core.config import Config, UserError
from workbench.core.measurement import Measurement
from workbench.degradations import (
    JPEG,
    AnyDegradation,
    Compose,
    DeepinvPhysics,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Haze,
    MotionBlurCRF,
    RandomInpainting,
    SuperResolution,
)

NUM_IMAGES = 12


class Holder(Config):
    degradation: AnyDegradation = GaussianBlur()


def batch(num_images: int = NUM_IMAGES, channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(num_images, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    return x, torch.linspace(0, 1, num_images), torch.arange(num_images)


def severities(num_images: int, level: float, seed: int = 0) -> Tensor:
    levels = torch.full((num_images,), level)
    return Compose().parameters(levels, torch.arange(num_images), seed, (1, 2, 2))["severity"]


def test_by_default_blur_then_noise_then_jpeg() -> None:
    assert [part.kind for part in Compose().parts] == ["gaussian_blur", "gaussian_noise", "jpeg"]


def test_the_severity_is_that_of_the_worst_part_and_the_others_are_uniform_below() -> None:
    found = severities(3000, 0.6)
    torch.testing.assert_close(found.amax(1), torch.full((3000,), 0.6))
    assert (found == found.amax(1, keepdim=True)).float().mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)
    others = found[found < 0.6] / 0.6
    assert others.mean().item() == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / 6000))
    assert others.std().item() == pytest.approx(math.sqrt(1 / 12), rel=0.04)


def test_every_part_grows_with_the_severity() -> None:
    torch.testing.assert_close(severities(20, 0.9), 3 * severities(20, 0.3))
    assert not torch.allclose(severities(20, 0.9), severities(20, 0.9, seed=1))


def test_shares_fix_the_parts_severities() -> None:
    compose = Compose(shares=(1.0, 0.25, 0.5))
    found = compose.parameters(torch.tensor([0.0, 0.8]), torch.arange(2), 0, (1, 8, 8))["severity"]
    torch.testing.assert_close(found, torch.tensor([[0, 0, 0], [0.8, 0.2, 0.4]]))
    assert not compose.draws_parameters
    assert Compose().draws_parameters
    assert Compose(parts=(MotionBlurCRF(),)).draws_parameters
    assert not Compose(parts=(GaussianBlur(),)).draws_parameters
    assert compose.describe(0.8) == "gaussian_blur std 2.46 px; gaussian_noise noise std 0.100; jpeg quality 59"
    assert Compose().describe(1.0).startswith("at most gaussian_blur std 3.00 px; ")


@pytest.mark.parametrize("part", [GaussianBlur(), RandomInpainting(), GaussianNoise(), SuperResolution(), JPEG()])
def test_one_part_is_that_part(part: Degradation) -> None:
    x, severity, ids = batch()
    compose = Compose(parts=(part,), noise_std=0.0)  # type: ignore[arg-type]
    measured = compose.measure(x, severity, ids, 0)
    own = {name.split(".", 2)[2]: value for name, value in measured.params.items() if "." in name}
    alone = part.replace(noise_std=0.0)
    torch.testing.assert_close(compose.A(x, measured.params), alone.A(x, own))
    torch.testing.assert_close(measured.noise_std, alone.noise_level(severity))
    expected = alone.received(measured.y, severity, ids, own, measured.observed)
    assert (measured.observed is None) == (expected.observed is None)
    if expected.observed is not None:
        assert torch.equal(measured.observed, expected.observed)
    assert torch.equal(measured.encoder_input(), expected.encoder_input())


def test_parts_act_in_their_order() -> None:
    x, severity, ids = batch(channels=3)
    compose = Compose(parts=(Haze(), GaussianBlur()))
    params = compose.parameters(severity, ids, 5, (3, 16, 16))
    haze = {name: params[f"0.haze.{name}"] for name in ("thickness", "depth", "airlight")}
    blurred = GaussianBlur().A(Haze().A(x, haze), {"filter": params["1.gaussian_blur.filter"]})
    torch.testing.assert_close(compose.A(x, params), blurred)


def test_two_parts_of_one_kind_draw_apart() -> None:
    _, _, ids = batch()
    compose = Compose(parts=(MotionBlurCRF(), MotionBlurCRF()), shares=(1, 1))
    params = compose.parameters(torch.ones(NUM_IMAGES), ids, 0, (1, 16, 16))
    assert not torch.allclose(params["0.motion_blur_crf.filter"], params["1.motion_blur_crf.filter"], atol=0.01)


def test_inner_noise_enters_where_it_arises() -> None:
    """Blurred after it was added, noise is smooth; added after the blur it is white."""
    x, ids = torch.full((64, 1, 32, 32), 0.5), torch.arange(64)

    def neighbours_correlate(*parts: Degradation) -> float:
        noise = Compose(parts=parts, shares=(1, 1), noise_std=0).measure(x, torch.ones(64), ids, 0).y - 0.5  # type: ignore[arg-type]
        return float((noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean())

    assert neighbours_correlate(GaussianNoise(), GaussianBlur()) > 0.9
    assert abs(neighbours_correlate(GaussianBlur(), GaussianNoise())) < 0.02


def test_the_operator_is_without_noise() -> None:
    x, severity, ids = batch()
    compose = Compose(noise_std=0.0)
    params = compose.parameters(severity, ids, 3, (1, 16, 16))
    assert torch.equal(compose.A(x, params), compose.A(x, params))
    quiet = Compose(parts=(GaussianBlur(), JPEG()))
    without = {"severity": params["severity"][:, [0, 2]]} | {
        name.replace("2.jpeg", "1.jpeg"): value for name, value in params.items() if "." in name
    }
    assert torch.equal(compose.A(x, params), quiet.A(x, without))


def test_inner_noise_through_a_linear_part_is_known() -> None:
    """Through a blur of filter k, white noise of variance v has variance v sum(k^2), away from the borders."""
    num_images = 64
    x, ids = torch.full((num_images, 1, 40, 40), 0.5), torch.arange(num_images)
    compose = Compose(parts=(GaussianNoise(), GaussianBlur()), shares=(1, 0.2), noise_std=0.03)
    measured = compose.measure(x, torch.full((num_images,), 0.4), ids, 0)
    (weights,) = measured.params["1.gaussian_blur.filter"][:1]
    expected = 0.03**2 + 0.2**2 * float(weights.square().sum())
    assert measured.noise_std.square().mean().item() == pytest.approx(expected, rel=0.03)
    actual = measured.residual(compose.A(x, measured.params)).square().mean().item()
    assert actual == pytest.approx(expected, rel=0.03)


def test_noise_before_a_mask_counts_where_observed() -> None:
    x, _, ids = batch(64)
    compose = Compose(parts=(GaussianNoise(), RandomInpainting()), shares=(0.4, 1), noise_std=0.0)
    measured = compose.measure(x, torch.ones(64), ids, 0)
    assert measured.noise_std.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.03)
    assert not (measured.y * (1 - measured.observed)).any()  # type: ignore[operator]


def test_noise_of_a_measurement_does_not_need_the_truth() -> None:
    """A user's own y gets the noise level that `measure` states."""
    x, severity, ids = batch()
    measured = Compose().measure(x, severity, ids, 0)
    received = Compose().received(measured.y, severity, ids, measured.params, measured.observed)
    assert torch.equal(received.noise_std, measured.noise_std)
    assert (measured.noise_std[1:] > 0.05).all()
    assert measured.noise_std[0] == pytest.approx(0.05)


def test_linear_where_every_part_is() -> None:
    x, severity, ids = batch()
    linear = Compose(parts=(GaussianBlur(), GaussianNoise(), SuperResolution()))
    assert linear.linear
    assert not linear.surrogate_gradient
    params = linear.parameters(severity, ids, 0, (1, 16, 16))
    forward = linear.A(x, params)
    y = torch.randn(forward.shape, generator=torch.Generator().manual_seed(1))
    left, right = (forward * y).sum(), (x * linear.A_adjoint(y, params)).sum()
    assert abs(left - right) <= 1e-4 * float(forward.norm() * y.norm())
    assert not Compose().linear
    assert Compose().surrogate_gradient
    with pytest.raises(UserError, match="because jpeg is not"):
        Compose().A_adjoint(y, params)


def test_the_last_part_may_leave_pixels_out() -> None:
    x, severity, ids = batch()
    measured = Compose(parts=(GaussianBlur(), SuperResolution())).measure(x, severity, ids, 0)
    assert measured.observed is not None
    assert measured.view is not None
    assert measured.view.shape == x.shape
    assert isinstance(measured.take([1, 2]), Measurement)


def test_noise_std_is_that_of_the_whole() -> None:
    compose = Compose.parse({"noise_std": 0.02, "parts": [{"kind": "gaussian_blur", "noise_std": 0.3}]})
    assert [part.noise_std for part in compose.parts] == [0.0]
    measured = compose.measure(*batch(), 0)
    torch.testing.assert_close(measured.noise_std, torch.full((NUM_IMAGES,), 0.02))


def test_noise_level_needs_the_parts_severities() -> None:
    with pytest.raises(ValueError, match="params"):
        Compose().noise_level(torch.zeros(2))


def test_reached_by_dotted_overrides() -> None:
    parts = [{"kind": "haze"}, {"kind": "gaussian_noise"}]
    holder = Holder().replace({"degradation.kind": "compose", "degradation.parts": parts, "degradation.shares": [1, 1]})
    assert holder.degradation == Compose(parts=(Haze(), GaussianNoise()), shares=(1, 1))
    assert holder.identity != Holder().replace({"degradation.kind": "compose"}).identity
    assert Holder.parse(holder.model_dump(mode="json")) == holder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parts": []}, "parts"),
        ({"parts": [{"kind": "compose"}]}, "a part cannot be compose"),
        ({"parts": [Compose()]}, "a part cannot be compose"),
        ({"parts": [{"kind": "gaussian_blur"}, {"kind": "mixture"}]}, "a part cannot be mixture"),
        ({"parts": [{"kind": "random_inpainting"}, {"kind": "jpeg"}]}, "random_inpainting must be the last part"),
        ({"parts": [{"kind": "super_resolution"}, {"kind": "jpeg"}]}, "super_resolution must be the last part"),
        (
            {"parts": [{"kind": "deepinv_physics", "factory": "deepinv_factories:defocus"}, {"kind": "jpeg"}]},
            "deepinv_physics must be the last part",
        ),
        ({"parts": [{"kind": "fog"}]}, "unknown kind 'fog' for degradation.parts.0; available: gaussian_blur"),
        ({"parts": "gaussian_blur"}, "degradation.parts"),
        ({"shares": [1, 0.5]}, "one share for each of the 3 parts, got 2"),
        ({"shares": [0.5, 0.5, 0.5]}, "the largest share, that of the worst part, must be 1"),
        ({"shares": [1, 1, 1.5]}, "shares"),
        ({"shares": [1, 1, -1]}, "shares"),
        ({"noise_std": 7}, "noise_std"),
    ],
)
def test_compositions_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        Holder.parse({"degradation": {"kind": "compose", **fields}})
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_users_physics_may_be_the_last_part_and_is_checked() -> None:
    compose = Compose(parts=(GaussianNoise(), DeepinvPhysics(factory="deepinv_factories:halved")))
    compose.check((1, 16, 16), gradient=True)
    x, severity, ids = batch()
    measured = compose.measure(x, severity, ids, 0)
    assert measured.y.shape == (NUM_IMAGES, 1, 8, 8)
    assert measured.encoder_input().shape == x.shape
    with pytest.raises(UserError, match="not differentiable"):
        Compose(parts=(DeepinvPhysics(factory="deepinv_factories:rounded"),)).check((1, 16, 16), gradient=True)
