"""MRI: complex images and frequencies, by one rule whether the operator has them as channels or as complex numbers."""

import math

import deepinv_factories
import pytest
import torch
from torch import Tensor

from workbench import randomness
from workbench.degradations import DeepinvPhysics, GivenPhysics
from workbench.measurement import Measurement, as_real
from workbench.severity.variance.residual import residual_variance
from workbench.solvers.base import norms
from workbench.stages.trivial import residual_rms

SHAPE = (2, 12, 16)
NUM = 6
every = pytest.mark.parametrize("factory", ["mri", "complex_mri"])


def operator(factory: str, **fields: object) -> DeepinvPhysics:
    return DeepinvPhysics(factory=f"deepinv_factories:{factory}", claims_linear=True, **fields)


def images() -> Tensor:
    return randomness.uniform(torch.arange(NUM), ("complex",), SHAPE)


def measured(factory: str, severity: float = 1.0, noise_std: float | None = 0.1) -> Measurement:
    settings = {} if noise_std is None else {"sigma": noise_std * (math.sqrt(2) if factory == "complex_mri" else 1)}
    return operator(factory, settings=settings).measure(images(), torch.full((NUM,), severity), torch.arange(NUM), 0)


def frequencies(x: Tensor) -> Tensor:
    """In closed form, (batch, height, width) complex."""
    image = torch.fft.ifftshift(torch.complex(x[:, 0], x[:, 1]), (-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(image, norm="ortho"), (-2, -1))


def complex_of(factory: str, y: Tensor) -> Tensor:
    return torch.view_as_complex((y.movedim(1, -1) if factory == "mri" else y).contiguous())


@every
def test_it_is_sound(factory: str) -> None:
    operator(factory).check(SHAPE, gradient=True)


@every
def test_y_is_real_and_holds_the_frequencies(factory: str) -> None:
    m = measured(factory)
    shape = (2, 12, 16) if factory == "mri" else (12, 16, 2)
    assert m.y.dtype == torch.float32
    assert m.y.shape == (NUM, *shape)
    clean = complex_of(factory, operator(factory).A(images(), m.params))
    torch.testing.assert_close(clean, deepinv_factories.kept_rows(1.0, SHAPE) * frequencies(images()))


@every
def test_each_part_of_a_measured_frequency_is_an_entry(factory: str) -> None:
    m = measured(factory)
    assert m.num_observed().tolist() == [2 * 4 * 16] * NUM  # every third of 12 rows
    assert measured(factory, severity=0.0).num_observed().tolist() == [2 * 12 * 16] * NUM


@every
def test_noise_is_that_of_each_part(factory: str) -> None:
    m = measured(factory, severity=0.0)
    torch.testing.assert_close(m.noise_std, torch.full((NUM,), 0.1))
    noise = complex_of(factory, m.y) - frequencies(images())
    assert noise.real.std().item() == pytest.approx(0.1, rel=0.1)
    assert noise.imag.std().item() == pytest.approx(0.1, rel=0.1)
    ours = operator(factory, noise_std=0.05).measure(images(), torch.zeros(NUM), torch.arange(NUM), 0)
    assert ours.noise_std.tolist() == pytest.approx([0.05] * NUM)


def test_deepinvs_noise_on_complex_values_is_divided_between_the_parts() -> None:
    physics = deepinv_factories.complex_mri(0.0, SHAPE, sigma=0.1)
    noise = physics(images()) - physics.A(images())
    stated = GivenPhysics(physics=physics).measurement(physics(images()), image_shape=SHAPE).noise_std
    assert noise.real.std().item() == pytest.approx(float(stated[0]), rel=0.1)
    with pytest.raises(Exception, match=r"standard deviation of 0\.0707\d*, but noise_std is 0\.1"):
        GivenPhysics(physics=physics, noise_std=0.1).check(SHAPE, gradient=True)


@every
def test_the_residual_is_that_of_the_complex_values(factory: str) -> None:
    m, x = measured(factory), images().flip(0)
    residual = m.residual(operator(factory).A(x, m.params))
    rows = deepinv_factories.kept_rows(1.0, SHAPE)
    expected = rows * (complex_of(factory, m.y) - frequencies(x))
    torch.testing.assert_close(complex_of(factory, residual), expected)
    torch.testing.assert_close(norms(residual), expected.abs().square().sum((1, 2)).sqrt())
    rms = residual_rms(m, operator(factory), x)
    torch.testing.assert_close(rms, (expected.abs().square().sum((1, 2)) / (2 * rows.sum())).sqrt())


@every
def test_the_adjoint_is_that_of_the_real_inner_product(factory: str) -> None:
    m, x = measured(factory), images()
    v = randomness.normal(m.ids, ("v",), tuple(m.y.shape[1:]))
    forth = (operator(factory).A(x, m.params) * v).flatten(1).sum(1)
    back = operator(factory).A_adjoint(v, m.params)
    assert back.shape == x.shape
    torch.testing.assert_close(forth, (x * back).flatten(1).sum(1), rtol=1e-4, atol=1e-4)


@every
def test_an_encoder_reads_an_image_and_not_frequencies(factory: str) -> None:
    m = measured(factory, severity=0.0)
    torch.testing.assert_close(operator(factory).A(m.encoder_input(), m.params), m.y, atol=1e-3, rtol=0)
    moved = operator(factory).with_values(m, 2 * m.y)
    torch.testing.assert_close(moved.encoder_input(), 2 * m.encoder_input(), atol=1e-3, rtol=0)
    assert torch.equal(moved.noise_std, m.noise_std)


def test_a_complex_y_of_the_users_is_carried_as_real_parts() -> None:
    physics = deepinv_factories.complex_mri(0.5, SHAPE)
    y = physics(images())
    m = GivenPhysics(physics=physics).measurement(y, image_shape=SHAPE)
    assert torch.equal(m.y, as_real(y) * m.observed)
    again = GivenPhysics(physics=physics).measurement(as_real(y), image_shape=SHAPE)
    assert torch.equal(again.y, m.y)
    with pytest.raises((ValueError, TypeError), match=r"complex|y"):  # TypeError: from --typecheck, which looks first
        Measurement(y, torch.arange(NUM), torch.zeros(NUM))


@every
def test_the_residual_tells_the_variance_of_the_latent_error(factory: str) -> None:
    """D is the identity and A orthonormal rows: |A e|^2 / m is the variance of e, and the encoder does not read y."""
    m, v = measured(factory, severity=0.5), torch.tensor([0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
    error = v.sqrt().reshape(-1, 1, 1, 1) * randomness.normal(m.ids, ("error",), SHAPE)
    z_hat = images() + error
    op = operator(factory)
    found = residual_variance(
        z_hat, m, lambda z, m: op.A(z, dict(m.params)), lambda y, m: z_hat, torch.ones(NUM), seed=0
    )
    torch.testing.assert_close(found, v, rtol=0.35, atol=0.0)
