"""A severity encoder compared with the ground truth: measurements of known images, and its estimates."""

from collections.abc import Iterator

import torch

from workbench.autoencoders import Autoencoder
from workbench.core.measurement import Measurement
from workbench.core.tensors import Ids, Latents, Measurements, Scalars
from workbench.data import ImageSplit
from workbench.degradations import AnySeverityDistribution, Degradation, Uniform
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.estimator import Estimator, seen_by
from workbench.severity.variance.residual import residual_variance

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
    for index in images.batches(BATCH_SIZE):
        measurement = degrade(degradation, images, index, seed).to(device)
        z0 = autoencoder.encode(images.batch(index).to(device))
        yield measurement, encoder.estimate(seen_by(encoder, degradation, measurement)), z0


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


@torch.no_grad()
def variance_of_residual(
    autoencoder: Autoencoder,
    encoder: Estimator,
    degradation: Degradation,
    measurement: Measurement,
    estimate: SeverityEstimate,
    seed: int,
) -> Scalars:
    """The variance of the latent error that explains the residual of an estimate; see `severity.variance.residual`."""

    def forward(z: Latents, measurement: Measurement) -> Measurements:
        return degradation.A(autoencoder.decode(z), dict(measurement.params))

    def encode(y: Measurements, measurement: Measurement) -> Latents:
        return encoder.estimate(seen_by(encoder, degradation, degradation.with_values(measurement, y))).z_hat

    return residual_variance(estimate.z_hat, measurement, forward, encode, estimate.per_image(), seed=seed)
