"""VQGAN (Esser et al., arXiv 2012.09841): a vector-quantised autoencoder trained against a patch discriminator."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from workbench.autoencoders.base import Autoencoder
from workbench.autoencoders.discriminator import PatchDiscriminator, discriminator_loss, generator_loss
from workbench.autoencoders.vq import VQAutoencoder, VQRecipe
from workbench.core.bounds import Weight
from workbench.core.tensors import Images

Distance = Callable[[Images, Images], Tensor]
"""(x_hat, x) -> the distance of each pair, (batch,), differentiable."""


class VQGANAutoencoder(VQAutoencoder):
    """VQModel with a discriminator during training.

    Both learn in one step of one optimiser, by simultaneous gradient descent (Mescheder et al., arXiv 1801.04406): each
    loss only has gradients for its own weights, so the sum of the two losses trains both.

    Args:
        model: the diffusers model.
        discriminator: scores reconstructions in training; not needed otherwise.
        adversarial_weight: weight of the discriminator's gradient in the last layer, relative to that of the squared
            error.
        perceptual_weight: weight of the perceptual distance.
    """

    def __init__(
        self,
        model: Any,
        moment_weight: float = 0.0,
        discriminator: PatchDiscriminator | None = None,
        adversarial_weight: float = 0.0,
        perceptual_weight: float = 0.0,
    ) -> None:
        super().__init__(model, moment_weight)
        self.discriminator = discriminator
        self.adversarial_weight, self.perceptual_weight = adversarial_weight, perceptual_weight
        self.distance: Distance | None = None
        """The perceptual distance; must be set to train with a weight on it."""

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The autoencoder's loss and the discriminator's.

        Raises:
            ValueError: without a discriminator, or without the weighted distance.
        """
        if self.discriminator is None or (self.perceptual_weight > 0 and self.distance is None):
            raise ValueError("training needs a discriminator and, if perceptual_weight is above 0, a distance")
        x_hat, loss, parts = self.reconstruct(x)
        if self.distance is not None:
            parts["perceptual"] = self.distance(x_hat, x).mean()
            loss = loss + self.perceptual_weight * parts["perceptual"]
        adversary = generator_loss(self.discriminator.judge(2 * x_hat - 1))
        weight = self.adversarial_weight * self._balance(loss, adversary)
        verdict = discriminator_loss(self.discriminator(2 * x - 1), self.discriminator(2 * x_hat.detach() - 1))
        parts |= {"adversary": adversary, "discriminator": verdict}
        return loss + weight * adversary + verdict, parts

    def _balance(self, loss: Tensor, adversary: Tensor) -> Tensor:
        """|gradient of the loss| / |gradient of the adversary| in the decoder's last layer (equation 7)."""
        last = self.model.decoder.conv_out.weight
        (own,), (other,) = (torch.autograd.grad(part, last, retain_graph=True) for part in (loss, adversary))
        return own.norm() / (other.norm() + 1e-6)


class VQGAN(VQRecipe):
    """VQModel trained against a patch discriminator: sharper, but less accurate."""

    kind: Literal["vqgan"] = "vqgan"
    adversarial_weight: float = Field(
        0.1,
        gt=0,
        le=1e6,
        description="size of the discriminator's gradient in the last layer, relative to the other losses'",
    )
    perceptual_weight: Weight = Field(
        0.0, description="weight of LPIPS, which needs its pretrained weights; 0: without"
    )

    adapter: ClassVar[type[Autoencoder]] = VQGANAutoencoder
    splits_batches: ClassVar[bool] = False  # its loss balances gradients of a whole batch

    def build(self, image_channels: int) -> VQGANAutoencoder:
        model = super().build(image_channels).model
        discriminator = PatchDiscriminator(image_channels)
        return VQGANAutoencoder(
            model, self.moment_weight, discriminator, self.adversarial_weight, self.perceptual_weight
        )
