"""The UNet severity encoder: at first the autoencoder's encoder, then more than it can be."""

import pytest
import torch

from workbench.autoencoders import KL, Autoencoder, Patch
from workbench.core import randomness
from workbench.core.config import UserError
from workbench.degradations import GaussianBlur
from workbench.severity.recipe import UNetSeverity

AUTOENCODERS = {
    "patch": Patch(latent_channels=4, width=8, latent_width=8, num_latent_blocks=1),
    "kl": KL(latent_channels=4, block_out_channels=(16, 16)),
}
RECIPE = UNetSeverity(degradation=GaussianBlur(), block_out_channels=(16, 32))


def autoencoder_of(kind: str) -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AUTOENCODERS[kind].build(3)


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=randomness.generator("unet encoder"))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 24)])
@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_before_training_z_hat_is_that_of_the_autoencoder(kind: str, height: int, width: int) -> None:
    autoencoder, x = autoencoder_of(kind), images(height, width)
    estimate = RECIPE.build(autoencoder).eval().estimate(x)
    with torch.no_grad():
        torch.testing.assert_close(estimate.z_hat, autoencoder.encode(x), rtol=1e-4, atol=1e-5)
    assert (estimate.per_image() > 0).all()


def test_every_layer_learns() -> None:
    autoencoder = autoencoder_of("patch")
    encoder = RECIPE.build(autoencoder)
    encoder(images(16, 16))  # sets the width of the head
    for parameter in encoder.parameters():  # what starts at 0 would stop the gradient of what is before
        parameter.data += 0.01
    z_hat, log_var = encoder(images(16, 16))
    (z_hat.square().mean() + log_var.mean()).backward()
    still = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # attention does not depend on a constant in all keys
    assert all(name.endswith("to_k.bias") for name in still), still


def test_another_autoencoder_is_another_network_of_the_same_kind() -> None:
    assert RECIPE.canonical()["kind"] == "unet"
    with pytest.raises(UserError, match="block_out_channels"):
        RECIPE.replace({"block_out_channels": (10, 20)})
