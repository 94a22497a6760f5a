"""Estimators: what guesses the clean latent from a measurement, and what a cell says of it."""

from abc import abstractmethod
from typing import Protocol

from workbench.autoencoders import Autoencoder
from workbench.core.families import Member
from workbench.core.tensors import Images
from workbench.degradations import Degradation
from workbench.severity.estimate import SeverityEstimate


class Estimator(Protocol):
    """Estimates the clean latent, and the variance of the estimate's error, from the image-domain view of y."""

    def estimate(self, view: Images) -> SeverityEstimate:
        """Estimate (z_hat, var_hat) of each image."""
        ...


class EstimatorRecipe(Member):
    """Where the first estimate comes from.

    Derive from `SeverityRecipe` what is to be trained here, and from `NoEncoder` what claims no variance. Anything else
    comes trained and predicts its variance. What needs a fit on validation images (`fused`, recalibration, risk) needs
    an encoder that is trained here.
    """

    @abstractmethod
    def build(self, autoencoder: Autoencoder) -> Estimator:
        """The estimator as it is before anything is learnt here."""

    def check(self, degradation: Degradation) -> None:
        """Refuse an operator that the estimator cannot read. Raises UserError."""
