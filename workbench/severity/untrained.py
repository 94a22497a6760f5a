"""No severity encoder: what can be said of a measurement before anything is trained for its operator."""

from typing import Literal

import torch
from pydantic import Field

from workbench.autoencoders import Autoencoder
from workbench.core.config import UserError
from workbench.core.tensors import Images
from workbench.degradations import Degradation
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.estimator import Estimator, EstimatorRecipe

UNKNOWN = 1.0
"""The variance of a latent: an estimate of which nothing is known is worth no more than 0."""


class NoEncoder(EstimatorRecipe):
    """z_hat = E(guess): the autoencoder's own encoder, on the measurement as it is. Its variance is the residual's.

    A user with a new operator, linear or not, can restore with it before anything is trained.
    """

    kind: Literal["none"] = "none"
    guess: Literal["view", "pseudo_inverse"] = Field(
        "view", description="what E reads: the image-domain view of y, or the regularised inverse of a linear operator"
    )

    def check(self, degradation: Degradation) -> None:
        if self.guess == "pseudo_inverse" and not degradation.linear:
            raise UserError(f"severity_encoder.guess=pseudo_inverse: {degradation.kind} is not linear; use guess=view")

    def build(self, autoencoder: Autoencoder) -> Estimator:
        return Untrained(autoencoder)


class Untrained:
    """The estimator: E of what it is shown, with a variance that claims nothing."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder = autoencoder

    @torch.no_grad()
    def estimate(self, view: Images) -> SeverityEstimate:
        """(E(view), 1) of each image."""
        z_hat = self.autoencoder.encode(view)
        return SeverityEstimate(z_hat, z_hat.new_full((len(z_hat), 1, 1, 1), UNKNOWN))
