"""The autoencoders that ship and that studies compare, each by the recipe that makes it in about half an hour."""

from workbench.autoencoders import KL, PCA, VQ, VQGAN, ArchitectureRecipe, Flow, Tiny

QUANTISED = {"block_out_channels": (32, 64), "latent_channels": 4, "codebook_std": 1.0, "num_train_images": 180_000}
"""Ten bits for each block of 2 x 2 pixels: for blocks of 4 x 4, 27 dB on Fashion-MNIST cannot be had."""

AUTOENCODERS: tuple[ArchitectureRecipe, ...] = (
    Tiny(),
    KL(),
    VQ.parse(QUANTISED),
    VQGAN.parse(QUANTISED),  # without LPIPS, by which it is then judged
    PCA(),
    Flow(num_train_images=200_000),
)
