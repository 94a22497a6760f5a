"""Phase retrieval in closed form: magnitudes, their noise, what they cannot tell, the view, and a user's magnitudes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.degradations import AtSeverity, GaussianNoise, PhaseRetrieval, nearest_equivalent

NUM = 6
IDS = torch.arange(NUM)


def images(channels: int = 1, height: int = 12, width: int = 16) -> Tensor:
    """Few bright places on a dark ground, which explain their magnitudes alone."""
    return randomness.uniform(IDS, ("images",), (channels, height, width)) ** 4


def error(x_hat: Tensor, x: Tensor) -> Tensor:
    return (nearest_equivalent(PhaseRetrieval(), x_hat, x) - x).square().flatten(1).mean(1)


def test_y_holds_the_magnitudes_of_the_padded_image() -> None:
    x = images(2)
    y = PhaseRetrieval(oversampling=3).A(x, {})
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 24), (0, 32)))
    assert y.shape == (NUM, 2, 36, 48)
    np.testing.assert_allclose(y.numpy(), np.abs(np.fft.fft2(padded, norm="ortho")), rtol=1e-4, atol=1e-5)


def test_noise_grows_tenfold_by_equal_factors() -> None:
    operator = PhaseRetrieval(noise_std=0.03)
    assert operator.noise_level(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.03, 0.0949, 0.3], rel=1e-3)
    measurement = operator.measure(images(), torch.ones(NUM), IDS, 0)
    assert (measurement.y - operator.A(images(), {})).std().item() == pytest.approx(0.3, rel=0.05)


def test_gradient_of_a_black_image_is_finite() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(PhaseRetrieval().A(x, {}).sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_only_the_turned_image_is_an_equivalent() -> None:
    x = images()
    operator = PhaseRetrieval()
    torch.testing.assert_close(operator.A(x.rot90(2, (2, 3)), {}), operator.A(x, {}), rtol=1e-4, atol=1e-5)
    for other in (x.flip(2), x.flip(3), 1 - x):
        assert (operator.A(other, {}) - operator.A(x, {})).abs().max() > 0.1


def test_the_nearest_equivalent_is_chosen_for_each_image() -> None:
    x = images(2)
    turned = torch.tensor([True, False, True, True, False, False])[:, None, None, None]
    given = torch.where(turned, x.flip(2, 3), x) + 0.01
    torch.testing.assert_close(nearest_equivalent(PhaseRetrieval(), given, x), x + 0.01)
    torch.testing.assert_close(nearest_equivalent(AtSeverity(member=PhaseRetrieval()), given, x), x + 0.01)
    assert nearest_equivalent(GaussianNoise(), given, x) is given


def test_view_finds_an_image_on_a_dark_ground() -> None:
    x = images()
    x[:, :, 8:] = x[:, :, :, 10:] = 0  # known support is loose, so the image is shown at some place in it
    operator = PhaseRetrieval(iterations=150, starts=4)
    view = operator.view(operator.A(x, {}), {})
    residual = (operator.A(view, {}) - operator.A(x, {})).square().mean((1, 2, 3)).sqrt()
    assert residual.median() < 0.03
    assert view.min() >= 0
    assert view.max() <= 1


def test_more_starts_explain_y_better() -> None:
    x = images()
    y = PhaseRetrieval().A(x, {})

    def residual(starts: int) -> Tensor:
        operator = PhaseRetrieval(starts=starts)
        return (operator.A(operator.view(y, {}), {}) - y).square().mean((1, 2, 3))

    one, several = residual(1), residual(5)
    assert (several <= one + 1e-9).all()
    assert several.mean() < 0.8 * one.mean()


def test_channels_of_the_view_are_turned_alike() -> None:
    one = images()
    x = torch.cat([one, 0.8 * one, 0.5 * one + 0.1 * one.roll(1, 3)], 1)
    operator = PhaseRetrieval(iterations=100)
    view = operator.view(operator.A(x, {}), {})
    for channel in (1, 2):
        alike = (view[:, 0] * view[:, channel]).sum((1, 2))
        turned = (view[:, 0] * view[:, channel].flip(1, 2)).sum((1, 2))
        assert (alike >= turned).all()


def test_magnitudes_of_a_user_are_taken_without_a_channel() -> None:
    operator = PhaseRetrieval()
    measured = operator.measure(images(), torch.full((NUM,), 0.5), IDS, 0)
    assert operator.image_shape(measured.y[:, 0]) == (1, 12, 16)
    found = given(operator, measured.y[:, 0])
    assert torch.equal(found.y, measured.y)
    assert found.view is not None
    torch.testing.assert_close(found.view, measured.view)


def given(operator: PhaseRetrieval, y: Tensor) -> Measurement:
    """As from a user's file."""
    operator.image_shape(y)
    return operator.given_measurement(y, torch.full((NUM,), 0.5), IDS, {})[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[..., :-1], "expected real magnitudes: N x channels x 2 height x 2 width"),
        (lambda y: y + 0j, "expected real magnitudes"),
        (lambda y: y[0, 0], "expected real magnitudes"),
        (
            lambda y: torch.fft.fftshift(y, (-2, -1)),
            "zero frequency in the middle: give it first, by numpy.fft.ifftshift",
        ),
        (lambda y: -y, "negative on average: give magnitudes"),
        (lambda y: 255 * y, "divide it by the value of white"),
    ],
    ids=["odd", "complex", "one", "shifted", "logarithm", "8 bits"],
)
def test_what_cannot_be_magnitudes_is_refused(change, message: str) -> None:
    operator = PhaseRetrieval()
    y = change(operator.A(0.2 + images(), {}))
    with pytest.raises(UserError, match=message):
        given(operator, y)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="oversampling"):
        PhaseRetrieval().replace(oversampling=1)
