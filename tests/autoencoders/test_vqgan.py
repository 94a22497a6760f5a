"""Adversarial training: hinge losses by hand, and each network taught by its own loss alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from workbench.autoencoders import VQGAN
from workbench.autoencoders.discriminator import PatchDiscriminator, discriminator_loss, generator_loss
from workbench.autoencoders.vqgan import VQGANAutoencoder
from workbench.core import randomness

SIZE = 16


def build(**fields: float) -> VQGANAutoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recipe = VQGAN.parse({"latent_channels": 4, "block_out_channels": (16, 16), "num_codes": 32, **fields})
        return recipe.build(1)


def images(num: int = 4) -> Tensor:
    return randomness.uniform(torch.arange(num), ("vqgan",), (1, SIZE, SIZE))


def test_hinge_losses() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert float(discriminator_loss(real, fake)) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)
    assert float(generator_loss(fake)) == pytest.approx(2 / 3)


def test_beyond_the_margin_the_discriminator_has_nothing_to_learn() -> None:
    real, fake = torch.tensor([1.5], requires_grad=True), torch.tensor([-1.5], requires_grad=True)
    for gradient in torch.autograd.grad(discriminator_loss(real, fake), (real, fake)):
        assert float(gradient) == 0


def test_scores_are_of_patches_of_22_pixels() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        discriminator = PatchDiscriminator(1).eval()
    # group norms look at the whole image: without them, what a score sees is the convolutions' field
    discriminator.layers[3] = torch.nn.Identity()
    x = torch.zeros(1, 1, 64, 64, requires_grad=True)
    scores = discriminator(x)
    assert scores.shape == (1, 1, 15, 15)
    (seen,) = torch.autograd.grad(scores[0, 0, 7, 7], x)
    rows = seen[0, 0].abs().sum(1).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 22


def test_judging_teaches_the_image_and_not_the_discriminator() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        discriminator = PatchDiscriminator(1)
    x = images().requires_grad_(True)
    scores = discriminator.judge(x)
    torch.testing.assert_close(scores, discriminator(x))
    scores.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())


def gradients(autoencoder: VQGANAutoencoder, loss: Tensor) -> dict[str, Tensor | None]:
    named = dict(autoencoder.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return dict(zip(named, found, strict=True))


def test_the_sum_of_the_losses_teaches_each_network_its_own() -> None:
    autoencoder, x = build(), images()
    assert autoencoder.discriminator is not None
    loss, _ = autoencoder.training_loss(x, randomness.generator(0))
    found = gradients(autoencoder, loss)
    x_hat, own, _ = autoencoder.reconstruct(x)
    real, fake = autoencoder.discriminator(2 * x - 1), autoencoder.discriminator(2 * x_hat.detach() - 1)
    discriminators = gradients(autoencoder, discriminator_loss(real, fake))
    plain = gradients(autoencoder, own)
    for name, gradient in found.items():
        if name.startswith("discriminator."):
            torch.testing.assert_close(gradient, discriminators[name])
        elif name == "model.quantize.embedding.weight":  # gradients pass straight through the codes
            torch.testing.assert_close(gradient, plain[name])
    last = "model.decoder.conv_out.weight"
    added, alone = found[last], plain[last]
    assert added is not None
    assert alone is not None
    # the adversary's part is a tenth of the other losses' gradient, which is what the weight means
    assert float((added - alone).norm() / alone.norm()) == pytest.approx(0.1, rel=1e-3)


def test_the_perceptual_distance_is_weighed_in() -> None:
    x = images()
    # next to no adversary, whose weight follows the other losses'
    with_distance, without = (build(perceptual_weight=w, adversarial_weight=1e-9) for w in (0.5, 0.0))
    with_distance.distance = lambda x_hat, x: (x_hat - x).abs().mean((1, 2, 3))
    loss, parts = with_distance.training_loss(x, randomness.generator(0))
    plain, _ = without.training_loss(x, randomness.generator(0))
    distance = float((with_distance.reconstruct(x)[0] - x).abs().mean().detach())
    assert float(parts["perceptual"].detach()) == pytest.approx(distance, rel=1e-5)
    assert float((loss - plain).detach()) == pytest.approx(0.5 * distance, rel=1e-4)


def test_training_without_what_it_needs_is_refused() -> None:
    x = images()
    with pytest.raises(ValueError, match="needs a discriminator"):
        build(perceptual_weight=0.5).training_loss(x, randomness.generator(0))
    with pytest.raises(ValueError, match="needs a discriminator"):
        VQGANAutoencoder(build().model).training_loss(x, randomness.generator(0))


def test_the_discriminator_is_not_saved(tmp_path: Path) -> None:
    autoencoder = build()
    autoencoder.save(tmp_path)
    loaded = VQGAN().load(tmp_path)
    assert isinstance(loaded, VQGANAutoencoder)
    assert loaded.discriminator is None
    kept = sum(parameter.numel() for parameter in loaded.parameters())
    assert kept == sum(parameter.numel() for parameter in autoencoder.model.parameters())
