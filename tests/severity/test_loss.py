"""The severity encoder's loss by hand."""

import math

import pytest
import torch
from linear_stubs import LinearAutoencoder, images
from torch import Tensor

from workbench import randomness
from workbench.severity.estimate import error_variance
from workbench.severity.loss import SeverityLoss

S2 = [5 / 3, 1.0]
"""Bessel-corrected variances of the errors below."""


def case() -> tuple[Tensor, Tensor, Tensor, LinearAutoencoder]:
    """z_hat, z0, x and the autoencoder; errors of four elements each, so that one can follow by hand."""
    autoencoder = LinearAutoencoder(scale=2.0, shift=0.25)
    x, _ = images(2, size=2)
    z0 = autoencoder.encode(x)
    error = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 2.0]]).reshape(2, 4, 1, 1)
    return z0 + error, z0, x, autoencoder


LATENT = (30 / 4 + 4 / 4) / 2


def test_squared_difference_by_hand() -> None:
    z_hat, z0, x, autoencoder = case()
    log_var = torch.tensor([0.5, 2.0]).log().reshape(-1, 1, 1, 1)
    loss, parts = SeverityLoss(variance_term="squared_difference", weight_variance=3.0, weight_image=0.5)(
        z_hat, log_var, z0, x, autoencoder
    )
    variance = ((S2[0] - 0.5) ** 2 + (S2[1] - 2.0) ** 2) / 2
    image = LATENT / (2 * autoencoder.scale) ** 2  # decode is orthogonal but for its scale, and half of [-1, 1]
    assert float(parts["latent"]) == pytest.approx(LATENT)
    assert float(parts["variance"]) == pytest.approx(variance)
    assert float(parts["image"]) == pytest.approx(image, rel=1e-4)
    assert float(loss) == pytest.approx(LATENT + 3 * variance + 0.5 * image, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_the_authors_weight_of_the_image_term_is_4_x_batch_x_as_large(batch: int) -> None:
    """Theirs: w / d_image * (the sum over the whole batch of squares on [-1, 1]), beside means over the batch."""
    autoencoder = LinearAutoencoder(scale=2.0, shift=0.25)
    x, _ = images(batch, size=4)
    z0 = autoencoder.encode(x)
    z_hat = z0 + torch.randn(z0.shape, generator=randomness.generator("error"))
    w, weight_variance = 0.7, 1.5
    var_hat = torch.linspace(0.5, 2, batch)

    def wide(image: Tensor) -> Tensor:
        return 2 * image - 1

    variances = torch.stack([(one - one.mean()).square().sum() / (one.numel() - 1) for one in z_hat - z0])
    of_latents = (z_hat - z0).square().sum() / z0[0].numel() / batch
    of_variances = weight_variance * (variances - var_hat).square().mean()
    of_images = w / x[0].numel() * (wide(autoencoder.decode(z_hat)) - wide(x)).square().sum()
    ours = SeverityLoss(variance_term="squared_difference", weight_variance=weight_variance, weight_image=4 * batch * w)
    found, _ = ours(z_hat, var_hat.log().reshape(-1, 1, 1, 1), z0, x, autoencoder)
    torch.testing.assert_close(found, of_latents + of_variances + of_images)


def test_gaussian_nll_by_hand() -> None:
    z_hat, z0, x, autoencoder = case()
    log_var = torch.tensor([0.5, 2.0]).log().reshape(-1, 1, 1, 1)
    loss, parts = SeverityLoss(variance_term="gaussian_nll", weight_variance=3.0, weight_image=0.0)(
        z_hat, log_var, z0, x, autoencoder
    )
    variance = (S2[0] / 0.5 + math.log(0.5) + S2[1] / 2 + math.log(2)) / 2
    assert float(parts["variance"]) == pytest.approx(variance)
    assert float(loss) == pytest.approx(LATENT + 3 * variance)


@pytest.mark.parametrize("variance_term", ["gaussian_nll", "squared_difference"])
def test_the_variance_term_is_least_at_the_mean_of_the_true_variances(variance_term: str) -> None:
    """One var_hat for images that y does not tell apart: the gradient vanishes at E[s2], and only there."""
    autoencoder = LinearAutoencoder()
    x, _ = images(64, size=4)
    z0 = autoencoder.encode(x)
    spread = torch.linspace(0.1, 1.5, 64).reshape(-1, 1, 1, 1)
    z_hat = z0 + spread * torch.randn(z0.shape, generator=randomness.generator("error"))
    mean_s2 = float(error_variance(z_hat, z0).mean())
    loss = SeverityLoss(variance_term=variance_term, weight_image=0)

    def slope(var: float) -> float:
        log_var = torch.tensor(math.log(var), requires_grad=True)
        loss(z_hat, log_var.expand(64, 1, 1, 1), z0, x, autoencoder)[0].backward()
        assert log_var.grad is not None
        return float(log_var.grad)

    assert slope(mean_s2) == pytest.approx(0, abs=1e-5)
    assert slope(0.8 * mean_s2) < -1e-2
    assert slope(1.25 * mean_s2) > 1e-2


def gradient_of_variance_term(loss: SeverityLoss) -> Tensor:
    """What the variance term alone asks of z_hat."""
    z_hat, z0, x, autoencoder = case()
    z_hat.requires_grad_(True)
    log_var = torch.zeros(2, 1, 1, 1)
    with_it, _ = loss(z_hat, log_var, z0, x, autoencoder)
    without, _ = loss.replace(weight_variance=0.0)(z_hat, log_var, z0, x, autoencoder)
    (gradient,) = torch.autograd.grad(with_it - without, z_hat)
    return gradient


def test_whether_the_true_variance_carries_gradient() -> None:
    passed = gradient_of_variance_term(SeverityLoss(variance_term="squared_difference", weight_variance=1))
    # d/de_i (s2 - 1)^2 / 2 images = (s2 - 1) 2 (e_i - mean e) / (d - 1); zero for the second image, where s2 = 1
    centred = torch.tensor([-1.5, -0.5, 0.5, 1.5]).reshape(4, 1, 1)
    torch.testing.assert_close(passed[0], (S2[0] - 1) * 2 * centred / 3, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(passed[1], torch.zeros(4, 1, 1), rtol=0, atol=1e-5)
    stopped = SeverityLoss(variance_term="squared_difference", detach_error_variance=True)
    for loss in (stopped, SeverityLoss(variance_term="gaussian_nll")):
        torch.testing.assert_close(gradient_of_variance_term(loss), torch.zeros(2, 4, 1, 1), rtol=0, atol=1e-6)


def test_without_weight_the_image_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    z_hat, z0, x, autoencoder = case()
    calls = []
    monkeypatch.setattr(autoencoder, "decode", lambda z: calls.append(z) or x)
    _, parts = SeverityLoss(weight_image=0)(z_hat, torch.zeros(2, 1, 1, 1), z0, x, autoencoder)
    assert calls == []
    assert set(parts) == {"latent", "variance"}
    _, parts = SeverityLoss()(z_hat, torch.zeros(2, 1, 1, 1), z0, x, autoencoder)
    assert len(calls) == 1
    assert set(parts) == {"latent", "variance", "image"}


def test_parts_carry_no_graph_and_the_loss_reaches_both_outputs() -> None:
    z_hat, z0, x, autoencoder = case()
    z_hat.requires_grad_(True)
    log_var = torch.ones(2, 1, 1, 1, requires_grad=True)
    loss, parts = SeverityLoss()(z_hat, log_var, z0, x, autoencoder)
    assert not any(part.requires_grad for part in parts.values())
    for gradient in torch.autograd.grad(loss, [z_hat, log_var]):
        assert (gradient.flatten(1).norm(dim=1) > 0).all()


def test_an_exact_guess_costs_nothing_but_its_variance_term() -> None:
    _, z0, x, autoencoder = case()
    log_var = torch.full((2, 1, 1, 1), -3.0)
    loss, parts = SeverityLoss(weight_variance=1)(z0, log_var, z0, x, autoencoder)
    assert float(parts["latent"]) == 0
    assert float(parts["image"]) == pytest.approx(0, abs=1e-10)
    assert float(loss) == pytest.approx(-3, abs=1e-5)
