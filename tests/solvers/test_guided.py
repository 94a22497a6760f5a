"""Guidance in closed form: with D, E, A and the prior linear, gradients of the energies are products of transposes."""

from typing import Any

import pytest
import torch
from linear_steps import NUM, step_of
from linear_stubs import CurvedDegradation, LinearAutoencoder, LinearPrior, StubDegradation
from torch import Tensor, nn

from workbench.config import members
from workbench.degradations import Degradation, GaussianBlur, RandomInpainting
from workbench.diffusion import DDIM, DDPM
from workbench.measurement import Measurement
from workbench.solvers import GMLDPS, LDPS, PSLD, AnySolver, Guided, Networks, NoGuidance, Step

KEPT = 0.8
"""What a lossy encoder keeps."""
LINEAR = [StubDegradation(), GaussianBlur(), RandomInpainting(), RandomInpainting(dropped="as_zeros")]

every_linear = pytest.mark.parametrize("degradation", LINEAR, ids=lambda degradation: degradation.kind)


def guidance(step: Step, solver: Guided | None = None) -> Tensor:
    """What the data term adds to a step, without its minus sign."""
    return NoGuidance().step(step) - (solver or LDPS(guidance_scale=1.0)).step(step)


class Lossy(LinearAutoencoder):
    """An encoder that forgets a part, so that E(D(z)) is not z."""

    def _encode(self, x: Tensor) -> Tensor:
        return KEPT * super()._encode(x)

    def decode_adjoint(self, g: Tensor) -> Tensor:
        return super()._encode(g) / (2 * self.scale)

    def encode_adjoint(self, g: Tensor) -> Tensor:
        """The transpose of the derivative of `encode`."""
        return 2 * self.scale * KEPT * self._decode(g)


def lossy_step(degradation: Degradation) -> Step:
    return step_of(degradation, networks=Networks(Lossy(scale=1.6, shift=0.3), LinearPrior(), degradation))


def closed_form(step: Step, solver: Guided | None = None) -> Tensor:
    """grad_z of guidance_scale ||r|| + weight ||d||, by the transposes of D, E, A and the prior.

    r = y - A D z0; d = z0 - E D z0 (gml_dps) or z0 - E(D z0 + A^T r) (psld).
    """
    solver = solver or LDPS(guidance_scale=1.0)
    networks, measurement = step.networks, step.measurement
    autoencoder, prior = networks.autoencoder, networks.prior
    assert isinstance(autoencoder, LinearAutoencoder)
    assert isinstance(prior, LinearPrior)

    def operator(x: Tensor) -> Tensor:
        prediction = networks.degradation.A(x, measurement.params)
        return prediction if measurement.observed is None else prediction * measurement.observed

    def adjoint(y: Tensor) -> Tensor:
        return networks.degradation.A_adjoint(y, measurement.params)

    z0_hat = prior.network(step.z, step.time).sample
    decoded = autoencoder.decode(z0_hat)
    residual = measurement.residual(networks.degradation.A(decoded, measurement.params))
    on_image = -solver.guidance_scale * adjoint(unit(residual))
    on_latent = torch.zeros_like(z0_hat)
    if isinstance(solver, GMLDPS | PSLD):
        assert isinstance(autoencoder, Lossy)
        seen = decoded if isinstance(solver, GMLDPS) else decoded + adjoint(residual)
        apart = solver.weight * unit(z0_hat - autoencoder.encode(seen))
        back = autoencoder.encode_adjoint(apart)
        on_image = on_image - (back if isinstance(solver, GMLDPS) else back - adjoint(operator(back)))
        on_latent = apart
    return prior.predict_adjoint(on_latent + autoencoder.decode_adjoint(on_image))


def unit(values: Tensor) -> Tensor:
    """Each image's values divided by their norm."""
    return values / values.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


@every_linear
@pytest.mark.parametrize(
    "solver",
    [
        LDPS(guidance_scale=0.0),
        LDPS(guidance_scale=0.7),
        GMLDPS(guidance_scale=0.7, weight=0.0),
        GMLDPS(guidance_scale=0.0, weight=0.4),
        GMLDPS(guidance_scale=0.7, weight=0.4),
        PSLD(guidance_scale=0.7, weight=0.0),
        PSLD(guidance_scale=0.0, weight=0.4),
        PSLD(guidance_scale=0.7, weight=0.4),
    ],
    ids=str,
)
def test_guidance_is_the_gradient_of_the_energy(degradation: Degradation, solver: Guided) -> None:
    step = lossy_step(degradation)
    torch.testing.assert_close(guidance(step, solver), closed_form(step, solver), rtol=1e-4, atol=1e-5)


def test_every_guided_solver_is_tried_here() -> None:
    assert {m for m in members(AnySolver) if issubclass(m, Guided)} == {LDPS, GMLDPS, PSLD}


