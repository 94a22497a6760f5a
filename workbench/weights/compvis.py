"""CompVis' latent diffusion checkpoints (github.com/CompVis/latent-diffusion) in diffusers' folder format.

The two libraries have the same networks under other names. A name is translated by its place in the network, and every
tensor must find one: `load_strictly` compares the result with diffusers' own model.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.core.config import UserError
from workbench.core.foreign import readable

LATENT_DIFFUSION = "ldm.models.diffusion.ddpm.LatentDiffusion"
UNET = "ldm.modules.diffusionmodules.openaimodel.UNetModel"
AUTOENCODERS = {
    "ldm.models.autoencoder.AutoencoderKL": "AutoencoderKL",
    "ldm.models.autoencoder.VQModel": "VQModel",
    "ldm.models.autoencoder.VQModelInterface": "VQModel",
    "taming.models.vqgan.VQModel": "VQModel",
}
"""diffusers' class for each kind of first stage."""
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
SCHEDULES = {"linear": "scaled_linear", "sqrt_linear": "linear"}
"""CompVis' "linear" is linear in the square root of beta."""
UNSUPPORTED = {
    "use_spatial_transformer": "attends to a text or another condition",
    "num_classes": "takes the class of an image",
    "resblock_updown": "resamples in residual blocks",
    "use_new_attention_order": "orders queries, keys and values in another way",
    "use_scale_shift_norm": "scales its features by the time",
}
"""Settings of a UNet that are not translated."""
FIRST_STAGE, DENOISER, AVERAGE = "first_stage_model.", "model.diffusion_model.", "model_ema."


@dataclass(frozen=True)
class Part:
    """One network in diffusers' format.

    Attributes:
        subfolder: its folder.
        config: config.json, with diffusers' class name.
        weights: the state dict of that class.
    """

    subfolder: str
    config: dict[str, Any]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Imported:
    """A latent diffusion model in diffusers' format.

    Attributes:
        autoencoder, denoiser: the networks.
        scheduler: scheduler_config.json.
        averaged: whether the denoiser has the moving average of the weights.
    """

    autoencoder: Part
    denoiser: Part
    scheduler: dict[str, Any]
    averaged: bool


def read_config(path: Path) -> dict[str, Any]:
    """The model in a CompVis config, checked for what can be translated: the parameters of LatentDiffusion.

    Raises:
        UserError: if it cannot be read, or is another kind of model.
    """
    import yaml

    with readable(path, "the config", yaml.YAMLError):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        model = content["model"] if isinstance(content, Mapping) and "model" in content else None
    if not isinstance(model, Mapping):
        raise UserError(f"{path} has no model: expected CompVis' config of the checkpoint, such as config.yaml")
    params = _section(model, "params", path)
    if model.get("target") != LATENT_DIFFUSION:
        raise UserError(f"{path} is for {_short(model.get('target'))}: only {LATENT_DIFFUSION} is translated")
    condition = params.get("cond_stage_config")
    if condition != "__is_unconditional__":
        kind = condition.get("target") if isinstance(condition, Mapping) else condition
        raise UserError(
            f"{path}: the model is conditioned by {_short(kind)}, which is not translated: use the model in "
            "diffusers' format (for Stable Diffusion: diffusers' from_single_file and save_pretrained)"
        )
    unet = _section(params, "unet_config", path)
    if unet.get("target") != UNET:
        raise UserError(f"{path}: the denoiser is a {_short(unet.get('target'))}: only {UNET} is translated")
    settings = _section(unet, "params", path)
    for name, meaning in UNSUPPORTED.items():
        if settings.get(name):
            raise UserError(f"{path}: unet_config's {name} {settings[name]!r} means that it {meaning}: not translated")
    first = _section(params, "first_stage_config", path)
    if first.get("target") not in AUTOENCODERS:
        raise UserError(
            f"{path}: the first stage is a {_short(first.get('target'))}; translated are {', '.join(AUTOENCODERS)}"
        )
    return dict(params)


