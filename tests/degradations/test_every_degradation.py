"""Properties that every degradation has."""

import math
from collections.abc import Mapping

import pytest
import torch
from every_degradation import EVERY
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.degradations import AtSeverity, Degradation, Poisson, nearest_equivalent

LINEAR = [degradation for degradation in EVERY if degradation.linear]
SEED = 3

every = pytest.mark.parametrize("degradation", EVERY, ids=lambda degradation: degradation.kind)
every_linear = pytest.mark.parametrize("degradation", LINEAR, ids=lambda degradation: degradation.kind)
grey_and_colour = pytest.mark.parametrize("channels", [1, 3])


def shapes(num_images: int, channels: int = 1, size: int = 32) -> Tensor:
    """Images on [0, 1] with a smooth ground, a disc and a bar, each of its own place and brightness."""
    g = torch.Generator().manual_seed(num_images)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    draw = torch.rand(num_images, channels, 8, 1, 1, generator=g)
    ground = 0.3 + 0.2 * torch.sin(3 * draw[:, :, 0] * rows + 4 * draw[:, :, 1] * columns + 6 * draw[:, :, 2])
    disc = (rows - draw[:, :, 3] + 0.5) ** 2 + (columns - draw[:, :, 4] + 0.5) ** 2 < 0.2
    bar = (columns - draw[:, :, 5] + 0.5).abs() < 0.15
    return torch.where(disc, draw[:, :, 6], torch.where(bar, draw[:, :, 7], ground))


def image_ids(num_images: int) -> Tensor:
    return 1_000_003 * torch.arange(num_images) + 7


def measure(degradation: Degradation, x: Tensor, severity: float | Tensor, seed: int = SEED) -> Measurement:
    per_image = severity if isinstance(severity, Tensor) else torch.full((len(x),), severity)
    return degradation.measure(x, per_image, image_ids(len(x)), seed)


def seen(degradation: Degradation, y: Tensor, params: Mapping[str, Tensor]) -> Tensor:
    """The image-domain view of measured values."""
    view = degradation.view(y, params)
    return y if view is None else view


def psnr(error: Tensor) -> float:
    """Of images on [0, 1], in dB."""
    return -10 * math.log10(max(float(error.square().mean()), 1e-20))


def assert_same(one: Measurement, other: Measurement) -> None:
    ours, theirs = one._tensors(), other._tensors()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=2e-6)


@every_linear
@grey_and_colour
@pytest.mark.parametrize("size", [32, 5])
def test_adjoint(degradation: Degradation, channels: int, size: int) -> None:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(6, channels, size, size + 1, generator=g, dtype=torch.float64)
    params = degradation.parameters(torch.linspace(0, 1, 6), image_ids(6), SEED, (channels, size, size + 1))
    forward = degradation.A(x, params)
    y = torch.randn(forward.shape, generator=g, dtype=torch.float64)
    left, right = (forward * y).sum(), (x * degradation.A_adjoint(y, params)).sum()
    assert abs(left - right) <= 1e-5 * float(forward.norm() * y.norm())


@every_linear
def test_linear(degradation: Degradation) -> None:
    x = shapes(6)
    params = degradation.parameters(torch.linspace(0, 1, 6), image_ids(6), SEED, (1, 32, 32))
    combined = degradation.A(2 * x - 3 * x.flip(0), params)
    torch.testing.assert_close(combined, 2 * degradation.A(x, params) - 3 * degradation.A(x.flip(0), params))


@every
def test_only_linear_ones_have_an_adjoint(degradation: Degradation) -> None:
    measurement = measure(degradation, shapes(2), 0.5)
    if degradation.linear:
        assert degradation.A_adjoint(measurement.y, measurement.params).shape == (2, 1, 32, 32)
    else:
        with pytest.raises(UserError, match="not linear"):
            degradation.A_adjoint(measurement.y, measurement.params)


