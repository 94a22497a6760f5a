"""Autoencoders: images on [0, 1] to latents of unit variance and back."""

from typing import Annotated

from pydantic import Field

from workbench.autoencoders.base import Autoencoder, AutoencoderRecipe, EncoderTrunk
from workbench.autoencoders.kl import KL
from workbench.autoencoders.tiny import Tiny
from workbench.autoencoders.vq import VQ

AnyAutoencoder = Annotated[Tiny | KL | VQ, Field(discriminator="kind")]

__all__ = ["KL", "VQ", "AnyAutoencoder", "Autoencoder", "AutoencoderRecipe", "EncoderTrunk", "Tiny"]
