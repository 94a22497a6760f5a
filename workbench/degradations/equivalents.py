"""Images that measure the same: what no restoration can tell, and no metric should count."""

import torch

from workbench.core.tensors import Images
from workbench.degradations.base import Degradation


def nearest_equivalent(degradation: Degradation, x_hat: Images, x: Images) -> Images:
    """Of x_hat and the images that measure the same, the one with the smallest squared error from x, per image.

    An operator that declares none has x_hat itself. In phase retrieval, the image turned by 180 degrees is reported
    as the image (e.g. DAPS, arXiv 2407.01521).
    """
    best = x_hat
    for other in degradation.equivalents(x_hat):
        is_nearer = _squared_error(other, x) < _squared_error(best, x)
        best = torch.where(is_nearer[:, None, None, None], other, best)
    return best


def _squared_error(x_hat: Images, x: Images) -> torch.Tensor:
    return (x_hat - x).square().flatten(1).sum(1)