@every
@grey_and_colour
def test_mildest_level_is_nearly_the_identity(degradation: Degradation, channels: int) -> None:
    x = shapes(32, channels)
    params = degradation.parameters(torch.zeros(32), image_ids(32), SEED, (channels, 32, 32))
    for image, measured in zip(x, seen(degradation, degradation.A(x, params), params), strict=True):
        resolved = nearest_equivalent(degradation, measured[None], image[None])[0]
        assert psnr(resolved - image) >= degradation.identity_db


# the noise of photons is their own
@pytest.mark.parametrize("degradation", [d for d in EVERY if not isinstance(d, Poisson)], ids=lambda d: d.kind)
@pytest.mark.parametrize("noise_std", [0.05, 0.1])
def test_noise_std_is_on_the_scale_of_unit_images(degradation: Degradation, noise_std: float) -> None:
    degradation = degradation.replace(noise_std=noise_std)
    x = shapes(64)
    measurement = measure(degradation, x, 0.0)
    noise = measurement.y - degradation.A(x, measurement.params)
    if measurement.observed is not None:
        noise = noise[measurement.observed.expand_as(noise) != 0]
    num_pixels = noise.numel()
    assert torch.equal(measurement.noise_std, torch.full((64,), noise_std))
    assert noise.std().item() == pytest.approx(noise_std, rel=5 / math.sqrt(2 * num_pixels))
    assert abs(noise.mean().item()) < 5 * noise_std / math.sqrt(num_pixels)
    # the same in decibels: 0.1 on [0, 1] is 20 dB, on [-1, 1] it would be 26 dB
    assert psnr(noise) == pytest.approx(-20 * math.log10(noise_std), abs=0.2)


@every
def test_stated_noise_is_the_noise_at_any_level(degradation: Degradation) -> None:
    x = shapes(64)
    measurement = measure(degradation, x, torch.linspace(0, 1, 64))
    residual = measurement.residual(degradation.A(x, measurement.params))
    unit = residual / measurement.noise_std.reshape(-1, *[1] * (residual.ndim - 1))
    variance = unit.square().sum() / measurement.num_observed().sum()
    drawn = 5 * math.sqrt(2 / float(measurement.num_observed().sum()))
    assert variance.item() == pytest.approx(1, rel=drawn + degradation.noise_error)


@every
@grey_and_colour
def test_error_grows_with_severity(degradation: Degradation, channels: int) -> None:
    x = shapes(32, channels)
    levels = (0.0, 0.25, 0.5, 0.75, 1.0)
    views = [measure(degradation, x, level).encoder_input() for level in levels]
    errors = [(nearest_equivalent(degradation, view, x) - x).square().mean().item() for view in views]
    assert errors == sorted(errors)
    assert errors[-1] > 1.5 * errors[0]


