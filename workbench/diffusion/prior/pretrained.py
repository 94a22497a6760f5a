"""The prior of somebody else's latent diffusion model: a folder in diffusers' format, or a model on the Hub."""

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from workbench.core.config import NOT_IDENTITY, UserError
from workbench.core.foreign import readable
from workbench.diffusion.latent_std import LatentStd
from workbench.diffusion.prior.base import Prior, PriorSource
from workbench.diffusion.prior.conditional import Condition, ConditionalPrior
from workbench.diffusion.prior.prompts import encode_prompts, needed_texts
from workbench.diffusion.prior.unet import UNetPrior, check_unet
from workbench.diffusion.scheduler_folder import levels_of, read_scheduler
from workbench.weights.diffusers_folder import load_strictly
from workbench.weights.model import ModelFolder, read_model


class PretrainedPrior(PriorSource):
    """The denoising network of a pretrained model, with its noise levels and condition. It is not trained here.

    Latent diffusion (UNet2DModel), Stable Diffusion 1, 2 and XL, DiT, Stable Diffusion 3 and FLUX.1.
    """

    kind: Literal["pretrained"] = "pretrained"
    source: str = Field(
        description="a folder in diffusers' format, or a Hub id (owner/name)", json_schema_extra=NOT_IDENTITY
    )
    revision: str | None = Field(None, description="branch, tag or commit on the Hub", json_schema_extra=NOT_IDENTITY)
    prompt: str = Field("", description="the text of the images, for a text-to-image model")
    negative_prompt: str = Field("", description="the text from which guidance leads away")
    class_label: int | None = Field(
        None, ge=0, le=10**6, description="the class of the images, for a class-conditional model"
    )
    cfg_scale: float = Field(
        1.0,
        ge=0,
        le=100,
        description="classifier-free guidance; 1: none; any other value evaluates the network twice",
    )
    distilled_guidance: float = Field(
        3.5, ge=0, le=100, description="the guidance that a distilled network (FLUX.1-dev) takes as its input"
    )

    @model_validator(mode="after")
    def _guidance_has_its_condition(self) -> "PretrainedPrior":
        if self.negative_prompt and self.cfg_scale == 1:
            raise ValueError("negative_prompt has no effect without guidance: set cfg_scale above 1")
        return self

    @property
    def is_given(self) -> bool:
        return True

    def folder(self) -> Path:
        return self.model().root

    def model(self) -> ModelFolder:
        """The model's folder, downloaded once if it is on the Hub."""
        return read_model(self.source, self.revision)

    def network_parts(self, folder: Path) -> tuple[Path, ...]:
        model = read_model(str(folder))
        return (model.root / model.denoiser,)

    def given_parts(self, folder: Path) -> tuple[Path, ...]:
        return read_model(str(folder)).parts()

    def told(self, folder: Path) -> dict[str, Any]:
        zeros = read_model(str(folder)).settings.get("force_zeros_for_empty_prompt", True)
        return self.conditions() | ({} if zeros else {"force_zeros_for_empty_prompt": False})

    def conditions(self) -> dict[str, Any]:
        """The settings that differ from their defaults."""
        names = ("prompt", "negative_prompt", "class_label", "cfg_scale", "distilled_guidance")
        return {n: getattr(self, n) for n in names if getattr(self, n) != type(self).model_fields[n].default}

    def load(self, folder: Path) -> Prior:
        return self.load_as(folder, torch.float32)

    def load_as(self, folder: Path, dtype: torch.dtype) -> Prior:
        return _load(self, read_model(str(folder)), dtype).to(dtype)

    def plan(self, folder: Path) -> Prior:
        """The prior without weights or prompt, on torch's meta device: what can be known without reading them."""
        return _load(self, read_model(str(folder)), None)


def _load(recipe: PretrainedPrior, model: ModelFolder, dtype: torch.dtype | None) -> Prior:
    """The prior with weights of a type; None: on the meta device, without weights or prompt."""
    import diffusers

    network_class = getattr(diffusers, model.network)
    where = model.root / model.denoiser
    if dtype is not None:
        network = load_strictly(network_class, where, dtype)
    else:
        with readable(where, "the network"), torch.device("meta"):
            network = network_class.from_config(network_class.load_config(where))
    _check(recipe, model, network.config)
    scheduler, notes = read_scheduler(
        model.root / "scheduler", learned_variance=model.network == "DiTTransformer2DModel"
    )
    spread = LatentStd.read(model.root)
    notes = notes + spread.notes()
    try:
        if model.network == "UNet2DModel":
            check_unet(network.config, where)
            return UNetPrior(network, scheduler, spread.std, notes).eval()
        levels = levels_of(scheduler, spread.std)
        condition, without, more = _conditions(recipe, model, network.config) if dtype is not None else ({}, {}, ())
        arguments = (network, *levels, condition, without, recipe.cfg_scale, notes + more)
        return _conditional(model, network, arguments).eval()
    except ValueError as error:
        raise UserError(f"{model.root}: {error}") from error


