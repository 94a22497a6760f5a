"""Someone else's estimate: z_hat = E(R(y)) for any reconstruction R, with a variance that is fitted in seconds."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from workbench.autoencoders import Autoencoder
from workbench.core.bounds import MAX_COUNT
from workbench.core.config import UserError
from workbench.core.families import attempt, find, source_digest
from workbench.core.flop_counter import flop_counter
from workbench.core.measurement import Measurement
from workbench.core.tensors import Images, Latents
from workbench.degradations import Degradation
from workbench.severity.encoder import summary
from workbench.severity.fitted import MIN_IMAGES, FittedEstimator, FittedRecipe
from workbench.severity.ridge import LogVarianceRidge

Reconstruct = Callable[[Tensor, Any], Tensor]
"""R(y, physics) -> images on [0, 1], with a deepinv physics of these measurements, as deepinv's Reconstructors."""


class Reconstructor(FittedRecipe):
    """z_hat = E(R(y)): the latent of another method's reconstruction, and its variance by ridge.

    R is called as R(y, physics), as deepinv's Reconstructors are: a restoration network, a plug-and-play algorithm, a
    pseudo-inverse. `physics` is a deepinv physics with the operators of this batch and, as its noise model, Gaussian
    noise of their levels. The features are those of E, of R(y) and of the image-domain view of y.
    """

    kind: Literal["reconstructor"] = "reconstructor"
    reconstructor: str = Field(
        description="MODULE:NAME of R: a function of (y, physics), or a Reconstructor: an object, or a class without "
        "arguments"
    )
    num_images: int = Field(
        512, ge=MIN_IMAGES, le=MAX_COUNT, description="number of clean images for the variance, or all"
    )

    @field_validator("reconstructor")
    @classmethod
    def _is_there(cls, name: str) -> str:
        named_reconstructor(name)
        return name

    def canonical(self) -> dict[str, Any]:
        return super().canonical() | {"source": source_digest(_defined(find(self.reconstructor)))}

    def build(self, autoencoder: Autoencoder) -> "ReconstructorEncoder":
        """The estimator, without a variance."""
        return ReconstructorEncoder(autoencoder, named_reconstructor(self.reconstructor), self.reconstructor)


class ReconstructorEncoder(FittedEstimator):
    """E(R(y)), and a ridge on the statistics of E's last features of R(y) and of y.

    Args:
        autoencoder: provides E, which is not changed.
        reconstruct: R.
        name: R's name in messages.

    Attributes:
        flops: R's FLOPs on one image, counted at its first call.
    """

    def __init__(self, autoencoder: Autoencoder, reconstruct: Reconstruct, name: str | None = None) -> None:
        super().__init__()
        self.trunk = autoencoder.encoder_copy().requires_grad_(False)
        self.variance = LogVarianceRidge()
        if isinstance(reconstruct, nn.Module):
            reconstruct.eval()
        self.reconstruct = (reconstruct,)  # in a tuple: R's weights are not part of what is fitted
        self.channels = autoencoder.image_channels
        self.flops: float | None = None
        self.name = name or getattr(reconstruct, "__name__", type(reconstruct).__name__)

    @torch.no_grad()
    def seen(self, degradation: Degradation, measurement: Measurement) -> Images:
        """R(y) and the view of y, (batch, 2 * channel, height, width).

        Raises:
            UserError: if R fails, or returns anything but finite images.
        """
        view = measurement.encoder_input()
        made = attempt(f"{self.name} fails", lambda: self._counted(degradation, measurement))
        if not isinstance(made, Tensor) or made.shape != view.shape:
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise UserError(f"{self.name}(y, physics) must return images of shape {tuple(view.shape)}, got {got}")
        if not bool(made.isfinite().all()):
            raise UserError(f"{self.name}(y, physics) returns values that are not finite")
        return torch.cat([made.to(view), view], dim=1)

    def _counted(self, degradation: Degradation, measurement: Measurement) -> Any:
        """R(y); the first call counts R's FLOPs."""
        if self.flops is not None:
            return degradation.reconstruct(self.reconstruct[0], measurement)
        with flop_counter() as counter:
            made = degradation.reconstruct(self.reconstruct[0], measurement)
        self.flops = counter.get_total_flops() / len(measurement)
        return made

    def read(self, seen: Images) -> tuple[Latents, Tensor]:
        # one image alone, as when FLOPs are counted, stands for both
        reconstructed, view = seen[:, : self.channels], seen[:, -self.channels :]
        features, z_hat = self.trunk(reconstructed)
        of_view, _ = self.trunk(view)
        return z_hat, torch.cat([summary(features), summary(of_view)], dim=1)


def named_reconstructor(name: str) -> Reconstruct:
    """The object MODULE:NAME, called if it is a class.

    Raises:
        UserError: if it is not there, not allowed, or cannot be called.
    """
    found = find(name)
    made: Any = attempt(f"{name} cannot be made without arguments", found) if isinstance(found, type) else found
    if not callable(made):
        raise UserError(f"{name} cannot be called as R(y, physics)")
    reconstruct: Reconstruct = made
    return reconstruct


def _defined(found: Any) -> Any:
    """What has a source: a function or a class."""
    return found if isinstance(found, type) or hasattr(found, "__code__") else type(found)
