"""Networks that keep only the inputs of their blocks: the same gradient, with less memory."""

import pytest
import torch
from small_autoencoders import RECIPES

from workbench.autoencoders import KL, VQ, AutoencoderRecipe
from workbench.degradations import GaussianNoise
from workbench.diffusion import UNetRecipe
from workbench.solvers import Networks

PRIOR = UNetRecipe(block_out_channels=(16,)).build((4, 8, 8))
"""It is not evaluated."""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.kind)
def test_encodings_and_their_gradients_are_the_same_for_every_autoencoder(recipe: AutoencoderRecipe) -> None:
    torch.manual_seed(0)
    autoencoder = recipe.build(1).eval().requires_grad_(False)
    x = torch.rand(1, 1, 16, 16)
    found = []
    for checkpointing in (False, True):
        networks = Networks(autoencoder, PRIOR, GaussianNoise(), checkpointing=checkpointing)
        given = x.clone().requires_grad_(True)
        z = networks.encode(given)
        x_hat = networks.decode(z)
        (gradient,) = torch.autograd.grad(x_hat.square().sum(), given)
        found.append((z.detach(), x_hat.detach(), gradient))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("recipe", [KL(block_out_channels=(16, 16)), VQ(block_out_channels=(16, 16))])
def test_gradients_are_the_same_and_models_are_left_as_they_were(
    recipe: KL | VQ,
) -> None:
    autoencoder = recipe.build(3).eval().requires_grad_(False)
    z = torch.randn(1, 8, 8, 8)

    def gradient(networks: Networks) -> torch.Tensor:
        given = z.clone().requires_grad_(True)
        (found,) = torch.autograd.grad(networks.decode(given).square().sum(), given)
        return found

    kept, again = (
        Networks(autoencoder, PRIOR, GaussianNoise(), checkpointing=checkpointing) for checkpointing in (False, True)
    )
    torch.testing.assert_close(gradient(kept), gradient(again))
    assert not any(getattr(part, "gradient_checkpointing", False) for part in autoencoder.modules())
