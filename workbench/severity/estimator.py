"""Estimators: what guesses the clean latent from a measurement, and what a cell says of it."""

from abc import abstractmethod
from typing import Protocol, runtime_checkable

from workbench.autoencoders import Autoencoder
from workbench.core.families import Member
from workbench.core.measurement import Measurement
from workbench.core.tensors import Images
from workbench.degradations import Degradation
from workbench.severity.estimate import SeverityEstimate


class Estimator(Protocol):
    """Estimates the clean latent, and the variance of the estimate's error, from the image-domain view of y."""

    def estimate(self, view: Images) -> SeverityEstimate:
        """Estimate (z_hat, var_hat) of each image."""
        ...


@runtime_checkable
class ReadsMeasurements(Protocol):
    """An estimator that needs more than the view: it prepares its own input, with the operator at hand."""

    flops: float | None
    """FLOPs of `seen` on one image; None before the first."""

    def seen(self, degradation: Degradation, measurement: Measurement) -> Images:
        """What `estimate` reads, (batch, channel, height, width)."""
        ...


def seen_by(estimator: Estimator, degradation: Degradation, measurement: Measurement) -> Images:
    """The input of an estimator: the image-domain view of y, unless it prepares its own."""
    if isinstance(estimator, ReadsMeasurements):
        return estimator.seen(degradation, measurement)
    return measurement.encoder_input()


class EstimatorRecipe(Member):
    """Where the first estimate comes from.

    Derive from `SeverityRecipe` what is to be trained here, from `FittedRecipe` what is fitted to the operator at hand,
    and from `NoEncoder` what claims no variance. Anything else comes trained and predicts its variance. What needs a
    fit on held-out images (`fused`, recalibration, risk) needs an estimator that is trained or fitted here.
    """

    @abstractmethod
    def build(self, autoencoder: Autoencoder) -> Estimator:
        """The estimator as it is before anything is learnt here."""

    def check(self, degradation: Degradation) -> None:
        """Refuse an operator that the estimator cannot read. Raises UserError."""
