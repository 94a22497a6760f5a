"""The severity encoder begins as the autoencoder's own encoder, and can learn."""

import pytest
import torch
from linear_stubs import LinearAutoencoder, images
from small_autoencoders import RECIPES
from torch import nn

from workbench import randomness
from workbench.autoencoders import Autoencoder, AutoencoderRecipe
from workbench.severity.encoder import INITIAL_VARIANCE, SeverityEncoder, VarianceHead
from workbench.severity.estimate import error_variance
from workbench.severity.loss import SeverityLoss

every_autoencoder = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.kind)


def build(recipe: AutoencoderRecipe) -> tuple[Autoencoder, SeverityEncoder]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = recipe.build(1).eval().requires_grad_(False)
        autoencoder.normalise(1.7, -0.3)
        encoder = SeverityEncoder(autoencoder)
        encoder(images(1, 16)[0])  # gives the head's first layer its size
    return autoencoder, encoder


@every_autoencoder
def test_it_begins_at_the_autoencoders_own_encoding(recipe: AutoencoderRecipe) -> None:
    autoencoder, encoder = build(recipe)
    x, _ = images(3, 16)
    estimate = encoder.estimate(x)
    torch.testing.assert_close(estimate.z_hat, autoencoder.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(estimate.var_hat, torch.full((3, 1, 1, 1), INITIAL_VARIANCE))
    assert not estimate.z_hat.requires_grad
    assert not estimate.var_hat.requires_grad


@every_autoencoder
def test_a_few_steps_lower_its_loss_and_leave_the_autoencoder_alone(recipe: AutoencoderRecipe) -> None:
    autoencoder, encoder = build(recipe)
    before = {name: value.clone() for name, value in autoencoder.state_dict().items()}
    x, ids = images(8, 16)
    y = x + 0.2 * randomness.normal(ids, ("noise",), (1, 16, 16))
    z0 = autoencoder.encode(x)
    optimiser = torch.optim.Adam(encoder.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        z_hat, log_var = encoder(y)
        # an untrained decoder would pull z_hat away from z0: its term is left out
        loss, _ = SeverityLoss(weight_image=0)(z_hat, log_var, z0, x, autoencoder)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    for name, value in autoencoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_every_parameter_learns() -> None:
    autoencoder = LinearAutoencoder()
    encoder = SeverityEncoder(autoencoder)
    x, _ = images(4)
    encoder(x)
    nn.init.ones_(encoder.head.layers[-1].weight)  # begun at zero, which lets nothing through at first
    z_hat, log_var = encoder(x)
    SeverityLoss()(z_hat, log_var, autoencoder.encode(x) + 1, x, autoencoder)[0].backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("side", [1, 4])
def test_variances_are_positive_and_finite_whatever_the_features(size: float, side: int) -> None:
    head = VarianceHead(width=8)
    features = size * torch.randn(5, 3, side, side, generator=randomness.generator("features"))
    head(features)
    with torch.no_grad():
        head.layers[-1].weight.copy_(torch.randn(1, 8, generator=randomness.generator("weights")) * 0.1)
    log_var = head(features.requires_grad_(True))
    assert log_var.shape == (5, 1, 1, 1)
    var = log_var.exp()
    assert ((var > 0) & var.isfinite()).all()
    (gradient,) = torch.autograd.grad(log_var.sum(), features)
    assert gradient.isfinite().all(), "also where a channel is constant"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([-1.0, 1.0, -1.0, 1.0], [0.0, 2.0, 0.0, 2.0]),  # mean
        ([-1.0, 1.0, -1.0, 1.0], [-2.0, 2.0, 0.0, 0.0]),  # spread, at one mean and magnitude
        ([-1.0, 1.0, -1.0, 1.0], [-(2**0.5), 2**0.5, 0.0, 0.0]),  # magnitude, at one mean and spread
    ],
    ids=["mean", "spread", "magnitude"],
)
def test_the_head_tells_apart(one: list[float], other: list[float]) -> None:
    features = torch.tensor([one, other]).reshape(2, 1, 2, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = VarianceHead(width=8)
        head(features)
        nn.init.normal_(head.layers[-1].weight)
        first, second = head(features).flatten().tolist()
    assert abs(first - second) > 1e-3


def test_the_head_learns_a_variance_from_the_spread_of_features() -> None:
    """Features of one mean whose spread alone tells the variance: log spread to log variance is nearly linear."""
    num = 32
    std = torch.linspace(0.1, 1.0, num)
    noise = torch.randn(num, 4, 8, 8, generator=randomness.generator("spread"))
    features = (noise - noise.mean((2, 3), keepdim=True)) * std.reshape(-1, 1, 1, 1)
    s2 = error_variance(features, torch.zeros_like(features))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = VarianceHead(width=16)
        head(features)
        optimiser = torch.optim.Adam(head.parameters(), 1e-2)
        for _ in range(150):
            log_var = head(features).flatten()
            loss = (s2 / log_var.exp() + log_var).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert float((head(features).flatten() - s2.log()).abs().max().detach()) < 0.4
    assert float((head(features).flatten() - s2.log()).abs().mean().detach()) < 0.1


def test_estimates_do_not_depend_on_the_neighbours() -> None:
    encoder = SeverityEncoder(LinearAutoencoder())
    x, _ = images(4)
    encoder(x)
    nn.init.normal_(encoder.head.layers[-1].weight, generator=randomness.generator("w"))
    whole = encoder.estimate(x)
    assert len(whole.var_hat.unique()) == 4
    for i in range(4):
        alone = encoder.estimate(x[i : i + 1])
        torch.testing.assert_close(alone.z_hat[0], whole.z_hat[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.var_hat[0], whole.var_hat[i], rtol=1e-5, atol=1e-6)
