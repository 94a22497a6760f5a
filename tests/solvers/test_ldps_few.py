"""LDPS for few steps on linear networks: the minimiser in closed form, and the exact posterior of a Gaussian prior."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from linear_steps import NUM, jacobian, step_of
from linear_stubs import LinearAutoencoder, LinearPrior, StubDegradation, images
from torch import Tensor, nn

from workbench.degradations import Degradation, GaussianBlur, RandomInpainting
from workbench.diffusion import DDIM
from workbench.measurement import Measurement
from workbench.solvers import LDPSFew, Networks, Step
from workbench.solvers.ldps_few import most_probable

VARIANCES = torch.tensor([0.02, 0.3, 0.9]).reshape(-1, 1, 1, 1)


def closed_form(step: Step, z0_hat: Tensor) -> Tensor:
    """(J^T J / s^2 + I / v)^-1 (J^T (y - A D 0) / s^2 + z0_hat / v) with J the derivative of A D."""
    slope, at_zero = jacobian(step)
    found = []
    for i in range(NUM):
        s2, v = float(step.measurement.noise_std[i]) ** 2, float(VARIANCES[i])
        j, target = slope[i], (step.measurement.y[i].flatten().double() - at_zero[i])
        hessian = j.mT @ j / s2 + torch.eye(j.shape[1], dtype=torch.float64) / v
        found.append(torch.linalg.solve(hessian, j.mT @ target / s2 + z0_hat[i].flatten().double() / v))
    return torch.stack(found).reshape(z0_hat.shape).float()


@pytest.mark.parametrize(
    ("degradation", "num_steps"),
    # A D keeps angles under the stub: one step of the right length is enough
    [(StubDegradation(), 1), (RandomInpainting(), 12), (GaussianBlur(), 40)],
    ids=lambda value: getattr(value, "kind", None),
)
def test_conjugate_gradients_reach_the_closed_form_minimum(degradation: Degradation, num_steps: int) -> None:
    step = step_of(degradation)
    z0_hat, _ = step.networks.predict(step.z, step.time)
    found = most_probable(step, z0_hat, VARIANCES, num_steps)
    torch.testing.assert_close(found, closed_form(step, z0_hat), rtol=1e-3, atol=2e-3)


def test_each_decoder_step_comes_closer_to_the_minimum() -> None:
    step = step_of(GaussianBlur())
    z0_hat, _ = step.networks.predict(step.z, step.time)
    best = closed_form(step, z0_hat)
    gaps = [float((most_probable(step, z0_hat, VARIANCES, n) - best).norm()) for n in (1, 2, 4, 8)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.2 * float((z0_hat - best).norm())


@pytest.mark.parametrize("decoder_steps", [1, 3])
def test_the_cost_of_a_step(decoder_steps: int) -> None:
    step = step_of(StubDegradation())
    LDPSFew(decoder_steps=decoder_steps).step(step)
    expected = Counter(prior=1, decoder_grad=decoder_steps, decoder=decoder_steps)
    assert step.networks.accounts == [expected] * NUM


def test_z_moves_with_all_of_the_correction_where_the_noise_is_kept() -> None:
    step = step_of(StubDegradation(), sampler=DDIM())
    z0_hat, eps = step.networks.predict(step.z, step.time)
    a, a_next = (level.reshape(-1, 1, 1, 1) for level in (step.alpha_bar, step.alpha_bar_next))
    change = most_probable(step, z0_hat, (1 - a).float(), 2) - z0_hat
    torch.testing.assert_close(
        LDPSFew().step(step), step.reverse(z0_hat, eps) + a_next.sqrt().float() * change, rtol=1e-4, atol=1e-5
    )


def test_a_measurement_without_noise_gives_finite_latents_that_explain_it() -> None:
    step = step_of(StubDegradation())
    m = step.measurement
    clean = Measurement(y=m.y, ids=m.ids, noise_std=torch.zeros(NUM), params=m.params)
    step = step_of(StubDegradation(), measurement=clean)
    z0_hat, _ = step.networks.predict(step.z, step.time)
    found = most_probable(step, z0_hat, VARIANCES, 2)
    assert (step.residual_norm(found) < 0.01 * step.residual_norm(z0_hat)).all()


class GaussianUNet(nn.Module):
    """E[z0 | z] = sqrt(a) z: the exact answer where z0 ~ N(0, I)."""

    def __init__(self, prior: LinearPrior) -> None:
        super().__init__()
        self.config, self.levels = prior.network.config, prior.levels

    def forward(self, z: Tensor, timestep: Tensor) -> Any:
        return SimpleNamespace(sample=self.levels.alpha_bar_at(timestep).sqrt().reshape(-1, 1, 1, 1).to(z) * z)


@pytest.mark.parametrize(("num_steps", "tolerance"), [(10, 0.2), (300, 0.015)])
def test_with_a_gaussian_prior_the_matched_chain_samples_the_posterior(num_steps: int, tolerance: float) -> None:
    """The probability flow carries N(0, I) to the posterior N(m, s^2 I): z_T = 0 to m, and z_T = 1 to m + s."""
    degradation, sampler = StubDegradation(), DDIM(num_steps=num_steps)
    x, ids = images(NUM)
    measurement = degradation.measure(x, torch.full((NUM,), 0.5), ids, 0)
    measurement = Measurement(y=measurement.y, ids=ids, noise_std=torch.full((NUM,), 0.3), params=measurement.params)
    prior = LinearPrior()
    prior.network = GaussianUNet(prior)
    autoencoder = LinearAutoencoder(scale=1.6)
    networks = Networks(autoencoder, prior, degradation)
    ends = []
    for begin in (0.0, 1.0):
        z = torch.full((NUM, 4, 4, 4), begin)
        chain = sampler.chain(prior.levels, z.shape[1:])
        for position in range(num_steps):
            at = torch.full((NUM,), position)
            z = LDPSFew(direction="matched").step(
                Step(
                    z=z,
                    position=at,
                    chain=chain,
                    noise=torch.zeros_like(z),
                    measurement=measurement,
                    networks=networks,
                    sampler=sampler,
                )
            )
        ends.append(z)
    # y = gain (D(0) + turned z0 / (2 scale)) + noise: a measurement of each latent coordinate with this gain
    gain = measurement.params["gain"] / (2 * autoencoder.scale)
    variance = 1 / (1 + gain.square() / 0.3**2)
    at_zero = degradation.A(autoencoder.decode(torch.zeros(NUM, 4, 4, 4)), measurement.params)
    back = autoencoder.decode_adjoint(degradation.A_adjoint(measurement.y - at_zero, measurement.params))
    mean = variance * back / 0.3**2
    torch.testing.assert_close(ends[0], mean, rtol=0, atol=tolerance)
    torch.testing.assert_close(ends[1] - ends[0], variance.sqrt().expand_as(mean), rtol=0, atol=tolerance)
