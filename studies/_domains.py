"""The latent diffusion models of other domains than photographs that ship: the recipes that make them."""

from workbench.autoencoders import PCA, Patch
from workbench.data import ChestMR, SpokenDigits
from workbench.diffusion import UNetRecipe

CHEST_MR = ChestMR()
"""Crops of 64 pixels of slices of 128."""
CHEST_AUTOENCODER = Patch(
    latent_channels=6,
    width=16,
    latent_width=64,
    num_train_images=60_000,
    batch_size=32,
    learning_rate=7e-4,
    precision="bf16",
)
CHEST_PRIOR = UNetRecipe(
    block_out_channels=(32, 64, 96), num_train_images=120_000, batch_size=32, learning_rate=5e-4, precision="bf16"
)
SPEECH = SpokenDigits()
SPEECH_AUTOENCODER = PCA(latent_channels=16)
"""Loses nothing: the signs of MDCT coefficients are all but random, so patches of them cannot be compressed."""
SPEECH_PRIOR = UNetRecipe(
    block_out_channels=(32, 64, 96), num_train_images=80_000, batch_size=32, learning_rate=5e-4, precision="bf16"
)
