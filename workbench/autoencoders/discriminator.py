"""A patch discriminator (Isola et al., arXiv 1611.07004) and its hinge losses (Lim and Ye, arXiv 1705.02894)."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Images to a map of scores, each for a patch of 22 pixels per side: high where it looks like data.

    Group norms replace the batch norms of Isola et al.: an image's score then does not depend on other images.

    Args:
        in_channels: channels of the images.
        width: channels of the first layer.
    """

    def __init__(self, in_channels: int, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 4, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scores, (batch, 1, height / 4 - 1, width / 4 - 1)."""
        scores: Tensor = self.layers(x)
        return scores

    def judge(self, x: Tensor) -> Tensor:
        """The scores, with gradients for `x` only: an autoencoder's loss must not train its discriminator."""
        frozen = {name: parameter.detach() for name, parameter in self.named_parameters()}
        scores: Tensor = torch.func.functional_call(self, frozen, (x,))
        return scores


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean max(0, 1 - D(x)) + mean max(0, 1 + D(x_hat)) of the scores of data and of reconstructions."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """-mean D(x_hat)."""
    return -fake.mean()
