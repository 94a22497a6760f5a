"""Severity in seconds: the autoencoder's encoder, fine-tuned for a minute on images degraded by one operator."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders import Autoencoder
from workbench.core.bounds import BatchSize, Count, LearningRate
from workbench.core.config import ADDED_LATER
from workbench.core.flop_counter import flop_counter
from workbench.core.tensors import Images, Latents
from workbench.severity.encoder import summary
from workbench.severity.fitted import FittedEstimator, FittedRecipe
from workbench.severity.ridge import LogVarianceRidge

WIDTH, NUM_BLOCKS = 96, 6
"""Of the convolutional network."""
MOST_FLOPS = 200_000.0
"""FLOPs per pixel of the largest encoder that is copied: `tiny` has 45,000, `kl` 81,000 and TAEF2 470,000."""


class Quick(FittedRecipe):
    """z_hat of the fine-tuned encoder; its log variance by ridge on the statistics of the encoder's last features.

    Trained on squared error alone: without the decoder in the loss, a step costs half as much, and the error becomes
    independent of z_hat, as `start.channel=mmse` assumes.
    """

    kind: Literal["quick"] = "quick"
    num_train_images: Count = Field(16_000, description="number of degraded images processed")
    batch_size: BatchSize = 16
    learning_rate: LearningRate = 3e-3
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto",
        description="of the fine-tuning; auto: bf16 autocast if the device computes it in hardware, else float32",
    )

    network: Literal["auto", "encoder", "convolutional"] = Field(
        "auto",
        description="what is trained: a copy of the autoencoder's encoder, or a small convolutional network at the "
        "latent's resolution, from scratch; auto: the copy, unless the encoder is so large that it takes many minutes",
        json_schema_extra=ADDED_LATER,
    )

    learns: ClassVar[bool] = True

    def build(self, autoencoder: Autoencoder) -> "QuickEncoder":
        """The encoder before it is trained, without a variance."""
        trunk: nn.Module = autoencoder.encoder_copy()
        if self.network == "convolutional" or (self.network == "auto" and cost(trunk, autoencoder) > MOST_FLOPS):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                trunk = ConvolutionalTrunk(autoencoder)
        return QuickEncoder(trunk)


class QuickEncoder(FittedEstimator):
    """A network from images to (features, z_hat), and a ridge on the statistics of the features."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.variance = LogVarianceRidge()

    def forward(self, view: Images) -> Latents:
        """z_hat, for training."""
        z_hat: Latents = self.trunk(view)[1]
        return z_hat

    def read(self, seen: Images) -> tuple[Latents, Tensor]:
        features, z_hat = self.trunk(seen)
        return z_hat, summary(features)


class ConvolutionalTrunk(nn.Module):
    """Residual blocks at the latent's resolution, on images whose pixels are rearranged into channels.

    All computation is at low resolution: on 64 px images it trains about as fast as the smallest autoencoder's encoder,
    whatever the autoencoder costs.

    Args:
        autoencoder: provides the sizes; its weights have no part in it.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        factor = autoencoder.downscale
        self.first = nn.Conv2d(autoencoder.image_channels * factor**2, WIDTH, 3, padding=1)
        self.rearranged = nn.PixelUnshuffle(factor)
        self.blocks = nn.Sequential(*(_Block() for _ in range(NUM_BLOCKS)))
        self.last = nn.Conv2d(WIDTH, autoencoder.latent_channels, 3, padding=1)

    def forward(self, x: Images) -> tuple[Tensor, Latents]:
        features = self.blocks(self.first(self.rearranged(2 * x - 1)))
        return features, self.last(features)


class _Block(nn.Module):
    """x + a function of x that is initially 0."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)]
        for parameter in layers[-1].parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        moved: Tensor = x + self.layers(x)
        return moved


def cost(trunk: nn.Module, autoencoder: Autoencoder) -> float:
    """FLOPs of a network on one image, per pixel."""
    side = 8 * autoencoder.downscale
    with flop_counter() as counter, torch.no_grad():
        trunk(torch.zeros(1, autoencoder.image_channels, side, side, device=next(trunk.parameters()).device))
    return float(counter.get_total_flops()) / side**2