def _conditional(model: ModelFolder, network: Any, arguments: tuple[Any, ...]) -> ConditionalPrior:
    from workbench.diffusion.prior.conditional_unet import SDXLPrior, StableDiffusionPrior
    from workbench.diffusion.prior.transformers import DiTPrior, FluxPrior, SD3Prior

    config = network.config
    match model.network:
        case "UNet2DConditionModel":
            if config.in_channels != config.out_channels:
                raise ValueError(
                    f"the network takes {config.in_channels} channels for latents of {config.out_channels}, as one for "
                    "inpainting or depth does: use the model that it was made from, such as its text-to-image model"
                )
            if config.addition_embed_type not in (None, "text_time") or config.class_embed_type is not None:
                raise ValueError(
                    f"the network takes {config.addition_embed_type or config.class_embed_type} conditions"
                )
            if config.time_cond_proj_dim is not None:
                raise ValueError("the network is distilled to take its guidance as an input: not supported")
            condition = arguments[3]
            if condition and condition["encoder_hidden_states"].shape[-1] != config.cross_attention_dim:
                raise ValueError("the text encoders are of another width than the network's attention")
            if config.addition_embed_type is None:
                return StableDiffusionPrior(*arguments)
            if condition:
                told = 6 * config.addition_time_embed_dim + condition["text_embeds"].shape[-1]
                if told != config.projection_class_embeddings_input_dim:
                    raise ValueError("the network is told other things than SDXL's base model, as its refiner is")
            prior = SDXLPrior(*arguments)
            prior.downscale = model.downscale()
            return prior
        case "DiTTransformer2DModel":
            return DiTPrior(*arguments)
        case "SD3Transformer2DModel":
            return SD3Prior(*arguments)
        case _:
            return FluxPrior(*arguments)


def _check(recipe: PretrainedPrior, model: ModelFolder, config: Any) -> None:
    """Refuse settings that the model has no use for, and conditions that it lacks, before any weights are read."""
    guides_itself = model.network == "FluxTransformer2DModel" and config.guidance_embeds
    if not guides_itself:
        _refuse(recipe, model, "distilled_guidance", because="takes no guidance as its input")
    match model.network:
        case "UNet2DModel":
            told = ("prompt", "negative_prompt", "class_label", "cfg_scale")
            _refuse(recipe, model, *told, because="is unconditional")
        case "DiTTransformer2DModel":
            because = "is conditioned on a class, not on a text: set prior.class_label"
            _refuse(recipe, model, "prompt", "negative_prompt", because=because)
            classes = int(config.num_embeds_ada_norm)
            if recipe.class_label is not None and recipe.class_label >= classes:
                raise UserError(f"prior.class_label must be from 0 to {classes - 1}, got {recipe.class_label}")
        case _:
            _refuse(recipe, model, "class_label", because="is conditioned on a text, not on a class: set prior.prompt")
            for ending in needed_texts(model.network, config):
                if ending not in model.texts():
                    raise UserError(
                        f"{model.root} lacks text_encoder{ending}/ or tokenizer{ending}/, which encode the prompt"
                    )


def _conditions(
    recipe: PretrainedPrior, model: ModelFolder, config: Any
) -> tuple[Condition, Condition, tuple[str, ...]]:
    """What the network is told about all images, and without it; and notes."""
    if model.network == "DiTTransformer2DModel":
        no_class = int(config.num_embeds_ada_norm)  # one more than the last
        label = no_class if recipe.class_label is None else recipe.class_label
        return {"class_labels": torch.tensor([label])}, {"class_labels": torch.tensor([no_class])}, ()
    condition, without, notes = encode_prompts(model, config, recipe.prompt, recipe.negative_prompt)
    if model.network == "FluxTransformer2DModel" and config.guidance_embeds:
        strength = {"guidance": torch.tensor([recipe.distilled_guidance])}
        return {**condition, **strength}, {**without, **strength}, notes
    return condition, without, notes


def _refuse(recipe: PretrainedPrior, model: ModelFolder, *names: str, because: str) -> None:
    """Refuse settings that the model has no use for."""
    given = recipe.conditions()
    for name in names:
        if name in given:
            raise UserError(f"prior.{name}: the model in {model.root} {because}")
