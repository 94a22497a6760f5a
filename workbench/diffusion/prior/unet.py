"""An unconditional diffusers UNet2DModel as a prior: trained here, or loaded from a folder in diffusers' format."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from workbench.core.bounds import BatchSize, BlockWidths, Count, Depth, LearningRate, Seed
from workbench.core.config import UserError
from workbench.diffusion.latent_std import LatentStd
from workbench.diffusion.prior.base import Prior, PriorRecipe
from workbench.diffusion.scheduler_folder import levels_of, read_scheduler
from workbench.weights.diffusers_folder import load_strictly, save_half

if TYPE_CHECKING:
    from diffusers import UNet2DModel


class UNetPrior(Prior):
    """A UNet with the noise levels and parameterisation of a diffusers scheduler.

    Args:
        unet: a diffusers UNet2DModel on scaled latents.
        scheduler: its config gives the prediction type.
        std: standard deviation of the network's latents.
        notes: messages about settings that were ignored when both were read.

    Raises:
        ValueError: for another prediction_type, or if alpha_bar is not in [0, 1).
    """

    def __init__(self, unet: Any, scheduler: Any, std: float = 1.0, notes: tuple[str, ...] = ()) -> None:
        super().__init__(unet, *levels_of(scheduler, std), notes)
        self.scheduler = scheduler

    def save(self, folder: Path) -> None:
        """Write `unet/` (fp16 safetensors) and `scheduler/` in diffusers' folder format."""
        save_half(self.network, folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")


class UNetRecipe(PriorRecipe):
    """The architecture of a latent diffusion prior, and its training on cached latents."""

    kind: Literal["unet"] = "unet"
    block_out_channels: BlockWidths = Field((64, 128), description="channels at each resolution, multiples of 16")
    layers_per_block: Depth = 1
    beta_start: float = Field(0.0015, gt=0, lt=1, description="beta of the scaled-linear schedule at timestep 0")
    beta_end: float = Field(0.0195, gt=0, lt=1, description="beta of the scaled-linear schedule at timestep T - 1")
    num_timesteps: int = Field(1000, ge=2, le=100_000, description="T")
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = Field(
        "v_prediction", description="what the network predicts"
    )
    num_train_images: Count = Field(250_000, description="number of training latents processed")
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 6e-4
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average, which is the result")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16: autocast, faster on CPUs that support it"
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _betas_grow(self) -> "UNetRecipe":
        if self.beta_end <= self.beta_start:
            raise ValueError("beta_end must be above beta_start")
        return self

    def canonical(self) -> dict[str, Any]:
        """Without `kind`: there was only one kind of prior when the first results were identified."""
        return {name: value for name, value in super().canonical().items() if name != "kind"}

    def network(self, latent_shape: tuple[int, int, int]) -> "UNet2DModel":
        """A new network for latents of (channel, height, width); random weights from torch's current generator."""
        from diffusers import UNet2DModel

        levels = len(self.block_out_channels)
        return UNet2DModel(
            sample_size=latent_shape[1] if latent_shape[1] == latent_shape[2] else latent_shape[1:],
            in_channels=latent_shape[0],
            out_channels=latent_shape[0],
            block_out_channels=self.block_out_channels,
            layers_per_block=self.layers_per_block,
            down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
            norm_num_groups=16,
        )

    def build(self, latent_shape: tuple[int, int, int]) -> UNetPrior:
        """A new prior for latents of (channel, height, width)."""
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler(
            num_train_timesteps=self.num_timesteps,
            beta_start=self.beta_start,
            beta_end=self.beta_end,
            beta_schedule="scaled_linear",
            prediction_type=self.prediction_type,
            clip_sample=False,
        )
        return UNetPrior(self.network(latent_shape), scheduler)

    def load(self, folder: Path) -> UNetPrior:
        return load_prior(folder)


def load_prior(folder: Path) -> UNetPrior:
    """Read `unet/` and `scheduler/` from a diffusers folder, and the standard deviation of its latents if recorded.

    Raises:
        UserError: if either is missing, invalid or of an unsupported kind.
    """
    from diffusers import UNet2DModel

    unet = load_strictly(UNet2DModel, folder / "unet")
    _check_unet(unet.config, folder / "unet")
    scheduler, notes = read_scheduler(folder / "scheduler")
    spread = LatentStd.read(folder)
    try:
        return UNetPrior(unet, scheduler, spread.std, notes + spread.notes()).eval()
    except ValueError as error:
        raise UserError(f"{folder}/scheduler is invalid: {error}") from error


def _check_unet(config: Any, folder: Path) -> None:
    """Reject a network that is not a noise predictor of latents and timesteps."""
    if config.out_channels != config.in_channels:
        variances = ", as if it predicted variances too" if config.out_channels == 2 * config.in_channels else ""
        raise UserError(
            f"{folder}/config.json: the network returns {config.out_channels} channels for {config.in_channels}"
            f"{variances}: not supported"
        )
    if config.time_embedding_type == "fourier":
        raise UserError(f"{folder}/config.json: the network takes noise levels instead of timesteps: not supported")
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        raise UserError(f"{folder}/config.json: the network needs the class of an image: not supported")
