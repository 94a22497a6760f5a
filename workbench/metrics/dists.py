"""DISTS, structure and texture similarity (Ding et al., arXiv 2004.07728), by torchmetrics."""

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.core.config import UserError
from workbench.core.tensors import Images, Scalars
from workbench.metrics.perceptual import Absent, read_features
from workbench.metrics.pretrained import VGG16, MetricWeights
from workbench.weights.diffusers_folder import read_state_dict

CHANNELS = (1, 3)
"""Numbers of image channels that the classifier supports; greyscale is repeated."""


def load_dists(weights: MetricWeights, channels: int) -> nn.Module | Absent:
    """The network of DISTS, or why it is absent. Its weights are never random.

    Raises:
        UserError: for a file that is missing, damaged or of another network.
    """
    if channels not in CHANNELS:
        return Absent(f"DISTS compares greyscale or colour images, but these have {channels} channels")
    path = weights.find(VGG16, "DISTS")
    return path if isinstance(path, Absent) else _loaded(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _loaded(path: Path, _changed: int) -> nn.Module:
    from torchvision.models import vgg16

    from workbench.metrics.dists_network import OWN_WEIGHTS, DISTSNetwork

    with torch.device("meta"):  # no random weights: all come from the file
        features = vgg16(weights=None).features
    try:
        features.load_state_dict(read_features(path), strict=True, assign=True)
    except RuntimeError as error:
        raise UserError(f"{path} does not hold {VGG16.content}: {str(error).splitlines()[1].strip()}") from None
    own = read_state_dict(OWN_WEIGHTS)
    return DISTSNetwork(features, own["alpha"], own["beta"])


@torch.no_grad()
def dists(network: nn.Module, x_hat: Images, x: Images) -> Scalars:
    """DISTS of each pair, (B,), of images with 1 or 3 channels on [0, 1]; 0 for equal ones. `x_hat` is clamped.

    The images are compared at their own size; the authors' subjective scores are of images of 256 px.

    Raises:
        ValueError: if the shapes differ.
    """
    if x_hat.shape != x.shape:
        raise ValueError(f"the two batches must have the same shape, got {tuple(x_hat.shape)} and {tuple(x.shape)}")
    found: Tensor = network(x_hat.clamp(0, 1).expand(-1, 3, -1, -1), x.expand(-1, 3, -1, -1))
    return found.reshape(len(x)).clone()
