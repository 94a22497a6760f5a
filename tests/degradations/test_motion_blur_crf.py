"""What is special about motion blur with a camera response."""

import pytest
import torch

from workbench.degradations import MotionBlurCRF, physics
from workbench.degradations.motion_blur_crf import camera_path, camera_response, rasterise, to_linear_light

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


def filters(severity: float, num_images: int = 32) -> torch.Tensor:
    levels = torch.full((num_images,), severity)
    return MotionBlurCRF().parameters(levels, torch.arange(num_images), 2, (1, 32, 32))["filter"]


@pytest.mark.parametrize("severity", LEVELS)
def test_filters_are_centred_weights(severity: float) -> None:
    weights = filters(severity)[:, 0]
    offset = torch.arange(-9.0, 10)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(32))
    for axis in (1, 2):
        torch.testing.assert_close(weights.sum(axis) @ offset, torch.zeros(32), atol=1e-4, rtol=0)


def test_no_motion_at_the_mildest_level() -> None:
    weights = filters(0.0)
    torch.testing.assert_close(weights[:, 0, 9, 9], torch.ones(32))


def test_spread_of_every_filter_grows_with_severity() -> None:
    offset = torch.arange(-9.0, 10)
    radius2 = offset[:, None] ** 2 + offset**2
    spreads = torch.stack([(filters(severity)[:, 0] * radius2).sum((1, 2)) for severity in LEVELS])
    assert (spreads.diff(dim=0) > 0).all()


def test_extent_of_the_path_is_in_pixels() -> None:
    shake = torch.randn(16, 96, 2, generator=torch.Generator().manual_seed(0))
    path = camera_path(shake, torch.linspace(0, 9, 16))
    longer_side = (path.amax(1) - path.amin(1)).amax(1)
    torch.testing.assert_close(longer_side, torch.linspace(0, 9, 16))
    assert path.abs().max() <= 9


@pytest.mark.parametrize("severity", LEVELS)
def test_filter_covers_the_stated_extent(severity: float) -> None:
    touched = filters(severity)[:, 0] > 1e-6
    for image in touched:
        rows, columns = image.nonzero().unbind(1)
        longer_side = max(rows.max() - rows.min(), columns.max() - columns.min())
        # from pixel centre to pixel centre, sharing among neighbours adds up to a pixel at each end
        assert -1e-3 <= longer_side - 9 * severity <= 2


def test_path_is_smooth() -> None:
    shake = torch.randn(16, 96, 2, generator=torch.Generator().manual_seed(0))
    velocity = camera_path(shake, torch.full((16,), 9.0)).diff(dim=1)
    following = (velocity[:, 1:] * velocity[:, :-1]).sum((1, 2)) / velocity.square().sum((1, 2))
    assert (following > 0.5).all()


def test_a_point_is_shared_among_its_four_pixels() -> None:
    (weights,) = rasterise(torch.tensor([[[1.25, -2.0]]]))[:, 0]
    assert weights[10, 7] == pytest.approx(0.75)
    assert weights[11, 7] == pytest.approx(0.25)
    assert weights.sum() == pytest.approx(1)
    corner = rasterise(torch.tensor([[[9.0, -9.0]]]))[0, 0]
    assert corner[18, 0] == pytest.approx(1)


@pytest.mark.parametrize(("value", "light"), [(0.0, 0.0), (0.04045, 0.0031308), (0.5, 0.2140411), (1.0, 1.0)])
def test_curve_is_srgb(value: float, light: float) -> None:
    assert to_linear_light(torch.tensor(value)).item() == pytest.approx(light, abs=1e-6)
    assert camera_response(torch.tensor(light)).item() == pytest.approx(value, abs=1e-5)


def test_curves_undo_each_other_also_outside_the_range() -> None:
    value = torch.linspace(-0.5, 1.5, 401, dtype=torch.float64)
    torch.testing.assert_close(camera_response(to_linear_light(value)), value, atol=1e-6, rtol=1e-6)


def test_light_is_averaged_not_values() -> None:
    x = torch.zeros(16, 1, 32, 32)
    x[:, :, :, 16:] = 1
    params = MotionBlurCRF().parameters(torch.full((16,), 0.8), torch.arange(16), 0, (1, 32, 32))
    params = {**params, "gain": torch.ones(16, 1, 1, 1)}
    in_light = MotionBlurCRF().A(x, params)
    in_values = physics.blur(params["filter"], x).A(x)
    mixed = (in_values > 0.05) & (in_values < 0.95)
    assert mixed.any()
    assert (in_light[mixed] > in_values[mixed] + 0.01).all()


def test_exposure_brightens_and_clips() -> None:
    x = torch.full((2, 1, 8, 8), 0.5)
    params = MotionBlurCRF().parameters(torch.tensor([0.0, 1.0]), torch.arange(2), 0, (1, 8, 8))
    mild, strong = MotionBlurCRF().A(x, params)[:, 0, 0, 0].tolist()
    assert mild == pytest.approx(0.5, abs=1e-5)
    assert strong == pytest.approx(camera_response(torch.tensor(1.3 * 0.2140411)).item(), abs=1e-5)
    white = MotionBlurCRF().A(torch.full((2, 1, 8, 8), 0.95), params)
    assert white[1].unique().tolist() == [1.0]
    assert white.max() <= 1
