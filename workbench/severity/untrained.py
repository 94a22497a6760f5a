"""No severity encoder: an estimate from the measurement alone, before anything is trained for its operator."""

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
"""The variance of a latent: the error of the estimate 0, which is an upper bound for any sensible estimate."""


class NoEncoder(EstimatorRecipe):
    """z_hat = E(guess): the autoencoder's own encoder, on the measurement as it is. Its variance is the residual's.

    With it, a user can restore with a new operator, linear or not, before anything is trained.
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
    """The estimator: E of its input, with an uninformative variance."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.autoencoder = autoencoder

    @torch.no_grad()
    def estimate(self, view: Images) -> SeverityEstimate:
        """Estimate (E(view), 1) for each image."""
        z_hat = self.autoencoder.encode(view)
        return SeverityEstimate(z_hat, z_hat.new_full((len(z_hat), 1, 1, 1), UNKNOWN))
