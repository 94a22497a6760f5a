"""Principal components of patches (Pearson 1901): the best linear autoencoder, in closed form; a baseline.

Components are those of patches, not of whole images: a convolution with a stride of one patch is the linear counterpart
of a convolutional autoencoder. Its latents are maps of the same shape, so the same prior and severity encoder can use
them, and it accepts images of any size.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders.base import ArchitectureRecipe, Autoencoder, ImageBatches
from workbench.autoencoders.side_features import SideFeatures, latents_alone
from workbench.core.bounds import Count, Width
from workbench.core.config import UserError
from workbench.core.tensors import Images

BATCH_SIZE = 500
NUM_IMAGES_PER_EFFORT = 100
"""Number of images that are fitted in the time of one training image."""
SMALLEST_VARIANCE = 1e-10
"""Variance of a component relative to the largest; less is rounding in a direction without variation."""


class _Encode(nn.Module):
    """A model's encoding as a module."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        weight, bias = model.filters()
        self.weight, self.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, stride=self.weight.shape[-1])


class PCAAutoencoder(Autoencoder):
    """The leading principal components of patches, each scaled to unit variance.

    The components' variances differ by orders of magnitude. The other families train their channels towards unit
    variance, which SNR matching assumes; here, components are divided by their standard deviation, which decoding
    reverses.
    """

    @property
    def downscale(self) -> int:
        return int(self.model.config.patch_size)

    def _encode(self, x: Tensor) -> Tensor:
        latents: Tensor = self.model.encode(x).latents
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.model.decode(latents).sample
        return images

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        # a linear map alone could not learn to invert a degradation
        return SideFeatures(_Encode(self.model), self.image_channels, self.downscale), latents_alone(
            self.latent_channels
        )

    def training_loss(self, x: Images, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The squared error, which the principal components minimise."""
        mse = F.mse_loss(self.decode(self.encode(x)), x)
        return mse, {"mse": mse}

    @torch.no_grad()
    def fit(self, images: Iterable[Images]) -> None:
        """Compute the mean patch, and the leading eigenvectors and eigenvalues of the patches' covariance.

        Raises:
            UserError: if the patches vary in fewer directions than there are components.
        """
        count, total, products = 0, torch.zeros(()).double(), torch.zeros(()).double()
        for x in images:
            patches = F.unfold(2 * x.double() - 1, self.downscale, stride=self.downscale).transpose(1, 2).flatten(0, 1)
            count, total, products = count + len(patches), total + patches.sum(0), products + patches.T @ patches
        mean = total / count
        variances, directions = torch.linalg.eigh(products / count - mean.outer(mean))
        variances, directions = variances.flip(0), directions.flip(1)
        rank = int((variances > SMALLEST_VARIANCE * variances[0]).sum())
        if rank < self.latent_channels:
            raise UserError(
                f"the patches of the training images vary in {rank} directions only: "
                f"set autoencoder.latent_channels to at most {rank}"
            )
        kept = slice(0, self.latent_channels)
        self.model.components.copy_(directions.T[kept].reshape(self.model.components.shape))
        self.model.std.copy_(variances[kept].sqrt())
        self.model.mean.copy_(mean.reshape(self.model.mean.shape))


class PCA(ArchitectureRecipe):
    """Principal components of patches: linear, in closed form, without training; a baseline."""

    kind: Literal["pca"] = "pca"
    latent_channels: Width = Field(8, description="number of components per patch")
    # a power of two, so that a prior's and a severity encoder's strides of two meet the latents
    patch_size: Literal[2, 4, 8, 16] = Field(4, description="pixels per side; latents are smaller by this factor")
    num_train_images: Count = Field(60_000, description="number of training images whose patches are used; at most all")

    adapter: ClassVar[type[Autoencoder]] = PCAAutoencoder

    @classmethod
    def model_class(cls) -> Any:
        from workbench.autoencoders.patch_basis import PatchBasis

        return PatchBasis

    def build(self, image_channels: int) -> PCAAutoencoder:
        in_patch = image_channels * self.patch_size**2
        if self.latent_channels > in_patch:
            raise UserError(
                f"a patch of {self.patch_size} pixels a side and {image_channels} channels has {in_patch} numbers: "
                f"autoencoder.latent_channels must be at most that, got {self.latent_channels}"
            )
        return PCAAutoencoder(self.model_class()(image_channels, self.latent_channels, self.patch_size))

    def effort(self) -> float:
        return self.num_train_images / NUM_IMAGES_PER_EFFORT

    def fit(self, image_channels: int, train: ImageBatches) -> PCAAutoencoder:
        autoencoder = self.build(image_channels)
        num_images = min(self.num_train_images, len(train))
        starts = range(0, num_images, BATCH_SIZE)
        autoencoder.fit(train.batch(slice(first, min(first + BATCH_SIZE, num_images))) for first in starts)
        return autoencoder
