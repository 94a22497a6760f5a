"""Principal components of patches, corrected by convolutional networks: trains in minutes where others take hours.

The shortcut is that of residual autoencoding (Chen et al., DC-AE, arXiv 2410.10733): networks learn only what a linear
map from blocks of pixels to channels lacks. Here that map is the best one, the principal components of the training
images' patches, so training starts from their quality.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.autoencoders.base import Autoencoder, DescentRecipe, ImageBatches
from workbench.autoencoders.pca import PCA, PCAAutoencoder
from workbench.autoencoders.tiny import TinyAutoencoder
from workbench.core.bounds import Depth, Weight, Width

NUM_BASIS_IMAGES = 10_000


class _Features(nn.Module):
    """Images on [-1, 1] to the linear latents and the features of the correction, as channels."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.basis, self.network = model.basis, model.features

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.basis.encode(x).latents, self.network(x)], dim=1)


class PatchAutoencoder(TinyAutoencoder):
    """Patch components with corrections, trained with squared error and a little noise on the latent."""

    def __init__(
        self, model: Any, latent_noise: float = 0.0, moment_weight: float = 0.0, channel_power: float = 0.0
    ) -> None:
        super().__init__(model, latent_noise, moment_weight)
        self.channel_power = channel_power

    @property
    def downscale(self) -> int:
        return 4

    def _encoder_parts(self) -> tuple[nn.Module, nn.Module]:
        # P(x) + f(x) as one convolution of both, which a severity encoder can change
        correction, num_latents = self.model.to_latent, self.latent_channels
        projection = nn.Conv2d(num_latents + correction.in_channels, num_latents, 3, padding=1)
        with torch.no_grad():
            nn.init.dirac_(projection.weight[:, :num_latents])
            projection.weight[:, num_latents:] = correction.weight
            assert projection.bias is not None
            projection.bias.copy_(correction.bias)
        return _Features(self.model), projection

    def prepare(self, train: ImageBatches) -> None:
        """Set the basis to the principal components of the first training images."""
        basis = PCA(latent_channels=self.latent_channels, num_train_images=NUM_BASIS_IMAGES)
        fitted = basis.fit(self.image_channels, train)
        assert isinstance(fitted, PCAAutoencoder)
        self.model.basis.load_state_dict(fitted.model.state_dict())

    def finish(self) -> None:
        """Scale the channels, which were trained to equal variance, to powers of their components' deviations."""
        factors = self.model.basis.std.detach() ** self.channel_power
        self.model.scale_channels(factors / factors.square().mean().sqrt())


class Patch(DescentRecipe):
    """Principal components of 4 x 4 patches with convolutional corrections: quick to train, for colour photographs."""

    kind: Literal["patch"] = "patch"
    latent_channels: Width = Field(12, description="channels of the latent")
    width: Width = Field(32, description="channels at half the image's size")
    latent_width: Width = Field(96, description="channels at a quarter of the image's size")
    num_blocks: Depth = Field(1, description="residual blocks at half the image's size")
    num_latent_blocks: Depth = Field(3, description="residual blocks at a quarter of the image's size")
    latent_noise: float = Field(0.03, ge=0, le=100, description="std of noise on the latent in training; smooths D")
    moment_weight: Weight = Field(0.01, description="weight of the penalty on channel means and variances")
    channel_power: float = Field(
        0.5,
        ge=0,
        le=1,
        description="channels have the standard deviation of their component to this power: 0: all equal; 1: as in the "
        "image. What a degradation removes are components that vary little; at 0.5 the error of z_hat is about white",
    )

    adapter: ClassVar[type[Autoencoder]] = PatchAutoencoder
    splits_batches: ClassVar[bool] = True

    @classmethod
    def model_class(cls) -> Any:
        from workbench.autoencoders.corrected_patches import CorrectedPatches

        return CorrectedPatches

    def build(self, image_channels: int) -> PatchAutoencoder:
        PCA(latent_channels=self.latent_channels).build(image_channels)  # refuses more components than values
        model = self.model_class()(
            image_channels,
            self.latent_channels,
            self.width,
            self.latent_width,
            self.num_blocks,
            self.num_latent_blocks,
        )
        # several times faster than the default on CPUs, in training
        model.to(memory_format=torch.channels_last)
        return PatchAutoencoder(model, self.latent_noise, self.moment_weight, self.channel_power)