def translate(params: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> Imported:
    """The model in diffusers' format.

    Args:
        params: `read_config`'s.
        tensors: the checkpoint's state dict.
        path: the config, named in messages.

    Raises:
        UserError: for a config and a checkpoint that do not belong together.
    """
    try:
        autoencoder = _autoencoder(params, tensors)
        averaged = any(name.startswith(AVERAGE) for name in tensors)
        denoiser = _denoiser(params["unet_config"]["params"], tensors, averaged=averaged)
        return Imported(autoencoder, denoiser, _scheduler(params), averaged)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise UserError(
            f"{path} and the checkpoint do not belong together: {_short(error)} is missing or odd"
        ) from None


def _autoencoder(params: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Part:
    first = params["first_stage_config"]
    name, settings = AUTOENCODERS[first["target"]], first["params"]
    network = settings["ddconfig"]
    widths = [network["ch"] * factor for factor in network["ch_mult"]]
    sizes = [network["resolution"] // 2**level for level in range(len(widths))]
    attends = [size in network["attn_resolutions"] for size in sizes]
    # CompVis scales latents by a buffer if it measured their deviation, else by a setting
    scale = tensors.get("scale_factor", params.get("scale_factor", 1.0))
    config: dict[str, Any] = {
        "_class_name": name,
        "in_channels": network["in_channels"],
        "out_channels": network["out_ch"],
        "block_out_channels": widths,
        "layers_per_block": network["num_res_blocks"],
        "down_block_types": [f"{'Attn' if a else ''}DownEncoderBlock2D" for a in attends],
        "up_block_types": [f"{'Attn' if a else ''}UpDecoderBlock2D" for a in reversed(attends)],
        "latent_channels": network["z_channels"],
        "sample_size": network["resolution"],
        "norm_num_groups": 32,
        "scaling_factor": float(scale),
    }
    if name == "VQModel":
        config |= {"num_vq_embeddings": settings["n_embed"], "vq_embed_dim": settings["embed_dim"]}
    elif settings["embed_dim"] != network["z_channels"]:
        raise ValueError("embed_dim other than z_channels")
    weights = {}
    for stored, value in tensors.items():
        if stored.startswith(FIRST_STAGE) and not stored.startswith(f"{FIRST_STAGE}loss."):
            named = _autoencoder_name(stored.removeprefix(FIRST_STAGE), len(widths))
            is_linear = "attentions" in named and value.ndim == 4  # diffusers has linear layers for 1 x 1 convolutions
            weights[named] = value.flatten(1) if is_linear else value
    return Part("vqvae" if name == "VQModel" else "vae", config, weights)


AUTOENCODER_NAMES: Sequence[tuple[str, str]] = (
    (r"\.down\.(\d+)\.block\.(\d+)\.", r".down_blocks.\1.resnets.\2."),
    (r"\.down\.(\d+)\.attn\.(\d+)\.", r".down_blocks.\1.attentions.\2."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.(\d+)\.", r".up_blocks.\1.resnets.\2."),
    (r"\.up\.(\d+)\.attn\.(\d+)\.", r".up_blocks.\1.attentions.\2."),
    (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
)


def _autoencoder_name(name: str, levels: int) -> str:
    for pattern, replacement in AUTOENCODER_NAMES:
        name = re.sub(pattern, replacement, name)
    # CompVis counts the decoder's levels from the finest, diffusers from the coarsest
    return re.sub(r"up_blocks\.(\d+)", lambda found: f"up_blocks.{levels - 1 - int(found[1])}", name)


RESIDUAL_NAMES = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
DENOISER_NAMES = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def _denoiser(settings: Mapping[str, Any], tensors: Mapping[str, Tensor], *, averaged: bool) -> Part:
    factors, layers = settings["channel_mult"], settings["num_res_blocks"]
    widths = [settings["model_channels"] * factor for factor in factors]
    attends = [2**level in settings["attention_resolutions"] for level in range(len(widths))]
    blocks = _blocks(len(widths), layers)
    weights: dict[str, Tensor] = {}
    head_widths: set[int] = set()
    for stored in [name for name in tensors if name.startswith(DENOISER)]:
        # the average's names have no dots, because they were buffers
        source = AVERAGE + stored.removeprefix("model.").replace(".", "") if averaged else stored
        name, value = stored.removeprefix(DENOISER), tensors[source]
        block = next((b for b in blocks if name.startswith(f"{b}.")), None)
        module, _, kind = name.rpartition(".")
        if block is None and module in DENOISER_NAMES:
            weights[f"{DENOISER_NAMES[module]}.{kind}"] = value
            continue
        if module.endswith(".conv"):  # doubles the size, after the last block of a level
            level = int(module.split(".")[1]) // (layers + 1)
            weights[f"up_blocks.{level}.upsamplers.0.conv.{kind}"] = value
            continue
        if block is None:
            raise KeyError(stored)
        inner = module.removeprefix(f"{block}.")
        if inner in RESIDUAL_NAMES:
            weights[f"{blocks[block]}.{RESIDUAL_NAMES[inner]}.{kind}"] = value
        elif inner == "op":
            weights[f"{blocks[block]}.conv.{kind}"] = value
        elif inner == "norm":
            weights[f"{blocks[block]}.group_norm.{kind}"] = value
        elif inner == "proj_out":
            weights[f"{blocks[block]}.to_out.0.{kind}"] = value.squeeze(-1) if kind == "weight" else value
        else:
            heads = _heads(settings, len(value) // 3)
            head_widths.add(len(value) // 3 // heads)
            for letter, part in zip("qkv", _split_heads(value, heads), strict=True):
                weights[f"{blocks[block]}.to_{letter}.{kind}"] = part
    if len(head_widths) > 1:
        raise ValueError(f"attention heads of {sorted(head_widths)} channels")
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": settings["image_size"],
        "in_channels": settings["in_channels"],
        "out_channels": settings["out_channels"],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": [f"{'Attn' if a else ''}DownBlock2D" for a in attends],
        "up_block_types": [f"{'Attn' if a else ''}UpBlock2D" for a in reversed(attends)],
        "attention_head_dim": head_widths.pop() if head_widths else 8,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }
    return Part("unet", config, weights)


def _blocks(levels: int, layers: int) -> dict[str, str]:
    """The modules inside of CompVis' numbered blocks -> diffusers' names of them.

    A numbered block holds a residual block, then attention if its level has it, then at the end of a level of the
    decoder a module that doubles the size; the module that halves it is a block of its own.
    """
    names = {
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
    }
    number = 1
    for level in range(levels):
        for layer in range(layers):
            names[f"input_blocks.{number}.0"] = f"down_blocks.{level}.resnets.{layer}"
            names[f"input_blocks.{number}.1"] = f"down_blocks.{level}.attentions.{layer}"
            number += 1
        if level < levels - 1:
            names[f"input_blocks.{number}.0"] = f"down_blocks.{level}.downsamplers.0"
            number += 1
    number = 0
    for level in range(levels):
        for layer in range(layers + 1):
            names[f"output_blocks.{number}.0"] = f"up_blocks.{level}.resnets.{layer}"
            names[f"output_blocks.{number}.1"] = f"up_blocks.{level}.attentions.{layer}"
            number += 1
    return names


def _heads(settings: Mapping[str, Any], width: int) -> int:
    """The number of attention heads at this width."""
    per_head = settings.get("num_head_channels", -1)
    return int(settings.get("num_heads", 1) if per_head in (-1, None) else width // per_head)


def _split_heads(value: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all heads; CompVis stores the three of one head after those of another."""
    by_head = value.reshape(heads, 3, -1, *value.shape[1:2])  # weights are those of a convolution over one dimension
    queries, keys, values = (by_head[:, i].flatten(0, 1) for i in range(3))
    return queries, keys, values


def _scheduler(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": int(params.get("timesteps", 1000)),
        "beta_start": float(params.get("linear_start", 1e-4)),
        "beta_end": float(params.get("linear_end", 2e-2)),
        "beta_schedule": SCHEDULES[params.get("beta_schedule", "linear")],
        "prediction_type": PREDICTIONS[params.get("parameterization", "eps")],
        "clip_sample": False,
        # latent diffusion's own DDIM: one timestep later than an even grid, and to the level of timestep 0
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }


def _section(outer: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    inner = outer.get(name)
    if not isinstance(inner, Mapping):
        raise UserError(f"{path} has no {name}: expected CompVis' config of a latent diffusion model")
    return inner


def _short(value: Any) -> str:
    return str(value)[:80]


def check_betas(imported: Imported, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a config whose noise levels differ from those that the checkpoint was trained with."""
    stored = tensors.get("alphas_cumprod")
    if stored is None:
        return
    config = imported.scheduler
    if config["num_train_timesteps"] < 2 or not 0 < config["beta_start"] < config["beta_end"] < 1:
        raise UserError(f"{path}: timesteps must be 2 or more, and 0 < linear_start < linear_end < 1")
    power = 0.5 if config["beta_schedule"] == "scaled_linear" else 1.0
    steps, first, last = config["num_train_timesteps"], config["beta_start"] ** power, config["beta_end"] ** power
    if len(stored) != steps:
        raise UserError(f"{path} has {steps} timesteps, but the checkpoint was trained with {len(stored)}")
    alpha_bar = 1.0
    for t in range(steps):
        alpha_bar *= 1 - (first + (last - first) * t / (steps - 1)) ** (1 / power)
        if not math.isclose(alpha_bar, float(stored[t]), rel_tol=1e-3):
            raise UserError(
                f"{path}: alpha_bar at timestep {t} is {alpha_bar:.4g}, but the checkpoint was trained with "
                f"{float(stored[t]):.4g}: this is another model's config"
            )
