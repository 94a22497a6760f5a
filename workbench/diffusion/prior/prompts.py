"""What a network is told about a prompt. diffusers' own pipelines encode it, and the text encoders are freed."""

from pathlib import Path
from typing import Any

import torch

from workbench.core.config import UserError
from workbench.core.foreign import readable
from workbench.diffusion.prior.conditional import Condition
from workbench.weights.model import ModelFolder

ENCODERS = {"CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"}
"""transformers' classes of text encoders."""
TOKENIZERS = {"CLIPTextModel": "CLIPTokenizer", "CLIPTextModelWithProjection": "CLIPTokenizer"}
OTHER_TOKENIZER = "T5TokenizerFast"
DERIVED = ("position_ids", "embed_tokens.weight")
"""Stored tensors that follow from others; files may have them or not."""


def encode_prompts(
    model: ModelFolder, config: Any, prompt: str, negative: str
) -> tuple[Condition, Condition, tuple[str, ...]]:
    """What the network is told with the prompt, and with the negative one; and notes on what was cut off.

    Args:
        config: the network's.

    Raises:
        UserError: if the text encoders are missing or cannot be read, or transformers is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise UserError(
            f"{model.root} is conditioned on text, which needs transformers: pip install 'severity-workbench[text]'"
        ) from None
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    endings = model.texts()
    parts: dict[str, Any] = {}
    for ending in endings:
        tokenizer, encoder = _load(model.root / f"tokenizer{ending}", model.root / f"text_encoder{ending}")
        parts |= {f"tokenizer{ending}": tokenizer, f"text_encoder{ending}": encoder}
    with torch.no_grad(), readable(model.root, "the prompt with the text encoders of"):
        match model.network:
            case "UNet2DConditionModel" if config.addition_embed_type is not None:
                told = _sdxl(model, parts, prompt, negative)
            case "UNet2DConditionModel":
                told = _stable_diffusion(parts, prompt, negative)
            case "SD3Transformer2DModel":
                told = _sd3(model, parts, prompt, negative)
            case _:
                told = _flux(parts, prompt), _flux(parts, negative)
    return (*told, _cut_off(parts, prompt, negative))


def needed_texts(network: str, config: Any) -> tuple[str, ...]:
    """The endings of the text encoders that a network cannot do without."""
    if network == "UNet2DConditionModel":
        return ("",) if config.addition_embed_type is None else ("", "_2")
    return ("", "_2")


def _cut_off(parts: dict[str, Any], *texts: str) -> tuple[str, ...]:
    """A note on each text that CLIP's text encoder does not read to its end."""
    tokenizer = parts["tokenizer"]
    longest = int(tokenizer.model_max_length)
    return tuple(
        f"the prompt has more than {longest} tokens: CLIP reads only its beginning, {text[:40]!r} ..."
        for text in texts
        if len(tokenizer(text).input_ids) > longest
    )


def _stable_diffusion(parts: dict[str, Any], prompt: str, negative: str) -> tuple[Condition, Condition]:
    from diffusers import StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline(
        **parts,
        vae=None,
        unet=None,
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    given, without = pipeline.encode_prompt(prompt, "cpu", 1, True, negative_prompt=negative)
    return {"encoder_hidden_states": given}, {"encoder_hidden_states": without}


def _sdxl(model: ModelFolder, parts: dict[str, Any], prompt: str, negative: str) -> tuple[Condition, Condition]:
    from diffusers import StableDiffusionXLPipeline

    zeros = bool(model.settings.get("force_zeros_for_empty_prompt", True))
    pipeline: Any = StableDiffusionXLPipeline(
        **parts,
        vae=None,
        unet=None,
        scheduler=None,
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )
    # without the text, SDXL is told zeros; an empty prompt is a text, as in its own pipeline
    given, without, pooled, pooled_without = pipeline.encode_prompt(
        prompt, device="cpu", do_classifier_free_guidance=True, negative_prompt=negative or None
    )
    return (
        {"encoder_hidden_states": given, "text_embeds": pooled},
        {"encoder_hidden_states": without, "text_embeds": pooled_without},
    )


def _sd3(model: ModelFolder, parts: dict[str, Any], prompt: str, negative: str) -> tuple[Condition, Condition]:
    from diffusers import StableDiffusion3Pipeline

    # T5 may be left out, because it is large
    pipeline: Any = StableDiffusion3Pipeline(
        **({"text_encoder_3": None, "tokenizer_3": None} | parts), vae=None, transformer=_Config(model), scheduler=None
    )
    given, without, pooled, pooled_without = pipeline.encode_prompt(
        prompt, None, None, device="cpu", do_classifier_free_guidance=True, negative_prompt=negative
    )
    return (
        {"encoder_hidden_states": given, "pooled_projections": pooled},
        {"encoder_hidden_states": without, "pooled_projections": pooled_without},
    )


def _flux(parts: dict[str, Any], prompt: str) -> Condition:
    from diffusers import FluxPipeline

    pipeline: Any = FluxPipeline(**parts, vae=None, transformer=None, scheduler=None)
    given, pooled, _ = pipeline.encode_prompt(prompt, device="cpu")
    return {"encoder_hidden_states": given, "pooled_projections": pooled}


class _Config(torch.nn.Module):
    """In place of a network of which the pipeline reads only the config."""

    def __init__(self, model: ModelFolder) -> None:
        super().__init__()
        from diffusers import SD3Transformer2DModel

        self.config: Any = _Fields(SD3Transformer2DModel.load_config(model.root / model.denoiser))


class _Fields(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


def _load(tokenizer: Path, encoder: Path) -> tuple[Any, Any]:
    """A tokenizer and its text encoder in float32, from safetensors only."""
    import json

    import transformers
    from safetensors import SafetensorError

    with readable(encoder, "the text encoder", SafetensorError):
        stated = (json.loads((encoder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""])[0]
        if stated not in ENCODERS:
            raise UserError(f"{encoder} holds a {str(stated)[:80]}; supported: {', '.join(sorted(ENCODERS))}")
        names = [path.name for path in encoder.glob("*.safetensors")]
        if not names:
            raise UserError(
                f"{encoder} has no weights (*.safetensors); python -m workbench import converts pickled ones (.bin)"
            )
        loaded, report = getattr(transformers, stated).from_pretrained(
            encoder,
            variant="fp16" if all(".fp16" in name for name in names) else None,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            attn_implementation="sdpa",  # a config may name a kernel to download
        )
    missing = [name for name in report["missing_keys"] if not name.endswith(DERIVED)]
    if missing or report["mismatched_keys"]:
        raise UserError(f"the weights in {encoder} do not fit its config.json: {len(missing)} are missing")
    with readable(tokenizer, "the tokenizer"):
        name = TOKENIZERS.get(stated, OTHER_TOKENIZER)
        return getattr(transformers, name).from_pretrained(tokenizer, local_files_only=True), loaded.eval()
