"""The autoencoders that ship and that studies compare, each with a prior of its own: the recipes that make them."""

from studies._photos import PRIOR
from workbench.autoencoders import KL, PCA, VQ, VQGAN, ArchitectureRecipe, AutoencoderRecipe, Flow, Patch, Tiny
from workbench.diffusion import UNetRecipe

QUANTISED = {
    "block_out_channels": (32, 32),
    "latent_channels": 4,
    "codebook_std": 1.0,
    "num_train_images": 180_000,
    "precision": "bf16",
}
"""Ten bits for each block of 2 x 2 pixels: for blocks of 4 x 4, 27 dB on Fashion-MNIST cannot be had."""

AUTOENCODERS: tuple[ArchitectureRecipe, ...] = (
    Tiny(),
    KL(num_train_images=200_000, precision="bf16"),
    VQ.parse(QUANTISED),
    VQGAN.parse(QUANTISED),  # trained without LPIPS, by which its restorations are then judged
    PCA(),
    Flow(num_train_images=200_000),
)


def prior_of(recipe: AutoencoderRecipe) -> UNetRecipe:
    """The prior over an autoencoder's latents: one recipe, but for more resolutions and fewer channels for 16 x 16.

    Photographs have their own.
    """
    if isinstance(recipe, Patch):
        return PRIOR
    return UNetRecipe(block_out_channels=(32, 64, 96)) if isinstance(recipe, (VQ, VQGAN)) else UNetRecipe()
