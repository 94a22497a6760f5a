"""What a cell says of its severity encoder: how to train it, or that there is none."""

from typing import Annotated, Literal

from pydantic import Field

from workbench.bounds import BatchSize, Count, LearningRate, Seed
from workbench.config import NOT_IDENTITY, Config
from workbench.degradations import AnyDegradation
from workbench.severity.loss import SeverityLoss
from workbench.severity.untrained import NoEncoder


class SeverityRecipe(Config):
    """What a severity encoder is trained on, and how."""

    kind: Literal["encoder"] = "encoder"
    degradation: AnyDegradation = Field(description="what its training images suffer; severities are uniform on [0, 1]")
    loss: SeverityLoss = SeverityLoss()
    num_train_images: Count = Field(60_000, description="training images seen")
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 3e-3
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: autocast, faster where the CPU has it")
    seed: Seed = 0
    source: str = Field(
        "train",
        description="train; auto: what ships with the autoencoder, if this recipe made it; or a folder of weights",
        json_schema_extra=NOT_IDENTITY,
    )


AnySeverity = Annotated[SeverityRecipe | NoEncoder, Field(discriminator="kind")]
