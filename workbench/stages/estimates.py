"""A severity encoder beside the truth: its estimates of the measurements of known images."""

from collections.abc import Iterator

import torch

from workbench.autoencoders import Autoencoder
from workbench.data import ImageSplit
from workbench.degradations import Degradation
from workbench.measurement import Measurement
from workbench.severity.encoder import SeverityEncoder
from workbench.severity.estimate import SeverityEstimate
from workbench.stages.train_severity import degrade
from workbench.tensors import Latents

BATCH_SIZE = 128


@torch.no_grad()
def estimates(
    autoencoder: Autoencoder,
    encoder: SeverityEncoder,
    degradation: Degradation,
    images: ImageSplit,
    seed: int,
    device: str,
) -> Iterator[tuple[Measurement, SeverityEstimate, Latents]]:
    """(measurement, estimate, clean latent) of every image, batch by batch, at severities uniform on [0, 1]."""
    for index in torch.arange(len(images)).split(BATCH_SIZE):
        measurement = degrade(degradation, images, index, seed).to(device)
        z0 = autoencoder.encode(images.batch(index).to(device))
        yield measurement, encoder.estimate(measurement.encoder_input()), z0
