"""The base of all fits to a severity encoder: validation images and the encoder."""

from typing import ClassVar

from pydantic import Field

from workbench.core.bounds import Count, Seed
from workbench.data import ImageSplit
from workbench.severity.recipe import TrainedSeverity
from workbench.stages.base import Stage
from workbench.stages.latent_stage import LatentStage
from workbench.stages.train.train_severity import TrainSeverity


class FitEncoder(LatentStage):
    """Validation images -> statistics of a trained severity encoder."""

    artifact_type: ClassVar[str] = "model"

    severity_encoder: TrainedSeverity
    num_images: Count = Field(description="number of validation images, from the start of the split, or all")
    seed: Seed = Field(0, description="seed of severities, operators and noise")

    def effort(self) -> float:
        return self.num_images

    def severity_stage(self) -> TrainSeverity:
        """The stage of the severity encoder."""
        return TrainSeverity(data=self.data, autoencoder=self.autoencoder, severity_encoder=self.severity_encoder)

    def upstream(self) -> tuple[Stage, ...]:
        return (self.autoencoder_stage(), self.severity_stage())

    def images(self) -> ImageSplit:
        """The validation images to use."""
        images = self.data.split("val")
        return images.first(min(self.num_images, len(images)))
