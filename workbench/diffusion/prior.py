"""The latent diffusion prior: a diffusers UNet with the noise levels and parameterisation of a diffusers scheduler."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from workbench.bounds import BatchSize, BlockWidths, Count, Depth, LearningRate, Seed
from workbench.config import NOT_IDENTITY, Config, UserError
from workbench.diffusion.noise_levels import DDPMLevels
from workbench.diffusion.sampler import diffuse
from workbench.diffusion.scheduler_folder import read_scheduler
from workbench.pretrained import load_strictly, save_half
from workbench.tensors import Latents, Times

if TYPE_CHECKING:
    from diffusers import UNet2DModel

Prediction = Literal["epsilon", "sample", "v_prediction"]
"""What the network is trained to answer."""


class Prior(nn.Module):
    """A noise predictor and its noise levels.

    Args:
        unet: a diffusers UNet2DModel on scaled latents.
        scheduler: a diffusers DDPMScheduler; its config says what the network predicts (epsilon, sample, v_prediction).
        notes: lines on what was left out when both were read.

    Raises:
        ValueError: for another prediction_type, or if alpha_bar does not fall within (0, 1).
    """

    def __init__(self, unet: Any, scheduler: Any, notes: tuple[str, ...] = ()) -> None:
        super().__init__()
        if scheduler.config.prediction_type not in get_args(Prediction):
            raise ValueError(
                f"prediction_type must be one of {get_args(Prediction)}, not {scheduler.config.prediction_type!r}"
            )
        self.unet, self.scheduler, self.notes = unet, scheduler, notes
        self.levels = DDPMLevels(scheduler.alphas_cumprod)

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that the prior knows."""
        return int(self.unet.config.in_channels)

    def predict(self, z: Latents, time: Times) -> tuple[Latents, Latents]:
        """The posterior mean of the clean latent and of the noise, (z0_hat, eps), at per-image times."""
        # before the network: reading times from a GPU waits for all that it still has to do
        a = self.levels.alpha_bar_at(time).reshape(-1, 1, 1, 1)
        signal, noise = a.sqrt().to(z), (1 - a).sqrt().to(z)
        output = self.unet(z, time.to(z)).sample.float()
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return (z - noise * output) / signal, output
            case "sample":
                return output, (z - signal * output) / noise
            case _:  # v = signal eps - noise z0 (arXiv 2202.00512, appendix D)
                return signal * z - noise * output, signal * output + noise * z

    def training_loss(self, z0: Latents, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the network's own target at uniform timesteps (arXiv 2006.11239, eq. 14)."""
        timestep = torch.randint(self.levels.num_timesteps, (len(z0),), generator=generator)
        eps = torch.randn(z0.shape, generator=generator).to(z0)
        a = self.levels.alpha_bar_at(timestep)
        output = self.unet(diffuse(z0, eps, a), timestep.to(z0)).sample.float()
        signal, noise = a.sqrt().reshape(-1, 1, 1, 1).to(z0), (1 - a).sqrt().reshape(-1, 1, 1, 1).to(z0)
        targets = {"epsilon": eps, "sample": z0, "v_prediction": signal * eps - noise * z0}
        return (output - targets[self.scheduler.config.prediction_type]).square().mean(), {}

    def save(self, folder: Path) -> None:
        """Write `unet/` (fp16 safetensors) and `scheduler/` in diffusers' folder format."""
        save_half(self.unet, folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")


class PriorRecipe(Config):
    """The architecture of a latent diffusion prior and how it is trained on cached latents."""

    source: str = Field(
        "auto",
        description="'auto': the shipped weights if they were made by this very recipe on these data, else train; "
        "'train': always train; anything else: a folder with unet/ and scheduler/ in diffusers' format",
        json_schema_extra=NOT_IDENTITY,
    )
    block_out_channels: BlockWidths = Field((64, 128), description="channels at each resolution, multiples of 16")
    layers_per_block: Depth = 1
    beta_start: float = Field(0.0015, gt=0, lt=1, description="of the scaled-linear schedule, at timestep 0")
    beta_end: float = Field(0.0195, gt=0, lt=1, description="of the scaled-linear schedule, at timestep T - 1")
    num_timesteps: int = Field(1000, ge=2, le=100_000, description="T")
    prediction_type: Prediction = Field("v_prediction", description="what the network answers")
    num_train_images: Count = Field(250_000, description="training latents seen")
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 6e-4
    ema_decay: float = Field(0.999, ge=0, lt=1, description="of the weights' moving average, which is kept")
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: autocast, faster where the CPU has it")
    seed: Seed = 0

    @model_validator(mode="after")
    def _betas_grow(self) -> "PriorRecipe":
        if self.beta_end <= self.beta_start:
            raise ValueError("beta_end must be above beta_start")
        return self

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

    def build(self, latent_shape: tuple[int, int, int]) -> Prior:
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
        return Prior(self.network(latent_shape), scheduler)


def load_prior(folder: Path) -> Prior:
    """Read `unet/` and `scheduler/` from a diffusers folder.

    Raises:
        UserError: if either is missing, unsound or of a kind that the prior cannot represent.
    """
    from diffusers import UNet2DModel

    unet = load_strictly(UNet2DModel, folder / "unet")
    _check_unet(unet.config, folder / "unet")
    scheduler, notes = read_scheduler(folder / "scheduler")
    try:
        return Prior(unet, scheduler, notes).eval()
    except ValueError as error:
        raise UserError(f"{folder}/scheduler is unsound: {error}") from error


def _check_unet(config: Any, folder: Path) -> None:
    """Refuse a network that answers, or asks for, something else than a noise predictor of latents and timesteps."""
    if config.out_channels != config.in_channels:
        variances = ", as if it predicted variances too" if config.out_channels == 2 * config.in_channels else ""
        raise UserError(
            f"{folder}/config.json: the network answers {config.out_channels} channels for {config.in_channels}"
            f"{variances}: not supported"
        )
    if config.time_embedding_type == "fourier":
        raise UserError(
            f"{folder}/config.json: the network takes noise levels in the place of timesteps: not supported"
        )
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        raise UserError(f"{folder}/config.json: the network asks for the class of an image: not supported")
