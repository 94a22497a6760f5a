"""Published latent diffusion models as architectures without weights, on torch's meta device, to count what they cost.

Every number is from the model's own config.json on the Hugging Face Hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from workbench.autoencoders import Autoencoder
from workbench.autoencoders.kl import KLAutoencoder
from workbench.autoencoders.vq import VQAutoencoder
from workbench.diffusion.noise_levels import DDPMLevels, FlowLevels
from workbench.diffusion.prior.base import Prior

CLIP_TOKENS, SD3_TOKENS, FLUX_TOKENS = 77, 77 + 256, 512


@dataclass(frozen=True)
class Published:
    """One model.

    Attributes:
        title: its name.
        image_size: pixels a side of its images.
        autoencoder, network: diffusers' classes.
        autoencoder_config, network_config: their settings.
        tokens, pooled: shapes of the encoded text, without the batch; empty for an unconditional model.
    """

    title: str
    image_size: int
    autoencoder: str
    autoencoder_config: Mapping[str, Any]
    network: str
    network_config: Mapping[str, Any]
    tokens: tuple[int, ...] = ()
    pooled: tuple[int, ...] = ()

    def build(self) -> tuple[Autoencoder, Prior]:
        """The networks without weights; levels and condition have the right shapes, and no values that matter."""
        import diffusers

        with torch.device("meta"):
            autoencoder = getattr(diffusers, self.autoencoder)(**self.autoencoder_config)
            network = getattr(diffusers, self.network)(**self.network_config)
        adapter = VQAutoencoder if self.autoencoder == "VQModel" else KLAutoencoder
        prior = self._prior(network)
        for module in (autoencoder, prior):
            module.eval().requires_grad_(False)
        return adapter(autoencoder), prior.to("meta")

    def _prior(self, network: Any) -> Prior:
        from workbench.diffusion.prior.conditional_unet import SDXLPrior, StableDiffusionPrior
        from workbench.diffusion.prior.transformers import FluxPrior, SD3Prior

        levels = DDPMLevels(torch.linspace(0.99, 0.005, 1000).double())
        condition = {"encoder_hidden_states": torch.zeros(1, *self.tokens)} if self.tokens else {}
        match self.network:
            case "UNet2DModel":
                return Prior(network, levels, "epsilon")
            case "UNet2DConditionModel" if not self.pooled:
                return StableDiffusionPrior(network, levels, "epsilon", condition)
            case "UNet2DConditionModel":
                condition["text_embeds"] = torch.zeros(1, *self.pooled)
                return SDXLPrior(network, levels, "epsilon", condition)
        condition["pooled_projections"] = torch.zeros(1, *self.pooled)
        if self.network == "SD3Transformer2DModel":
            return SD3Prior(network, FlowLevels(), "flow_prediction", condition)
        condition["guidance"] = torch.zeros(1)
        return FluxPrior(network, FlowLevels(), "flow_prediction", condition)


def _vae(latent_channels: int, **more: Any) -> dict[str, Any]:
    """The autoencoder of Stable Diffusion and its successors."""
    return {
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": latent_channels,
        **more,
    }


PUBLISHED: Mapping[str, Published] = {
    "ldm_vq_f4": Published(
        "LDM VQ-f4, 256 px",
        256,
        "VQModel",
        {
            "block_out_channels": (128, 256, 512),
            "layers_per_block": 2,
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "latent_channels": 3,
            "num_vq_embeddings": 8192,
            "scaling_factor": 1.0,
        },
        "UNet2DModel",
        {
            "sample_size": 64,
            "block_out_channels": (224, 448, 672, 896),
            "layers_per_block": 2,
            "attention_head_dim": 32,
            "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3),
            "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
        },
    ),
    "sd_1_5": Published(
        "Stable Diffusion 1.5, 512 px",
        512,
        "AutoencoderKL",
        _vae(4),
        "UNet2DConditionModel",
        {"sample_size": 64, "cross_attention_dim": 768},
        tokens=(CLIP_TOKENS, 768),
    ),
    "sdxl": Published(
        "SDXL, 1024 px",
        1024,
        "AutoencoderKL",
        _vae(4),
        "UNet2DConditionModel",
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        tokens=(CLIP_TOKENS, 2048),
        pooled=(1280,),
    ),
    "sd_3_medium": Published(
        "Stable Diffusion 3 medium, 1024 px",
        1024,
        "AutoencoderKL",
        _vae(16, use_quant_conv=False, use_post_quant_conv=False),
        "SD3Transformer2DModel",
        {
            "sample_size": 128,
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "pos_embed_max_size": 192,
        },
        tokens=(SD3_TOKENS, 4096),
        pooled=(2048,),
    ),
    "flux_1": Published(
        "FLUX.1-dev, 1024 px",
        1024,
        "AutoencoderKL",
        _vae(16, use_quant_conv=False, use_post_quant_conv=False),
        "FluxTransformer2DModel",
        {"guidance_embeds": True},
        tokens=(FLUX_TOKENS, 4096),
        pooled=(768,),
    ),
}
"""Models by name."""
