"""Ridge regression of an estimate's log error variance on features, in closed form."""

import torch
from torch import Tensor, nn

from workbench.core.tensors import Scalars

PENALTIES = torch.logspace(-2, 4, 25, dtype=torch.float64)
"""Candidates for the ridge penalty, for standardised features."""
MARGIN = 0.7
"""Predictions beyond the range of the fit by more than this in log variance (a factor of 2) are clipped."""


class LogVarianceRidge(nn.Module):
    """log var_hat = bias + weight . standardised features, clipped to about the range of the fit.

    Args:
        num_features: k; the weights are zero until they are fitted or loaded.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    bounds: Tensor

    def __init__(self, num_features: int = 0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))
        self.register_buffer("weight", torch.zeros(num_features))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("bounds", torch.tensor([-100.0, 100.0]))

    def forward(self, features: Tensor) -> Scalars:
        """log var_hat of features (batch, k); 0 before it is fitted."""
        if len(self.weight) == 0:
            return features.new_zeros(len(features))
        log_var = (features - self.mean) / self.scale @ self.weight + self.bias
        return log_var.clamp(self.bounds[0], self.bounds[1])

    def fit(self, features: Tensor, s2: Tensor) -> None:
        """Least squares on log s2 with the penalty of the smallest leave-one-image-out error.

        E[log s2] is below log E[s2]: the bias is raised so that the mean of s2 / var_hat, each image left out, is 1.

        Args:
            features: (draws, images, k), of several measurements of each image.
            s2: their true error variances, (draws, images).
        """
        x, target = features.double().flatten(0, 1), s2.double().log().flatten()
        mean, scale = x.mean(0), x.std(0) + 1e-6
        u, singular, vt = torch.linalg.svd((x - mean) / scale, full_matrices=False)
        centred = target - target.mean()
        projected = u.T @ centred
        of_image = u.reshape(*s2.shape, -1).transpose(0, 1)  # (images, draws, rank)
        errors = []
        for penalty in PENALTIES:
            shrink = singular.square() / (singular.square() + penalty)
            # all draws of an image left out: its block of the hat matrix (Hastie et al., 2009, eq. 7.64, for groups)
            hat = (of_image * shrink) @ of_image.mT + 1 / len(target)
            remaining = (centred - u @ (shrink * projected)).reshape(s2.shape).T
            eye = torch.eye(len(s2), dtype=torch.float64, device=hat.device)
            errors.append(torch.linalg.solve((1 + 1e-9) * eye - hat, remaining[..., None]).flatten())
        best = min(range(len(errors)), key=lambda i: float(errors[i].square().mean()))
        weight = vt.T @ (singular / (singular.square() + PENALTIES[best]) * projected)
        self.mean, self.scale, self.weight = (tensor.to(features) for tensor in (mean, scale, weight))
        self.bias = (target.mean() + errors[best].exp().mean().log()).to(features)
        self.bounds = torch.stack([target.min() - MARGIN, target.max() + MARGIN]).to(features)
