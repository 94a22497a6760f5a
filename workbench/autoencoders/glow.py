"""A multi-scale Glow (Kingma and Dhariwal, arXiv 1807.03039) with normflows' layers, in diffusers' folder format."""

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from normflows.flows import AffineConstFlow, AffineCouplingBlock, Flow, Invertible1x1Conv
from normflows.nets import ConvNet2d
from torch import Tensor, nn

from workbench.autoencoders.folder_model import FolderModel


class Glow(FolderModel):
    """Images to latents of the same number of values, invertibly, with the log-determinant of the Jacobian.

    A new one has scales of one and identity couplings. (Glow initializes its scales by the first batch instead, which
    would make the weights depend on that batch.)

    Args:
        in_channels: channels of the images.
        num_levels: number of halvings of the resolution; latents have in_channels * 4^num_levels channels.
        num_steps: steps of flow at each level.
        width: channels in the coupling networks.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_levels: int = 2,
        num_steps: int = 8,
        width: int = 64,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            num_levels=num_levels,
            num_steps=num_steps,
            width=width,
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
        )
        self.level = Level(in_channels, num_levels, num_steps, width)

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of images, and log |det d latents / d images|, (batch,)."""
        latents, log_det = self.level(x)
        return latents, log_det

    def encode(self, x: Tensor) -> AutoencoderTinyOutput:
        """Latents of images, (batch, in_channels * 4^num_levels, height / 2^num_levels, width / 2^num_levels)."""
        return AutoencoderTinyOutput(latents=self.transform(x)[0])

    def decode(self, latents: Tensor) -> DecoderOutput:
        """The images with these latents."""
        return DecoderOutput(sample=self.level.inverse(latents))


class Level(nn.Module):
    """One resolution of a flow, with the lower resolutions inside.

    Blocks of 2 x 2 pixels become channels, followed by steps of flow. Then half of the channels leave the flow (Dinh et
    al., arXiv 1605.08803, section 3.6); reshaped to the lowest resolution, they are channels of the latent too.
    """

    def __init__(self, in_channels: int, num_levels: int, num_steps: int, width: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(flow for _ in range(num_steps) for flow in _step(4 * in_channels, width))
        self.below = Level(2 * in_channels, num_levels - 1, num_steps, width) if num_levels > 1 else None
        self.fold = 2 ** (num_levels - 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(latents, log-determinant) of this level's input."""
        x, log_det = F.pixel_unshuffle(x, 2), x.new_zeros(len(x))
        for flow in self.steps:
            assert isinstance(flow, Flow)
            x, change = flow.inverse(x)  # in normflows, data to latents is the inverse direction
            log_det = log_det + change
        if self.below is None:
            return x, log_det
        staying, leaving = x.chunk(2, dim=1)
        latents, change = self.below(staying)
        return torch.cat([latents, F.pixel_unshuffle(leaving, self.fold)], dim=1), log_det + change

    def inverse(self, latents: Tensor) -> Tensor:
        """This level's input from its latents."""
        x = latents
        if self.below is not None:
            below, leaving = latents.chunk(2, dim=1)
            x = torch.cat([self.below.inverse(below), F.pixel_shuffle(leaving, self.fold)], dim=1)
        for flow in reversed(self.steps):
            x, _ = flow(x)
        return F.pixel_shuffle(x, 2)


def _step(channels: int, width: int) -> tuple[Flow, Flow, Flow]:
    """A step of flow: scale and shift of each channel, invertible channel mixing, affine coupling."""
    halves = channels // 2
    network = ConvNet2d((halves, width, width, 2 * halves), (3, 1, 3))
    return (
        AffineConstFlow((channels, 1, 1)),
        Invertible1x1Conv(channels),
        AffineCouplingBlock(network, scale_map="sigmoid"),
    )
