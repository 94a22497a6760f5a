"""An unconditional diffusers UNet2DModel as a prior: trained here, or loaded from a folder in diffusers' format."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from workbench.core.bounds import BlockWidths, Depth
from workbench.core.config import UserError
from workbench.diffusion.latent_std import LatentStd
from workbench.diffusion.noise_levels import DDPMLevels
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

    @property
    def multiple(self) -> int:
        widths = self.network.config.get("block_out_channels") or (1,)
        return int(2 ** (len(widths) - 1))

    def check_latents(self, latent_shape: tuple[int, int, int]) -> None:
        _, height, width = latent_shape
        if height % self.multiple or width % self.multiple:
            raise UserError(
                f"the prior needs latents divisible by {self.multiple}, but these are {height} x {width}: "
                "change data.size or the number of prior.block_out_channels"
            )

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

    parts: ClassVar[tuple[str, ...]] = ("unet", "scheduler")
    splits_batches: ClassVar[bool] = True

    @model_validator(mode="after")
    def _betas_grow(self) -> "UNetRecipe":
        if self.beta_end <= self.beta_start:
            raise ValueError("beta_end must be above beta_start")
        if not self.is_given:
            try:
                self.levels()
            except ValueError:
                raise ValueError(
                    f"these betas leave no signal long before timestep {self.num_timesteps - 1}: lower beta_end or "
                    "num_timesteps"
                ) from None
        return self

    def canonical(self) -> dict[str, Any]:
        """Without `kind`, except in subclasses: when the first results were identified, all priors were UNets."""
        return {name: value for name, value in super().canonical().items() if (name, value) != ("kind", "unet")}

    def levels(self) -> DDPMLevels:
        """The same as `build` gets from diffusers' scheduler, which takes seconds to import."""
        root = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.num_timesteps, dtype=torch.float32)
        return DDPMLevels((1 - root**2).cumprod(0))

    def build(self, latent_shape: tuple[int, int, int]) -> UNetPrior:
        """A new prior for latents of (channel, height, width)."""
        from diffusers import DDPMScheduler

        network: Any = self._network(latent_shape)
        if self.precision == "bf16":  # the layout in which CPUs train fastest at this precision
            network.to(memory_format=torch.channels_last)
        with torch.device("cpu"):  # even if the network is built without memory, to count its cost
            scheduler = DDPMScheduler(
                num_train_timesteps=self.num_timesteps,
                beta_start=self.beta_start,
                beta_end=self.beta_end,
                beta_schedule="scaled_linear",
                prediction_type=self.prediction_type,
                clip_sample=False,
            )
            return UNetPrior(network, scheduler)

    def save(self, prior: Prior, folder: Path, latent_shape: tuple[int, int, int]) -> None:
        assert isinstance(prior, UNetPrior)
        prior.save(folder)

    def load(self, folder: Path) -> UNetPrior:
        return load_prior(folder)

    def _network(self, latent_shape: tuple[int, int, int]) -> "UNet2DModel":
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


def load_prior(folder: Path) -> UNetPrior:
    """Read `unet/` and `scheduler/` from a diffusers folder, and the standard deviation of its latents if recorded.

    Raises:
        UserError: if either is missing, invalid or of an unsupported kind.
    """
    from diffusers import UNet2DModel

    unet = load_strictly(UNet2DModel, folder / "unet")
    check_unet(unet.config, folder / "unet")
    scheduler, notes = read_scheduler(folder / "scheduler")
    spread = LatentStd.read(folder)
    try:
        return UNetPrior(unet, scheduler, spread.std, notes + spread.notes()).eval()
    except ValueError as error:
        raise UserError(f"{folder}/scheduler is invalid: {error}") from error


def check_unet(config: Any, folder: Path) -> None:
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
