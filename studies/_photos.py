"""The latent diffusion model of 64 px colour photographs that ships: the recipes that make it."""

from collections.abc import Mapping
from typing import Any

from workbench.autoencoders import Patch
from workbench.data import TinyImageNet
from workbench.degradations import GaussianBlur, Mixture
from workbench.diffusion import UNetRecipe
from workbench.severity.loss import SeverityLoss
from workbench.severity.recipe import UNetSeverity

PHOTOGRAPHS = TinyImageNet()
AUTOENCODER = Patch(num_train_images=120_000, batch_size=32, learning_rate=7e-4, precision="bf16")
PRIOR = UNetRecipe(
    block_out_channels=(64, 128, 192),
    num_train_images=160_000,
    rounds=2,
    batch_size=32,
    learning_rate=4e-4,
    precision="bf16",
)
UNIVERSAL = UNetSeverity(
    degradation=Mixture(),
    loss=SeverityLoss(weight_image=0),
    num_train_images=100_000,
    batch_size=32,
    learning_rate=5e-4,
    precision="bf16",
    source="auto",
)
"""The severity encoder that ships with them, trained on a mixture of all degradations."""
PHOTOS: Mapping[str, Any] = {"data": PHOTOGRAPHS, "autoencoder": AUTOENCODER, "prior": PRIOR}
"""The fields of a cell on photographs."""
MATCHED = UNIVERSAL.replace(
    {"degradation": GaussianBlur(), "num_train_images": 10_000, "precision": "float32", "source": "train"}
)
"""An encoder for one degradation, which each study sets: trained like the universal one, on a tenth of the images, so
that a study of several takes minutes, and in a precision that every CPU computes fast."""
DESK = {**PHOTOS, "severity_encoder": MATCHED}
"""Overrides of a study's preset for photographs."""
