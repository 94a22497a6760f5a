"""The base of all priors: a denoising network that provides the two estimates needed by solvers."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.core.config import NOT_IDENTITY, Config
from workbench.core.tensors import Latents, Times
from workbench.diffusion.noise_levels import DDPMLevels, NoiseLevels
from workbench.diffusion.prediction import Prediction, estimates, target


class Prior(nn.Module):
    """A denoising network with its noise levels and prediction type.

    The interface uses unit coordinates (`noise_levels`); `predict` converts to the network's own and back.

    Args:
        network: called with its input and times, each (batch,), it returns an object whose `sample` is like its input,
            as diffusers' models do. Other networks override `answer`.
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

    def answer(self, x: Latents, time: Times) -> Latents:
        """The network's prediction for its own input."""
        answer: Latents = self.network(x, time.to(x)).sample.float()
        return answer

    def predict(self, z: Latents, time: Times) -> tuple[Latents, Latents]:
        """The posterior mean of the clean latent and of the noise, (z0_hat, eps), at per-image times."""
        # before the network: reading times from a GPU waits for all queued work
        signal, noise = self._mixture(z, time)
        x = _per_image(self.levels.scale_at(time)).to(z) * z
        u, eps = estimates(self.prediction, self.answer(x, time), x, signal, noise)
        return u / self.levels.std, eps

    def training_loss(self, z0: Latents, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the network's own target at uniform timesteps (arXiv 2006.11239, eq. 14)."""
        if not isinstance(self.levels, DDPMLevels):
            raise TypeError("training needs DDPM's timesteps")
        timestep = torch.randint(self.levels.num_timesteps, (len(z0),), generator=generator)
        eps = torch.randn(z0.shape, generator=generator).to(z0)
        signal, noise = self._mixture(z0, timestep)
        u = self.levels.std * z0
        answer = self.answer(signal * u + noise * eps, timestep)
        return (answer - target(self.prediction, u, eps, signal, noise)).square().mean(), {}

    def _mixture(self, z: Latents, time: Times) -> tuple[Tensor, Tensor]:
        """(signal, noise) of the network's input, (batch, 1, 1, 1), like z."""
        signal, noise = self.levels.mixture_at(time)
        return _per_image(signal).to(z), _per_image(noise).to(z)


class PriorRecipe(Config):
    """How a prior is trained, or where to load it. A new kind is one file: a recipe and, if necessary, a Prior."""

    kind: str
    source: str = Field(
        "auto",
        description="'auto': the shipped weights if they were trained by this recipe on these data, else train; "
        "'train': always train; anything else: a folder with unet/ and scheduler/ in diffusers' format",
        json_schema_extra=NOT_IDENTITY,
    )

    parts: ClassVar[tuple[str, ...]] = ("unet", "scheduler")
    """The subfolders of a saved prior."""

    @abstractmethod
    def build(self, latent_shape: tuple[int, int, int]) -> Prior:
        """A new prior for latents of (channel, height, width)."""

    @abstractmethod
    def load(self, folder: Path) -> Prior:
        """Load the prior in a folder. Raises UserError if it is missing, invalid or of another kind."""


def _per_image(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
