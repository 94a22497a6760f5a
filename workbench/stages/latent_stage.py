"""The base of stages that work in the latent space of an autoencoder."""

from workbench.autoencoders import AnyAutoencoder
from workbench.data import Source
from workbench.stages.base import Stage
from workbench.stages.train.train_autoencoder import TrainAutoencoder


class LatentStage(Stage):
    """A stage on images and the autoencoder that was trained on them."""

    data: Source
    autoencoder: AnyAutoencoder

    def autoencoder_stage(self) -> TrainAutoencoder:
        """The stage of the autoencoder."""
        return TrainAutoencoder(data=self.data, autoencoder=self.autoencoder)

    def relative_cost(self) -> float:
        return self.autoencoder_stage().image_cost()
