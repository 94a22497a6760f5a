"""A severity encoder compared with the ground truth: measurements of known images, and its estimates."""

from collections.abc import Iterator

import torch

from workbench.autoencoders import Autoencoder
from workbench.core.measurement import Measurement
from workbench.core.tensors import Ids, Latents
from workbench.data import ImageSplit
from workbench.degradations import AnySeverityDistribution, Degradation, Uniform
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.estimator import Estimator

BATCH_SIZE = 128
UNIFORM = Uniform()


@torch.no_grad()
def estimates(
    autoencoder: Autoencoder,
    encoder: Estimator,
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


def degrade(
    degradation: Degradation,
    images: ImageSplit,
    index: Ids,
    seed: int,
    severities: AnySeverityDistribution = UNIFORM,
) -> Measurement:
    """Measurements of the images at `index`, with severities of that distribution, all keyed by (seed, id)."""
    ids = images.ids[index]
    severity = severities.quantile(degradation.draw_severity(ids, seed))
    return degradation.measure(images.batch(index), severity, ids, seed)
