"""Autoencoders: images on [0, 1] to latents of unit variance and back."""

from typing import Annotated

from pydantic import Field

from workbench.autoencoders.base import ArchitectureRecipe, Autoencoder, AutoencoderRecipe, DescentRecipe, EncoderTrunk
from workbench.autoencoders.flow import Flow
from workbench.autoencoders.kl import KL
from workbench.autoencoders.patch import Patch
from workbench.autoencoders.pca import PCA
from workbench.autoencoders.pretrained import Pretrained
from workbench.autoencoders.tiny import Tiny
from workbench.autoencoders.vq import VQ
from workbench.autoencoders.vqgan import VQGAN
from workbench.core.families import Open

AnyAutoencoder = Annotated[
    Tiny | KL | VQ | VQGAN | PCA | Flow | Patch | Pretrained, Field(discriminator="kind"), Open(AutoencoderRecipe)
]

__all__ = [
    "KL",
    "PCA",
    "VQ",
    "VQGAN",
    "AnyAutoencoder",
    "ArchitectureRecipe",
    "Autoencoder",
    "AutoencoderRecipe",
    "DescentRecipe",
    "EncoderTrunk",
    "Flow",
    "Patch",
    "Pretrained",
    "Tiny",
]