@every
def test_equivalents_are_other_images_that_measure_the_same(degradation: Degradation) -> None:
    x = shapes(7, 3)
    params = degradation.parameters(torch.linspace(0, 1, 7), image_ids(7), SEED, (3, 32, 32))
    for other in degradation.equivalents(x):
        assert ((other - x).flatten(1).norm(dim=1) > 0.1).all()
        torch.testing.assert_close(degradation.A(other, params), degradation.A(x, params), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("degradation", [d for d in EVERY if not d.surrogate_gradient], ids=lambda d: d.kind)
@grey_and_colour
def test_gradient(degradation: Degradation, channels: int) -> None:
    num_images = 8
    g = torch.Generator().manual_seed(2)
    # far enough from 0 and 1 that nothing is clipped
    x = 0.2 + 0.4 * torch.rand(num_images, channels, 3, 4, generator=g, dtype=torch.float64)
    severity = torch.linspace(0.1, 0.9, num_images, dtype=torch.float64)
    params = degradation.parameters(severity, image_ids(num_images), SEED, (channels, 3, 4))
    assert torch.autograd.gradcheck(lambda x: degradation.A(x, params), x.requires_grad_())


@every
def test_gradient_is_finite_outside_the_range_of_images(degradation: Degradation) -> None:
    x = torch.linspace(-0.5, 1.5, 8 * 64).reshape(8, 1, 8, 8).requires_grad_()
    params = degradation.parameters(torch.full((8,), 0.5), image_ids(8), SEED, (1, 8, 8))
    (gradient,) = torch.autograd.grad(degradation.A(x, params).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@every
@grey_and_colour
def test_an_image_does_not_depend_on_its_batch(degradation: Degradation, channels: int) -> None:
    x, severity, ids = shapes(7, channels), torch.linspace(0, 1, 7), image_ids(7)
    together = degradation.measure(x, severity, ids, SEED)
    each = [degradation.measure(x[i : i + 1], severity[i : i + 1], ids[i : i + 1], SEED) for i in range(7)]
    assert_same(Measurement.cat(each), together)
    backwards = degradation.measure(x.flip(0), severity.flip(0), ids.flip(0), SEED)
    assert_same(backwards.take(list(range(6, -1, -1))), together)


@every
def test_operator_on_a_part_of_the_batch(degradation: Degradation) -> None:
    x = shapes(7)
    measurement = measure(degradation, x, torch.linspace(0, 1, 7))
    whole = degradation.A(x, measurement.params)
    for part in ([5], [6, 0, 3], [2, 2]):
        torch.testing.assert_close(degradation.A(x[part], measurement.take(part).params), whole[part])
    # and the whole batch again: the subset has left nothing behind
    assert torch.equal(degradation.A(x, measurement.params), whole)


@every
def test_draws_are_keyed_by_seed_and_id(degradation: Degradation) -> None:
    x = shapes(1).expand(8, -1, -1, -1)
    severity = torch.full((8,), 0.5)
    before = torch.random.get_rng_state()
    one = degradation.measure(x, severity, image_ids(8), SEED)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_same(degradation.measure(x, severity, image_ids(8), SEED), one)
    other_seed = degradation.measure(x, severity, image_ids(8), SEED + 1)
    for i in range(8):
        assert not torch.allclose(one.y[i], other_seed.y[i], atol=1e-3)
        assert not torch.allclose(one.y[i], one.y[(i + 1) % 8], atol=1e-3)


@every
@pytest.mark.parametrize("severity", [-0.01, 1.01, math.nan, math.inf])
def test_severity_outside_the_unit_interval_is_refused(degradation: Degradation, severity: float) -> None:
    with pytest.raises(UserError, match="severity"):
        measure(degradation, shapes(3), torch.tensor([0.5, severity, 0.5]))


@every
def test_severity_in_integers_is_refused(degradation: Degradation) -> None:
    # with --typecheck the annotation refuses it first
    with pytest.raises((UserError, TypeError), match=r"floating-point|Float\["):
        measure(degradation, shapes(3), torch.tensor([0, 1, 0]))


@every
def test_measurement_has_the_images_make(degradation: Degradation) -> None:
    x = shapes(3, 3)
    severity = torch.tensor([0.0, 0.5, 1.0])
    measurement = measure(degradation, x, severity)
    assert measurement.y.dtype == torch.float32
    assert measurement.encoder_input().shape == x.shape
    assert measurement.view is not None or measurement.y.shape == x.shape
    assert measurement.severity is not None
    assert torch.equal(measurement.severity, severity)
    assert all(value.isfinite().all() for value in measurement.params.values())


@every
def test_levels_are_described_in_their_units(degradation: Degradation) -> None:
    mild, strong = degradation.describe(0.0), degradation.describe(1.0)
    assert mild != strong
    assert any(character.isdigit() for character in strong)
    assert degradation.severity_range


@pytest.mark.parametrize("degradation", [d for d in EVERY if not isinstance(d, AtSeverity)], ids=lambda d: d.kind)
def test_severities_are_drawn_on_the_unit_interval_by_id(degradation: Degradation) -> None:
    severity = degradation.draw_severity(image_ids(500), SEED)
    assert torch.equal(degradation.draw_severity(image_ids(500)[100:], SEED), severity[100:])
    assert 0 <= severity.min() < 0.02
    assert 0.98 < severity.max() <= 1
