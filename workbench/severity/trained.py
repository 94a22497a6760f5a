"""How severity encoders are trained."""

from typing import Literal

from pydantic import Field

from workbench.autoencoders import Autoencoder
from workbench.core.bounds import BatchSize, Count, LearningRate, Seed
from workbench.core.config import NOT_IDENTITY
from workbench.degradations import AnyDegradation
from workbench.severity.encoder import SeverityEncoder, SeverityNetwork
from workbench.severity.estimator import EstimatorRecipe
from workbench.severity.loss import SeverityLoss


class SeverityRecipe(EstimatorRecipe):
    """The architecture of a severity encoder, its training data, and how it is trained."""

    kind: Literal["encoder"] = "encoder"
    degradation: AnyDegradation = Field(
        description="degradation of its training images; severities are uniform on [0, 1]"
    )
    loss: SeverityLoss = SeverityLoss()
    num_train_images: Count = Field(60_000, description="number of training images processed")
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 3e-3
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16: autocast, faster on CPUs that support it"
    )
    seed: Seed = 0
    source: str = Field(
        "train",
        description="train; auto: the one shipped with the autoencoder, if this recipe trained it; or a folder",
        json_schema_extra=NOT_IDENTITY,
    )

    def build(self, autoencoder: Autoencoder) -> SeverityNetwork:
        """The network before it is trained; random weights come from torch's current generator."""
        return SeverityEncoder(autoencoder)
