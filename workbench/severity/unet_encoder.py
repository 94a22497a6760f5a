"""A severity encoder of more capacity than the autoencoder's encoder: a UNet on the grid of the latents."""

from typing import Literal

from pydantic import Field

from workbench.autoencoders import Autoencoder
from workbench.autoencoders.unet_trunk import UNetTrunk
from workbench.core.bounds import BlockWidths, Depth
from workbench.severity.encoder import SeverityEncoder
from workbench.severity.trained import SeverityRecipe


class UNetSeverity(SeverityRecipe):
    """z_hat = E(y) + g(y, E(y)), with a UNet g that reads blocks of pixels as channels; var_hat from its last features.

    The autoencoder's own encoder, fine-tuned, is small where the autoencoder is, and sees a neighbourhood. A UNet sees
    the whole image at its lowest resolution, at little cost.
    """

    kind: Literal["unet"] = "unet"  # type: ignore[assignment]
    block_out_channels: BlockWidths = Field((64, 128, 192), description="channels at each resolution, multiples of 16")
    layers_per_block: Depth = 1

    def build(self, autoencoder: Autoencoder) -> SeverityEncoder:
        return SeverityEncoder(autoencoder, UNetTrunk(autoencoder, self.block_out_channels, self.layers_per_block))
