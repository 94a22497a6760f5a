"""LDPS guidance in closed form: with D, A and the prior linear, grad_z ||y - A D z0_hat(z)|| = -J^T r / ||r||."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from stubs import CurvedDegradation, LinearAutoencoder, LinearPrior, StubDegradation, images
from torch import Tensor, nn

from workbench import randomness
from workbench.degradations import Degradation, GaussianBlur, RandomInpainting
from workbench.diffusion import DDIM, DDPM
from workbench.measurement import Measurement
from workbench.solvers import LDPS, Networks, NoGuidance, Step

LINEAR = [StubDegradation(), GaussianBlur(), RandomInpainting()]
NUM = 3

every_linear = pytest.mark.parametrize("degradation", LINEAR, ids=lambda degradation: degradation.kind)


def step_of(degradation: Degradation, **changes: Any) -> Step:
    """A step of three images at timesteps of their own, on 8 x 8 images and linear networks."""
    x, ids = images(NUM)
    z, noise = torch.randn(2, NUM, 4, 4, 4, generator=randomness.generator("z"))
    given = {
        "z": z,
        "position": torch.tensor([299, 879, 996]),
        "timestep": torch.tensor([700, 120, 3]),
        "timestep_next": torch.tensor([690, 119, -1]),
        "noise": noise,
        "measurement": degradation.measure(x, torch.tensor([0.2, 0.5, 0.9]), ids, 0),
        "networks": Networks(
            LinearAutoencoder(scale=1.6, shift=0.3), LinearPrior(), degradation, [Counter() for _ in range(NUM)]
        ),
        "sampler": DDPM(num_steps=1000),
    }
    return Step(**(given | changes))


def guidance(step: Step, scale: float = 1.0) -> Tensor:
    """What the data term adds to a step, without its minus sign."""
    return NoGuidance().step(step) - LDPS(guidance_scale=scale).step(step)


def closed_form(step: Step) -> Tensor:
    networks, measurement = step.networks, step.measurement
    assert isinstance(networks.autoencoder, LinearAutoencoder)
    assert isinstance(networks.prior, LinearPrior)
    params: Mapping[str, Tensor] = measurement.params
    z0_hat = networks.prior.unet(step.z, step.timestep).sample
    residual = measurement.y - networks.degradation.A(networks.autoencoder.decode(z0_hat), params)
    if measurement.observed is not None:
        residual = residual * measurement.observed
    back = networks.degradation.A_adjoint(residual, params)
    gradient = -networks.prior.predict_adjoint(networks.autoencoder.decode_adjoint(back))
    return gradient / residual.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


@every_linear
@pytest.mark.parametrize("scale", [0.0, 0.7, 3.0])
def test_guidance_is_the_gradient_of_the_residual_norm(degradation: Degradation, scale: float) -> None:
    step = step_of(degradation)
    torch.testing.assert_close(guidance(step, scale), scale * closed_form(step), rtol=1e-4, atol=1e-5)


@every_linear
def test_guidance_goes_against_the_residual(degradation: Degradation) -> None:
    """A small step lowers the norm by its length times the gradient's: the sign is right."""
    step = step_of(degradation)
    gradient, size = guidance(step), 1e-2

    def norms(z: Tensor) -> Tensor:
        return step.residual_norm(step.networks.predict(z, step.timestep)[0])

    fall = norms(step.z) - norms(step.z - size * gradient)
    torch.testing.assert_close(fall, size * gradient.square().sum((1, 2, 3)), rtol=0.05, atol=1e-5)


def test_the_norm_is_not_squared() -> None:
    """Where A and D keep lengths, so does the gradient: its length is that of one unit vector, however large y is."""
    step = step_of(StubDegradation())
    ones = step.measurement.with_params(gain=torch.ones(NUM, 1, 1, 1))
    for size in (0.1, 1.0, 50.0):
        y = step.measurement.y * size
        louder = Measurement(y=y, ids=ones.ids, noise_std=ones.noise_std, params=ones.params)
        length = guidance(step_of(StubDegradation(), measurement=louder)).flatten(1).norm(dim=1)
        # prior 0.7, decoder 1 / (2 scale), and the gradient of a norm is of length 1
        torch.testing.assert_close(length, torch.full((NUM,), 0.7 / 2 / 1.6), rtol=1e-4, atol=0)


class Stretched(LinearAutoencoder):
    """As if images were on a range twice as wide."""

    def decode(self, z: Tensor) -> Tensor:
        return 2 * super().decode(z)


def test_residuals_are_on_the_range_of_the_images() -> None:
    """The same problem with images (and y) on a range twice as wide: the norm doubles, and so does its gradient.

    So published guidance scales, made for [-1, 1], are doubled for [0, 1].
    """
    step = step_of(StubDegradation())
    m = step.measurement
    doubled = step_of(
        StubDegradation(),
        measurement=Measurement(y=2 * m.y, ids=m.ids, noise_std=2 * m.noise_std, params=m.params),
        networks=Networks(Stretched(scale=1.6, shift=0.3), LinearPrior(), StubDegradation()),
    )
    z0_hat, _ = step.networks.predict(step.z, step.timestep)
    torch.testing.assert_close(doubled.residual_norm(z0_hat), 2 * step.residual_norm(z0_hat))
    torch.testing.assert_close(guidance(doubled), 2 * guidance(step), rtol=1e-4, atol=1e-5)


