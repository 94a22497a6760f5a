"""Tiny random models of every class of latent diffusion that diffusers has, saved as its own pipelines save them."""

import json
import string
from pathlib import Path
from typing import Any

import torch

CHANNELS = 8
TEXT_WIDTH = 16
OF_STABLE_DIFFUSION: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""The settings of its scheduler."""
WORDS = ["a", "photograph", "of", "the", "sea", "portrait", "not", "blurred"]


def ldm(**scheduler: Any) -> Any:
    """Latent diffusion (Rombach et al.) with a VQModel."""
    from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel

    with seeded():
        unet = UNet2DModel(
            sample_size=8,
            in_channels=3,
            out_channels=3,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
        vqvae = VQModel(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=3,
            norm_num_groups=8,
            num_vq_embeddings=16,
            scaling_factor=1.0,
        )
        settings = {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195, "clip_sample": False}
        return LDMPipeline(vqvae, unet, DDIMScheduler(**settings, **scheduler))


def stable_diffusion(**scheduler: Any) -> Any:
    """Stable Diffusion 1 or 2."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    with seeded():
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        return StableDiffusionPipeline(
            vae=vae(),
            text_encoder=clip(),
            tokenizer=clip_tokenizer(),
            unet=unet,
            scheduler=DDIMScheduler(**OF_STABLE_DIFFUSION | scheduler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def sdxl() -> Any:
    """SDXL, with two text encoders and time ids."""
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    with seeded():
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            cross_attention_dim=2 * TEXT_WIDTH,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH,
            use_linear_projection=True,
        )
        return StableDiffusionXLPipeline(
            vae=vae(),
            text_encoder=clip(),
            text_encoder_2=clip(projected=True),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            unet=unet,
            scheduler=DDIMScheduler(**OF_STABLE_DIFFUSION),
            add_watermarker=False,
        )


def dit() -> Any:
    """DiT, which predicts variances, too."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    with seeded():
        transformer = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            num_embeds_ada_norm=1000,
        )
        shake(transformer, 0.03)
        return DiTPipeline(transformer, vae(), DDIMScheduler(clip_sample=False))


def sd3() -> Any:
    """Stable Diffusion 3: a rectified flow, without T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    with seeded():
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=4 * TEXT_WIDTH,
            caption_projection_dim=16,
            pooled_projection_dim=2 * TEXT_WIDTH,
            pos_embed_max_size=24,
        )
        shake(transformer)
        return StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae(channels=16, scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=clip(projected=True),
            tokenizer=clip_tokenizer(),
            text_encoder_2=clip(projected=True),
            tokenizer_2=clip_tokenizer(),
            text_encoder_3=None,
            tokenizer_3=None,
        )


def flux(guidance_embeds: bool = True) -> Any:
    """FLUX.1: a rectified flow with packed latents."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    with seeded():
        transformer = FluxTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH,
            pooled_projection_dim=TEXT_WIDTH,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 4, 8),
        )
        shake(transformer)
        return FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            vae=vae(channels=16, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=clip(),
            tokenizer=clip_tokenizer(),
            text_encoder_2=t5(),
            tokenizer_2=t5_tokenizer(),
            transformer=transformer,
        )


class seeded:  # noqa: N801
    """The same weights every time, whatever was drawn before."""

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()
        torch.manual_seed(0)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.state)


def shake(network: Any, by: float = 0.1) -> None:
    """Give every weight a value: transformers begin with zeros, which answer nothing."""
    network.eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(by * torch.randn_like(weight))


def vae(channels: int = 4, scaling_factor: float = 0.18215, shift_factor: float | None = None) -> Any:
    """An AutoencoderKL that halves the size."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=16,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
    ).eval()


def clip(projected: bool = False) -> Any:
    """CLIP's text encoder."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(_clip_vocabulary()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=TEXT_WIDTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5() -> Any:
    """T5's encoder."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=64, d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    ).eval()


def _clip_vocabulary() -> list[str]:
    letters = list(string.ascii_lowercase)
    whole = [f"{word}</w>" for word in WORDS if len(word) > 1]
    return ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), *whole]


def clip_tokenizer() -> Any:
    """CLIP's tokenizer on a vocabulary of letters and a few words."""
    from transformers import CLIPTokenizer

    vocabulary = {token: number for number, token in enumerate(_clip_vocabulary())}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, pad_token="<|endoftext|>")


def t5_tokenizer() -> Any:
    """T5's tokenizer on a few words."""
    from transformers import T5TokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS), *string.ascii_lowercase, "▁"]
    return T5TokenizerFast(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0)


def saved(pipeline: Any, folder: Path) -> Path:
    """The pipeline in a folder, as `--model` reads it."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return folder


def edit(path: Path, **values: Any) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
