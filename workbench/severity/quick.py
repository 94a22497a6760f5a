"""Severity in seconds: the autoencoder's encoder, fine-tuned for a minute on images degraded by one operator."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from workbench.autoencoders import Autoencoder
from workbench.core.bounds import BatchSize, Count, LearningRate
from workbench.core.tensors import Images, Latents
from workbench.severity.encoder import summary
from workbench.severity.fitted import FittedEstimator, FittedRecipe
from workbench.severity.ridge import LogVarianceRidge


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

    learns: ClassVar[bool] = True

    def build(self, autoencoder: Autoencoder) -> "QuickEncoder":
        """The encoder before it is fine-tuned, without a variance."""
        return QuickEncoder(autoencoder)


class QuickEncoder(FittedEstimator):
    """A fine-tuned copy of the autoencoder's encoder, and a ridge on the statistics of its last features."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.trunk = autoencoder.encoder_copy()
        self.variance = LogVarianceRidge()

    def forward(self, view: Images) -> Latents:
        """z_hat, for training."""
        z_hat: Latents = self.trunk(view)[1]
        return z_hat

    def read(self, seen: Images) -> tuple[Latents, Tensor]:
        features, z_hat = self.trunk(seen)
        return z_hat, summary(features)