def test_the_residual_norm_is_on_zero_to_one() -> None:
    """A black y against a white D(z): one a pixel, not two."""
    autoencoder = LinearAutoencoder()
    white, ids = torch.ones(NUM, 1, 8, 8), torch.arange(NUM)
    measurement = Measurement(
        y=torch.zeros(NUM, 1, 8, 8),
        ids=ids,
        noise_std=torch.zeros(NUM),
        params={"gain": torch.ones(NUM, 1, 1, 1)},
    )
    step = step_of(
        StubDegradation(),
        measurement=measurement,
        networks=Networks(autoencoder, LinearPrior(), StubDegradation()),
    )
    torch.testing.assert_close(step.residual_norm(autoencoder.encode(white)), torch.full((NUM,), 8.0))


@every_linear
def test_an_images_step_does_not_depend_on_its_neighbours(degradation: Degradation) -> None:
    step = step_of(degradation)
    whole = LDPS(guidance_scale=2.0).step(step)
    for i in range(NUM):
        alone = step.take(torch.tensor([i]))
        torch.testing.assert_close(LDPS(guidance_scale=2.0).step(alone)[0], whole[i], rtol=1e-4, atol=1e-5)


def test_what_was_not_observed_does_not_matter() -> None:
    step = step_of(RandomInpainting())
    m = step.measurement
    assert m.observed is not None
    assert (m.observed == 0).any()
    nonsense = torch.where(m.observed == 0, 100.0, m.y)
    other = step_of(
        RandomInpainting(),
        measurement=Measurement(y=nonsense, ids=m.ids, noise_std=m.noise_std, params=m.params, observed=m.observed),
    )
    torch.testing.assert_close(guidance(other), guidance(step), rtol=1e-5, atol=1e-6)


def test_a_residual_of_zero_gives_no_guidance_and_no_nan() -> None:
    step = step_of(StubDegradation())
    m = step.measurement
    z0_hat, _ = step.networks.predict(step.z, step.timestep)
    y = step.networks.degradation.A(step.networks.autoencoder.decode(z0_hat), m.params)
    exact = step_of(StubDegradation(), measurement=Measurement(y=y, ids=m.ids, noise_std=m.noise_std, params=m.params))
    torch.testing.assert_close(guidance(exact), torch.zeros_like(step.z), rtol=0, atol=0)


def test_guidance_works_on_operators_that_are_not_linear() -> None:
    step = step_of(CurvedDegradation())
    gradient, size = guidance(step), 1e-3
    for i in range(NUM):
        nudge = torch.zeros_like(step.z)
        nudge[i, 1, 2, 0] = size
        norms = [
            float(step.residual_norm(step.networks.predict(z, step.timestep)[0])[i])
            for z in (step.z + nudge, step.z - nudge)
        ]
        assert float(gradient[i, 1, 2, 0]) == pytest.approx((norms[0] - norms[1]) / (2 * size), rel=0.05, abs=2e-3)


class Square(nn.Module):
    """A prior network whose Jacobian depends on z."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet, self.config = unet, unet.config

    def forward(self, z: Tensor, timestep: Tensor) -> Any:
        return self.unet(z.square(), timestep)


def test_the_gradient_passes_through_the_prior() -> None:
    """With z0_hat(z) = M z^2 the chain rule gives a factor 2 z: guidance is on z, not on z0_hat."""
    prior = LinearPrior()
    prior.unet = Square(prior.unet)
    step = step_of(StubDegradation(), networks=Networks(LinearAutoencoder(), prior, StubDegradation()))
    squared = step_of(
        StubDegradation(), networks=Networks(LinearAutoencoder(), LinearPrior(), StubDegradation()), z=step.z.square()
    )
    torch.testing.assert_close(guidance(step), 2 * step.z * closed_form(squared), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_a_step_takes_and_leaves_no_graph(mode: Any) -> None:
    step = step_of(StubDegradation())
    with mode():
        advanced = LDPS().step(step)
    assert not advanced.requires_grad
    assert not step.z.requires_grad
    assert advanced.shape == step.z.shape


@pytest.mark.parametrize("sampler", [DDIM(), DDIM(eta=0.5), DDPM()], ids=lambda s: f"eta {s.eta}")
def test_without_guidance_it_is_the_samplers_step(sampler: DDIM) -> None:
    step = step_of(StubDegradation(), sampler=sampler)
    prior = step.networks.prior
    levels = [prior.schedule.alpha_bar_at(t) for t in (step.timestep, step.timestep_next)]
    expected = sampler.step(*prior.predict(step.z, step.timestep), *levels, step.noise)
    torch.testing.assert_close(LDPS(guidance_scale=0.0).step(step), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(NoGuidance().step(step), expected, rtol=1e-5, atol=1e-5)


def test_one_step_costs_one_evaluation_of_prior_and_decoder_with_gradient() -> None:
    step = step_of(StubDegradation())
    LDPS().step(step)
    assert step.networks.accounts == [{"prior_grad": 1, "decoder_grad": 1}] * NUM


def test_a_negative_guidance_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="guidance_scale"):
        LDPS(guidance_scale=-0.1)
