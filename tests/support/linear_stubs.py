"""Linear stand-ins for the trained networks, so that tests can say in closed form what should come out."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from workbench import randomness
from workbench.autoencoders import Autoencoder
from workbench.degradations import Degradation
from workbench.degradations.base import Params
from workbench.diffusion import Chain, UNetPrior
from workbench.measurement import Measurement
from workbench.severity.estimate import SeverityEstimate
from workbench.testing import LinearAutoencoder, latent_diffusion_levels
from workbench.testing.linear import BETA_END, BETA_START, CHANNELS, NUM_TIMESTEPS, orthogonal
from workbench.testing.linear import ModelConfig as Config

__all__ = ["LinearAutoencoder"]

levels = latent_diffusion_levels


def chain(num_steps: int = 1000) -> Chain:
    """So many of the default noise levels."""
    return levels().chain(num_steps, (CHANNELS, 4, 4))


class LinearUNet(nn.Module):
    """Predicts z0_hat = mixing z at every timestep; of a diffusers UNet's interface, what a Prior uses."""

    def __init__(self, sample_size: int) -> None:
        super().__init__()
        self.mixing = nn.Parameter(0.7 * orthogonal(CHANNELS, "prior"))
        self.config = Config(in_channels=CHANNELS, sample_size=sample_size)
        self.num_images: list[int] = []

    def forward(self, z: Tensor, timestep: Tensor) -> SimpleNamespace:
        assert timestep.shape == (len(z),)
        self.num_images.append(len(z))
        return SimpleNamespace(sample=torch.einsum("ij,bjhw->bihw", self.mixing, z))


class LinearPrior(UNetPrior):
    """A prior whose clean estimate is linear in z."""

    def __init__(self, image_size: int = 8) -> None:
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler(
            num_train_timesteps=NUM_TIMESTEPS,
            beta_start=BETA_START,
            beta_end=BETA_END,
            beta_schedule="scaled_linear",
            prediction_type="sample",
            clip_sample=False,
        )
        super().__init__(LinearUNet(image_size // 2), scheduler)
        self.requires_grad_(False)

    def predict_adjoint(self, g: Tensor) -> Tensor:
        """The transpose of the derivative of z0_hat."""
        return torch.einsum("ij,bihw->bjhw", self.network.mixing, g)


class StubEstimator:
    """Encodes y, and answers a variance that only the image itself decides."""

    def __init__(self, autoencoder: Autoencoder, var_hat: Callable[[Tensor], Tensor] | float = 0.1) -> None:
        self.autoencoder, self.var_hat = autoencoder, var_hat

    def estimate(self, view: Tensor) -> SeverityEstimate:
        """(E(y), var_hat(y)), the latter (batch, 1, 1, 1)."""
        var = self.var_hat(view) if callable(self.var_hat) else torch.full((len(view),), self.var_hat)
        return SeverityEstimate(self.autoencoder.encode(view), var.reshape(-1, 1, 1, 1))


class StubDegradation(Degradation):
    """A(x) = gain * x, the gain drawn for each image."""

    kind: Literal["stub"] = "stub"
    linear: ClassVar[bool] = True
    identity_db: ClassVar[float] = 0.0
    severity_range: ClassVar[str] = "none"

    def parameters(self, severity: Tensor, ids: Tensor, seed: int, image_shape: tuple[int, int, int]) -> Params:
        return {"gain": 0.5 + randomness.uniform(ids, (seed, "gain"), (1, 1, 1))}

    def A(self, x: Tensor, params: Params) -> Tensor:
        return params["gain"] * x

    def A_adjoint(self, y: Tensor, params: Params) -> Tensor:
        return params["gain"] * y

    def describe(self, severity: float) -> str:
        return "stub"


class CurvedDegradation(StubDegradation):
    """A(x) = gain * x^2: not linear."""

    kind: Literal["curved"] = "curved"  # type: ignore[assignment]

    linear: ClassVar[bool] = False

    def A(self, x: Tensor, params: Params) -> Tensor:
        return params["gain"] * x.square()


def images(num: int, size: int = 8, first: int = 1) -> tuple[Tensor, Tensor]:
    """Images on [0, 1] and their ids, first, first + 1 ..."""
    ids = torch.arange(first, first + num)
    return randomness.uniform(ids, ("image",), (1, size, size)), ids


def measurement_of(x: Tensor, ids: Tensor, noise_std: float = 0.05) -> Measurement:
    """y = x, as far as a test does not care."""
    return Measurement(y=x, ids=ids, noise_std=torch.full((len(x),), noise_std))
