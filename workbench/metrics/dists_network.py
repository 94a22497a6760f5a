"""torchmetrics' network of DISTS without its download.

torchmetrics ships the metric's own weights, but its network downloads VGG-16 when it is made. Here, VGG-16 is given.
"""

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import dists as library

OWN_WEIGHTS = library._PATH_WEIGHT_DISTS
"""The file of the metric's own weights, alpha and beta."""
STAGES = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))
"""First and last layer (exclusive) of VGG-16's features in each stage; from the second on, L2 pooling replaces the
first."""


class DISTSNetwork(library.DISTSNetwork):
    """torchmetrics' network, made from the features of VGG-16 instead of a download."""

    def __init__(self, features: nn.Sequential, alpha: Tensor, beta: Tensor) -> None:
        nn.Module.__init__(self)
        channels = (64, 128, 256, 512)
        for number, (first, last) in enumerate(STAGES):
            pooling = [(str(first), library.L2pooling(channels=channels[number - 1]))] if number else []
            kept = range(first + len(pooling), last)
            stage = nn.Sequential()
            for name, layer in [*pooling, *((str(i), features[i]) for i in kept)]:
                stage.add_module(name, layer)
            setattr(self, f"stage{number + 1}", stage)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, -1, 1, 1))
        self.chns = [3, *channels, 512]
        self.alpha, self.beta = nn.Parameter(alpha), nn.Parameter(beta)
        self.eval().requires_grad_(False)
