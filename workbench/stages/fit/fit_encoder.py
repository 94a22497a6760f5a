"""What every fit to a severity encoder is: validation images, and the encoder that is looked at."""

from typing import ClassVar

from pydantic import Field

from workbench.core.bounds import Count, Seed
from workbench.data import ImageSplit
from workbench.severity.recipe import TrainedSeverity
from workbench.stages.base import Stage
from workbench.stages.latent_stage import LatentStage
from workbench.stages.train.train_severity import TrainSeverity


class FitEncoder(LatentStage):
    """Validation images -> what is known of a severity encoder once it is trained."""

    artifact_type: ClassVar[str] = "model"

    severity_encoder: TrainedSeverity
    num_images: Count = Field(description="validation images from the beginning of the split, or all")
    seed: Seed = Field(0, description="keys severities, operators and noise")

    def effort(self) -> float:
        return self.num_images

    def severity_stage(self) -> TrainSeverity:
        """The stage that gives the severity encoder."""
        return TrainSeverity(data=self.data, autoencoder=self.autoencoder, severity_encoder=self.severity_encoder)

    def upstream(self) -> tuple[Stage, ...]:
        return (self.autoencoder_stage(), self.severity_stage())

    def images(self) -> ImageSplit:
        """The validation images that are used."""
        images = self.data.split("val")
        return images.first(min(self.num_images, len(images)))
