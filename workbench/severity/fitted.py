"""Estimators that are fitted to the operator at hand, in seconds: an estimate, and a ridge for its log variance."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders import Autoencoder
from workbench.core.bounds import MAX_COUNT, Seed
from workbench.core.tensors import Images, Latents
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.estimator import EstimatorRecipe
from workbench.severity.ridge import LogVarianceRidge

MOST_HELD_OUT = 256
"""Images of each held-out part at most: more improve variance and scores little, and are better spent on z_hat."""
MIN_HELD_OUT = 20
"""Images of each held-out part at least."""
MIN_IMAGES = 4 * MIN_HELD_OUT


class Parts(NamedTuple):
    """Three disjoint sets of images, as slices: for z_hat, for its log variance, and for conformal scores.

    A variance fitted on the images of z_hat would be too small, and so would a bound on those of the variance.
    """

    estimate: slice
    variance: slice
    scores: slice


class FittedEstimator(nn.Module):
    """z_hat and features of its input; log var_hat is a ridge regression on the features."""

    variance: LogVarianceRidge

    @abstractmethod
    def read(self, seen: Images) -> tuple[Latents, Tensor]:
        """z_hat, and the features that its variance is predicted from, (batch, k)."""

    @torch.no_grad()
    def estimate(self, seen: Images) -> SeverityEstimate:
        """Estimate each image."""
        z_hat, features = self.read(seen)
        return SeverityEstimate(z_hat, self.variance(features).exp().reshape(-1, 1, 1, 1), features)

    def load_fitted(self, state: Mapping[str, Tensor]) -> None:
        """Load the state of a fitted estimator. Raises RuntimeError if it is another one's."""
        self.variance = LogVarianceRidge(len(state.get("variance.weight", ())))
        self.load_state_dict(dict(state))


class FittedRecipe(EstimatorRecipe):
    """What is fitted to an operator on clean images, which are degraded with it. `stages.fit.fit_estimator` does it."""

    num_images: int = Field(
        2000,
        ge=MIN_IMAGES,
        le=MAX_COUNT,
        description="number of clean images, from the start of the training split, or all",
    )
    images: Literal["data", "prior"] = Field(
        "data",
        description="the clean images: the data's, or samples of the prior, drawn once; a variance fitted on the "
        "latter is not calibrated, since they are not exchangeable with real images",
    )
    seed: Seed = 0

    learns: ClassVar[bool] = False
    """Whether z_hat is trained, on a part of the images of its own."""

    @abstractmethod
    def build(self, autoencoder: Autoencoder) -> FittedEstimator: ...

    def num_scores(self, num_images: int) -> int:
        """Number of images behind a conformal bound."""
        scores = parts(num_images, learns=self.learns).scores
        return int(scores.stop - scores.start)


def parts(num_images: int, *, learns: bool) -> Parts:
    """Disjoint parts of so many images; an estimate that is not trained needs none."""
    held_out = min(MOST_HELD_OUT, num_images // (4 if learns else 2))
    second = num_images - held_out
    first = second - held_out
    return Parts(slice(0, first if learns else 0), slice(first, second), slice(second, num_images))
