"""FID and KID, distances between two sets of images from features of Inception-v3.

Heusel et al., arXiv 1706.08500; Binkowski et al., arXiv 1801.01401; by torchmetrics with torch-fidelity's network.
A set has one distance: it is a figure of a cell, not of an image.
"""

import functools
import io
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from workbench.core.config import UserError
from workbench.core.tensors import Images
from workbench.metrics.perceptual import Absent
from workbench.metrics.pretrained import INCEPTION, MetricWeights
from workbench.metrics.statistics import Estimate, Values, interval_of_counts
from workbench.weights.diffusers_folder import read_state_dict

CHANNELS = (1, 3)
FEATURES: Final = 2048
"""Number of features of the last layer."""


def load_inception(weights: MetricWeights, channels: int, metric: str, features: int = FEATURES) -> nn.Module | Absent:
    """The network with these features of 8-bit images, or why `metric` is absent.

    Raises:
        UserError: for a file that is missing, damaged or another network.
    """
    if channels not in CHANNELS:
        return Absent(f"{metric} compares greyscale or colour images, but these have {channels} channels")
    try:
        import torch_fidelity  # noqa: F401
    except ImportError as error:
        return Absent(f"{metric} is absent: torch-fidelity cannot be imported ({error}); pip install torch-fidelity")
    path = weights.find(INCEPTION, metric)
    return path if isinstance(path, Absent) else _loaded(path, path.stat().st_mtime_ns, features)


@functools.lru_cache(maxsize=4)
def _loaded(path: Path, _changed: int, features: int) -> nn.Module:
    from torchmetrics.image.fid import NoTrainInceptionV3

    # the library unpickles what it is given: it gets tensors only, which were read without running code
    held = io.BytesIO()
    torch.save(read_state_dict(path), held)
    held.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):  # random weights are drawn first, and replaced
            network: nn.Module = NoTrainInceptionV3(
                "inception-v3-compat",
                [str(features)],
                held,  # type: ignore[arg-type]
            )
    except RuntimeError as error:
        raise UserError(f"{path} does not hold {INCEPTION.content}: {str(error).splitlines()[-1].strip()}") from None
    return network


@torch.no_grad()
def inception_features(network: nn.Module, x: Images) -> Tensor:
    """(B, features) of images on [0, 1], clamped, in 8 bits, greyscale repeated, resized to 299 px."""
    eight_bits = (255 * x.clamp(0, 1)).byte()  # truncated, as torchmetrics does
    found: Tensor = network(eight_bits.expand(-1, 3, -1, -1))
    return found


def fid(clean: Tensor, restored: Tensor) -> float:
    """Fréchet distance of Gaussians fitted to the features (n, features) of both sets; biased upwards for few images.

    Raises:
        UserError: if a covariance of so few images has no full rank.
    """
    from torchmetrics.image import FrechetInceptionDistance

    require_enough("FID", len(clean), fewest_for_fid(clean.shape[1]))
    metric = FrechetInceptionDistance(feature=_Given(clean.shape[1]))
    metric.update(clean.double(), real=True)
    metric.update(restored.double(), real=False)
    return float(metric.compute())


def fewest_for_fid(features: int) -> int:
    """Images that a covariance of full rank needs."""
    return features + 1


FEWEST_FOR_KID = 100
"""Below, the estimate is mostly noise; the authors use 1,000 images and more."""


def kid(clean: Tensor, restored: Tensor) -> Estimate:
    """Squared maximum mean discrepancy of the features (n, features), kernel (x^T y / features + 1)^3, all pairs.

    The sets are paired, image by image, so the estimate is that of pairs of different images alone, which is unbiased
    for paired sets too (Gretton et al., JMLR 2012, Lemma 6). torchmetrics and torch-fidelity are written for
    independent sets: the kernel of an image and its own restoration counts there, and makes the figure lower by a
    part of order 1 / n. The interval resamples images.

    Raises:
        UserError: for fewer than `FEWEST_FOR_KID` images.
    """
    from torchmetrics.image.kid import poly_kernel

    require_enough("KID", len(clean), FEWEST_FOR_KID)
    x, y = clean.double(), restored.double()
    across = poly_kernel(x, y)
    h = (poly_kernel(x, x) + poly_kernel(y, y) - across - across.T).fill_diagonal_(0).numpy()

    def of_counts(counts: Values) -> Values:
        # an image drawn twice is no pair with itself
        return ((counts @ h) * counts).sum(1) / (counts.sum(1) ** 2 - (counts**2).sum(1))

    return interval_of_counts(of_counts, len(x))


def require_enough(metric: str, num_images: int, fewest: int) -> None:
    """Raise UserError for too few images."""
    if num_images < fewest:
        raise UserError(f"{metric} needs at least {fewest:,} images, got {num_images:,}")


class _Given(nn.Module):
    """Stands for the network where features are given."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
