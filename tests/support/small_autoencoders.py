"""A recipe of every autoencoder that a stage makes from images alone, small enough for tests."""

from typing import Any, cast

from workbench.autoencoders import AnyAutoencoder, AutoencoderRecipe
from workbench.core.config import kind_of, members

SMALL: dict[str, dict[str, Any]] = {
    "tiny": {"latent_channels": 4, "width": 8, "num_stages": 2, "num_blocks": 1},
    "kl": {"latent_channels": 4, "block_out_channels": (16, 16)},
    "vq": {"latent_channels": 4, "block_out_channels": (16, 16), "num_codes": 32},
    "vqgan": {"latent_channels": 4, "block_out_channels": (16, 16), "num_codes": 32},
    "pca": {"latent_channels": 4},
    "patch": {"latent_channels": 4, "width": 8, "latent_width": 8, "num_latent_blocks": 1},
    "flow": {"num_levels": 1, "num_steps": 2, "width": 8},
}
"""What makes a family's network small; a family that is not named is tested at its defaults."""

RECIPES = [
    cast(AutoencoderRecipe, member.parse(SMALL.get(kind_of(member), {})))
    for member in members(AnyAutoencoder)
    if kind_of(member) != "pretrained"  # made from given weights: tests/autoencoders/test_pretrained.py
]
