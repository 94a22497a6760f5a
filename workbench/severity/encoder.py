"""The severity encoder (arXiv 2309.06642, section 3.2): y -> z_hat and the variance of its error."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from workbench.autoencoders import Autoencoder
from workbench.core.tensors import Images
from workbench.severity.estimate import SeverityEstimate

INITIAL_VARIANCE = 0.1
"""Initial prediction of an untrained head: the order of the latent error of a moderately degraded image."""


class SeverityNetwork(nn.Module):
    """The base of all severity encoders that are trained here."""

    @abstractmethod
    def forward(self, view: Images) -> tuple[Tensor, Tensor]:
        """(z_hat, log var_hat), the latter (batch, 1, 1, 1), of a measurement's image-domain view."""

    @torch.no_grad()
    def estimate(self, view: Images) -> SeverityEstimate:
        """Estimate each image of the view."""
        z_hat, log_var = self(view)
        return SeverityEstimate(z_hat, log_var.exp())


class SeverityEncoder(SeverityNetwork):
    """The autoencoder's encoder, fine-tuned on degraded images, with a scalar head on its last features.

    The head predicts log var_hat, so var_hat is positive and errors are relative at every severity.

    Args:
        autoencoder: provides the initial weights, and thus the architecture.
        trunk: another network from images on [0, 1] to (features, z_hat).
    """

    def __init__(self, autoencoder: Autoencoder, trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = autoencoder.encoder_copy() if trunk is None else trunk
        self.head = VarianceHead()

    def forward(self, view: Images) -> tuple[Tensor, Tensor]:
        features, z_hat = self.trunk(view)
        return z_hat, self.head(features)

    @torch.no_grad()
    def estimate(self, view: Images) -> SeverityEstimate:
        features, z_hat = self.trunk(view)
        summary = self.head.summary(features)
        return SeverityEstimate(z_hat, self.head.log_variance(summary).exp(), summary)


class VarianceHead(nn.Module):
    """log var_hat, (batch, 1, 1, 1), from the mean, spread and magnitude of each feature channel over the image.

    Spread and magnitude enter as logarithms, because noise and blur change features by factors.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.log(INITIAL_VARIANCE))
        self.layers = nn.Sequential(nn.LazyLinear(width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, features: Tensor) -> Tensor:
        return self.log_variance(self.summary(features))

    def summary(self, features: Tensor) -> Tensor:
        """The input of the head, (batch, 3 * channel)."""
        return summary(features)

    def log_variance(self, summary: Tensor) -> Tensor:
        """log var_hat, (batch, 1, 1, 1), from the summary."""
        log_var: Tensor = self.layers(summary)
        return log_var.reshape(-1, 1, 1, 1)


def summary(features: Tensor) -> Tensor:
    """Mean, log spread and log magnitude of each channel of (batch, channel, height, width): (batch, 3 * channel)."""
    flat = features.flatten(2)
    # a single position has no spread: without correction, its std is 0 and not NaN
    spread = flat.std(2, correction=min(1, flat.shape[2] - 1))
    magnitudes = torch.cat([spread, flat.abs().mean(2)], dim=1)
    return torch.cat([flat.mean(2), (magnitudes + 1e-3).log()], dim=1)
