"""The base of all priors: a denoising network that provides the two estimates needed by solvers."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.core import ranks
from workbench.core.bounds import BatchSize, Count, LearningRate, Seed
from workbench.core.config import ADDED_LATER, NOT_IDENTITY
from workbench.core.families import Member
from workbench.core.foreign import readable
from workbench.core.places import at_home
from workbench.core.tensors import Latents, Times
from workbench.diffusion.half import in_type
from workbench.diffusion.noise_levels import DDPMLevels, NoiseLevels
from workbench.diffusion.prediction import Prediction, estimates, target

WEIGHTS, LATENT_SHAPE = "weights.safetensors", "latent_shape.json"


class Prior(nn.Module):
    """A denoising network with its noise levels and prediction type.

    The interface uses unit coordinates (`noise_levels`); `predict` converts to the network's own and back.

    Args:
        network: called with its input and times, each (batch,), it returns an object whose `sample` is like its input,
            as diffusers' models do. Other networks override `answer` and, if they have no diffusers config,
            `latent_channels`.
        levels: the noise levels that it was trained on.
        prediction: the prediction type.
        notes: messages about settings that were ignored when it was read.

    Raises:
        ValueError: for an unknown prediction type, or one that does not match the levels.
    """

    def __init__(self, network: Any, levels: NoiseLevels, prediction: Prediction, notes: tuple[str, ...] = ()) -> None:
        super().__init__()
        if prediction not in get_args(Prediction):
            raise ValueError(f"prediction_type must be one of {get_args(Prediction)}, not {prediction!r}")
        if prediction in ("v_prediction", "edm") and not levels.preserves_variance:
            raise ValueError(f"{prediction} needs variance-preserving inputs, unlike those of rectified flow")
        noisiest = levels.times(1, (1, 8, 8))
        if prediction == "epsilon" and float(levels.alpha_bar_at(noisiest)) == 0:
            raise ValueError("a network that predicts the noise (epsilon) has no information at pure noise")
        self.network, self.levels, self.prediction, self.notes = network, levels, prediction, notes

    @property
    def latent_channels(self) -> int:
        """Number of channels of the prior's latents."""
        return int(self.network.config.in_channels)

    @property
    def calls(self) -> int:
        """How many times one evaluation calls the network: twice with classifier-free guidance."""
        return 1

    @property
    def multiple(self) -> int:
        """Height and width of latents must be multiples of it."""
        return 1

    def check_latents(self, latent_shape: tuple[int, int, int]) -> None:
        """Raise UserError for a height and width that the network does not accept."""

    def answer(self, x: Latents, time: Times) -> Latents:
        """The network's prediction for its own input, both of the type of its weights."""
        answer: Latents = self.network(x, time.to(x.device, torch.float32)).sample
        return answer

    @property
    def dtype(self) -> torch.dtype:
        """The type of the network's weights."""
        found: torch.dtype = next((p.dtype for p in self.network.parameters() if p.is_floating_point()), torch.float32)
        return found

    def predict(self, z: Latents, time: Times) -> tuple[Latents, Latents]:
        """The posterior mean of the clean latent and of the noise, (z0_hat, eps), at per-image times."""
        # before the network: reading times from a GPU waits for all queued work
        signal, noise = self._mixture(z, time)
        x = _per_image(self.levels.scale_at(time)).to(z) * z
        answer = in_type(self.dtype, lambda x: self.answer(x, time), x)
        u, eps = estimates(self.prediction, answer, x, signal, noise)
        return u / self.levels.std, eps

    def training_loss(self, z0: Latents, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the network's own target at uniform timesteps (arXiv 2006.11239, eq. 14)."""
        if not isinstance(self.levels, DDPMLevels):
            raise TypeError("training needs DDPM's timesteps")
        timestep = ranks.randint(self.levels.num_timesteps, len(z0), generator)
        eps = ranks.randn(z0.shape, generator).to(z0)
        signal, noise = self._mixture(z0, timestep)
        u = self.levels.std * z0
        answer = self.answer(signal * u + noise * eps, timestep).float()
        return (answer - target(self.prediction, u, eps, signal, noise)).square().mean(), {}

    def _mixture(self, z: Latents, time: Times) -> tuple[Tensor, Tensor]:
        """(signal, noise) of the network's input, (batch, 1, 1, 1), like z."""
        signal, noise = self.levels.mixture_at(time)
        return _per_image(signal).to(z), _per_image(noise).to(z)


class PriorSource(Member):
    """Where a prior comes from: the base of all kinds."""

    source: str

    @property
    def is_given(self) -> bool:
        """Whether `source` is a folder of weights."""
        return self.source not in ("auto", "train")

    def folder(self) -> Path:
        """The folder of given weights."""
        return at_home(self.source)

    def given_parts(self, folder: Path) -> tuple[Path, ...]:
        """Everything in a folder of weights that the prior's answers depend on."""
        return self.network_parts(folder)

    @abstractmethod
    def network_parts(self, folder: Path) -> tuple[Path, ...]:
        """The parts of a folder of weights that are evaluated at every step."""

    def told(self, folder: Path) -> dict[str, Any]:
        """What the answers of the weights in a folder depend on besides them."""
        return {}

    def levels(self) -> NoiseLevels | None:
        """The noise levels of a prior trained by this recipe; None if they are only known once it is built."""
        return None

    @abstractmethod
    def load(self, folder: Path) -> Prior:
        """Load the prior in a folder.

        Raises:
            UserError: if it is missing, invalid or of another kind.
        """

    def load_as(self, folder: Path, dtype: torch.dtype) -> Prior:
        """The same with weights of this type."""
        return self.load(folder).to(dtype)

    def plan(self, folder: Path) -> Prior:
        """The prior in a folder for what can be known without its weights: levels, and the latents that it accepts."""
        return self.load(folder)


class PriorRecipe(PriorSource):
    """How a prior is trained, or where to load it. A new kind is one file: a recipe and, if necessary, a Prior."""

    source: str = Field(
        "auto",
        description="'auto': the shipped weights if they were trained by this recipe on these data, else train; "
        "'train': always train; anything else: a folder of weights (for a unet, with unet/ and scheduler/ in "
        "diffusers' format)",
        json_schema_extra=NOT_IDENTITY,
    )
    num_train_images: Count = Field(250_000, description="number of training latents processed")
    rounds: int = Field(
        1,
        ge=1,
        le=16,
        description="how many times to train on num_train_images; each round has a new optimizer and starts from the "
        "last one's average, as it is saved",
        json_schema_extra=ADDED_LATER,
    )
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 6e-4
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average, which is the result")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16: autocast, faster on CPUs that support it"
    )
    seed: Seed = 0

    parts: ClassVar[tuple[str, ...]] = ("prior",)
    """The subfolders of a saved prior."""
    splits_batches: ClassVar[bool] = False
    """Whether it can be trained on several devices: as `DescentRecipe.splits_batches`."""

    def network_parts(self, folder: Path) -> tuple[Path, ...]:
        return tuple(folder / part for part in self.parts)

    @abstractmethod
    def build(self, latent_shape: tuple[int, int, int]) -> Prior:
        """A new prior for latents of (channel, height, width); random weights from torch's current generator.

        Raises:
            UserError: for latents that it does not accept.
        """

    def save(self, prior: Prior, folder: Path, latent_shape: tuple[int, int, int]) -> None:
        """Write the files that `load` reads: by default, the weights and the arguments of `build`."""
        from safetensors.torch import save_file

        inner = folder / self.parts[0]
        inner.mkdir(exist_ok=True)
        save_file({name: t.contiguous() for name, t in prior.state_dict().items()}, inner / WEIGHTS)
        (inner / LATENT_SHAPE).write_text(json.dumps(latent_shape), encoding="utf-8")

    def load(self, folder: Path) -> Prior:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        inner = folder / self.parts[0]
        with readable(inner, f"the {self.kind} prior", SafetensorError, remedy="restore it or train again"):
            channels, height, width = json.loads((inner / LATENT_SHAPE).read_text(encoding="utf-8"))
            with torch.random.fork_rng(devices=[]):
                prior = self.build((channels, height, width))
            prior.load_state_dict(load_file(inner / WEIGHTS))
        return prior.eval()


def _per_image(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