@pytest.mark.parametrize("degradation", [GaussianBlur(), RandomInpainting(dropped="as_zeros")], ids=lambda d: d.kind)
@pytest.mark.parametrize(
    "doubled",
    [LDPS(guidance_scale=14.0), GMLDPS(guidance_scale=6.0, weight=0.05), PSLD(guidance_scale=4.0, weight=0.2)],
)
def test_doubled_scales_are_the_authors_on_minus_one_to_one(degradation: Degradation, doubled: Guided) -> None:
    """Their term: dc_step ||y - A(x)|| over all pixels, dropped ones with their noise, and ae_weight ||z0 - E(x')||.

    All of it on [-1, 1], where their operator takes an image to [0, 1] and its measurement back.
    """
    step = lossy_step(degradation)
    autoencoder, m = step.networks.autoencoder, step.measurement

    def wide(x: Tensor) -> Tensor:
        return 2 * x - 1

    def narrow(x: Tensor) -> Tensor:
        return (x + 1) / 2

    def operator(x: Tensor) -> Tensor:
        return wide(degradation.A(narrow(x), m.params))

    def adjoint(y: Tensor) -> Tensor:
        return wide(degradation.A_adjoint(narrow(y), m.params))

    z = step.z.clone().requires_grad_(True)
    z0_hat, _ = step.networks.prior.predict(z, step.time)
    x, y = wide(autoencoder.decode(z0_hat)), wide(m.y)
    term = doubled.guidance_scale / 2 * (y - operator(x)).flatten(1).norm(dim=1)
    if isinstance(doubled, GMLDPS | PSLD):
        glued = x if isinstance(doubled, GMLDPS) else adjoint(y) + x - adjoint(operator(x))
        apart = z0_hat - autoencoder.encode(narrow(glued))
        term = term + doubled.weight * apart.flatten(1).norm(dim=1)
    (theirs,) = torch.autograd.grad(term.sum(), z)
    torch.testing.assert_close(guidance(step, doubled), theirs, rtol=1e-4, atol=1e-4)


@every_linear
def test_guidance_goes_against_the_residual(degradation: Degradation) -> None:
    """A small step lowers the norm by its length times the gradient's: the sign is right."""
    step = step_of(degradation)
    gradient, size = guidance(step), 1e-2

    def norms(z: Tensor) -> Tensor:
        return step.residual_norm(step.networks.predict(z, step.time)[0])

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
    z0_hat, _ = step.networks.predict(step.z, step.time)
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


@pytest.mark.parametrize("solver", [LDPS(), GMLDPS(), PSLD()], ids=lambda solver: solver.kind)
def test_what_was_not_observed_does_not_matter(solver: Guided) -> None:
    step = step_of(RandomInpainting())
    m = step.measurement
    assert m.observed is not None
    assert (m.observed == 0).any()
    nonsense = torch.where(m.observed == 0, 100.0, m.y)
    other = step_of(
        RandomInpainting(),
        measurement=Measurement(y=nonsense, ids=m.ids, noise_std=m.noise_std, params=m.params, observed=m.observed),
    )
    torch.testing.assert_close(guidance(other, solver), guidance(step, solver), rtol=1e-5, atol=1e-6)


def test_a_residual_of_zero_gives_no_guidance_and_no_nan() -> None:
    step = step_of(StubDegradation())
    m = step.measurement
    z0_hat, _ = step.networks.predict(step.z, step.time)
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
            float(step.residual_norm(step.networks.predict(z, step.time)[0])[i])
            for z in (step.z + nudge, step.z - nudge)
        ]
        assert float(gradient[i, 1, 2, 0]) == pytest.approx((norms[0] - norms[1]) / (2 * size), rel=0.05, abs=2e-3)


class Square(nn.Module):
    """A prior network whose Jacobian depends on z."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.network, self.config = unet, unet.config

    def forward(self, z: Tensor, timestep: Tensor) -> Any:
        return self.network(z.square(), timestep)


def test_the_gradient_passes_through_the_prior() -> None:
    """With z0_hat(z) = M z^2 the chain rule gives a factor 2 z: guidance is on z, not on z0_hat."""
    prior = LinearPrior()
    prior.network = Square(prior.network)
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
    levels = step.alpha_bar, step.alpha_bar_next
    expected = sampler.step(*prior.predict(step.z, step.time), *levels, step.noise)
    torch.testing.assert_close(LDPS(guidance_scale=0.0).step(step), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(NoGuidance().step(step), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("solver", "encoder"), [(LDPS(), {}), (GMLDPS(), {"encoder_grad": 1}), (PSLD(), {"encoder_grad": 1})]
)
def test_one_step_costs_one_evaluation_of_each_network_with_gradient(solver: Guided, encoder: dict[str, int]) -> None:
    step = step_of(StubDegradation())
    solver.step(step)
    assert step.networks.accounts == [{"prior_grad": 1, "decoder_grad": 1} | encoder] * NUM


@pytest.mark.parametrize("member", [LDPS, GMLDPS, PSLD])
def test_a_negative_guidance_scale_is_refused(member: Any) -> None:
    with pytest.raises(ValueError, match="guidance_scale"):
        member(guidance_scale=-0.1)


def test_a_latent_that_the_autoencoder_keeps_is_not_pulled() -> None:
    """With E(D(z)) = z GML-DPS is LDPS: what is left of the second norm is rounding, and its gradient too."""
    step = step_of(GaussianBlur())
    torch.testing.assert_close(
        guidance(step, GMLDPS(guidance_scale=1.0, weight=0.5)), guidance(step), rtol=1e-3, atol=1e-5
    )
