"""Encode degraded images, and store statistics of their latents and errors by tenths of severity."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from workbench.core.bounds import MAX_COUNT, Seed
from workbench.core.config import UserError
from workbench.data import ImageSplit
from workbench.degradations import AnyDegradation
from workbench.metrics import Moments, radial_spectrum
from workbench.severity.recipe import TrainedSeverity
from workbench.stages.base import Stage
from workbench.stages.latent_stage import LatentStage
from workbench.stages.measure.estimates import degrade
from workbench.stages.runtime import Runtime
from workbench.stages.train.encode_latents import EncodeLatents
from workbench.stages.train.train_severity import TrainSeverity

BATCH_SIZE = 250
NUM_BINS = 10
MAX_SIZE = 4096
"""Maximum number of elements of a latent: larger covariances would exhaust the memory."""
STATISTICS = "statistics.safetensors"

What = Literal["latent", "error", "encoder_error"]


@dataclass(frozen=True)
class SetStatistics:
    """Statistics of one set of latents or errors, by severity.

    Attributes:
        bins: the moments of each tenth of [0, 1] in severity; a tenth without images has num 0.
        spectra: (10, frequencies) mean power by radial frequency (see `radial_spectrum`), mean error included.
        latent_shape: (channel, height, width).
    """

    bins: tuple[Moments, ...]
    spectra: NDArray[np.float64]
    latent_shape: tuple[int, int, int]

    def moments(self, bins: Sequence[int] | None = None) -> Moments:
        """The moments of these tenths combined; None: of all."""
        return Moments.pooled([self.bins[i] for i in self._chosen(bins)])

    def spectrum(self, bins: Sequence[int] | None = None) -> NDArray[np.float64]:
        """The mean power by radial frequency over the images of these tenths; None: of all."""
        chosen = list(self._chosen(bins))
        counts = np.array([self.bins[i].num for i in chosen])
        return np.asarray(counts @ self.spectra[chosen] / counts.sum())

    def _chosen(self, bins: Sequence[int] | None) -> Sequence[int]:
        return range(len(self.bins)) if bins is None else bins


class LatentStatistics(LatentStage):
    """Degraded images -> moments of E(y), moments and spectra of E(y) - z0, and of a severity encoder's error."""

    name: ClassVar[str] = "latent_statistics"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.0015

    degradation: AnyDegradation = Field(description="degradation of the images; severities are uniform on [0, 1]")
    severity_encoder: TrainedSeverity | None = Field(None, description="also store the errors of this encoder's z_hat")
    split: Literal["train", "val"] = Field(
        "train", description="split of the images; severity encoders are trained on train"
    )
    num_images: int = Field(
        20_000,
        ge=2,
        le=MAX_COUNT,
        description="number of images, from the start of the split; a study needs 5,000 or more",
    )
    seed: Seed = Field(0, description="seed of severities, operators and noise: the same for every degradation")

    def effort(self) -> float:
        return self.num_images

    @property
    def label(self) -> str:
        return f"latent statistics of {self.degradation.kind}"

    def latents_stage(self) -> EncodeLatents:
        """The stage of the clean latents; the same for all degradations."""
        return EncodeLatents(data=self.data, autoencoder=self.autoencoder, split=self.split, num_images=self.num_images)

    def severity_stage(self) -> TrainSeverity | None:
        """The stage of the severity encoder, if there is one."""
        if self.severity_encoder is None:
            return None
        return TrainSeverity(data=self.data, autoencoder=self.autoencoder, severity_encoder=self.severity_encoder)

    def upstream(self) -> tuple[Stage, ...]:
        severity = self.severity_stage()
        return (self.autoencoder_stage(), self.latents_stage(), *([severity] if severity else []))

    def images(self) -> ImageSplit:
        """The images to degrade and encode."""
        return self.data.split(self.split).first(self.num_images)

    def latent_size(self) -> int:
        """Number of elements of a latent."""
        return int(np.prod(self.autoencoder_stage().latent_shape()))

    def enough(self) -> bool:
        """Whether there are enough images for the covariance of these latents, and enough memory."""
        return self.latent_size() < self.num_images and self.latent_size() <= MAX_SIZE

    def check(self) -> None:
        """Reject latents too large for a covariance, and too few images, before any expensive computation.

        Raises:
            UserError: in both cases, or for a split with fewer images than requested.
        """
        size = self.latent_size()
        if size > MAX_SIZE:
            raise UserError(
                f"latent statistics support at most {MAX_SIZE} elements, but latents have {size}: use smaller images"
            )
        if self.num_images <= size:
            raise UserError(
                f"latents of {size} elements need more than {size} images for a covariance, "
                f"got num_images={self.num_images}: use 5,000 or more"
            )
        self.images()

    def load(self, runtime: Runtime) -> dict[What, SetStatistics]:
        """Load the statistics of `latent`, `error` and, if a severity encoder was given, `encoder_error`."""
        return read_statistics(self.ensure(runtime))

    @torch.no_grad()
    def work(self, folder: Path, runtime: Runtime) -> None:
        from safetensors.numpy import save_file

        self.check()
        autoencoder = self.autoencoder_stage().load(runtime)
        z0 = self.latents_stage().load(runtime)
        severity_stage = self.severity_stage()
        encoder = severity_stage.load(runtime) if severity_stage else None
        images = self.images()
        found: dict[What, list[torch.Tensor]] = {"latent": [], "error": []}
        if encoder is not None:
            found["encoder_error"] = []
        severity: list[torch.Tensor] = []
        with runtime.progress.task(f"encoding {len(images)} images with {self.degradation.kind}") as update:
            for index in images.batches(BATCH_SIZE):
                measurement = degrade(self.degradation, images, index, self.seed)
                view = measurement.encoder_input().to(runtime.device)
                z = autoencoder.encode(view).cpu()
                found["latent"].append(z)
                found["error"].append(z - z0[index])
                if encoder is not None:
                    found["encoder_error"].append(encoder.estimate(view).z_hat.float().cpu() - z0[index])
                assert measurement.severity is not None  # degrade() draws it
                severity.append(measurement.severity)
                update(int(index[-1]) + 1, len(images))
        tenths = (torch.cat(severity).numpy() * NUM_BINS).astype(int).clip(max=NUM_BINS - 1)
        tensors = {}
        for what, parts in found.items():
            for name, array in _summary(torch.cat(parts).numpy(), tenths).items():
                tensors[f"{what}.{name}"] = array
        tensors["latent_shape"] = np.array(z0.shape[1:])
        save_file(tensors, folder / STATISTICS)


def read_statistics(folder: Path) -> dict[What, SetStatistics]:
    """Read the statistics in the folder of a LatentStatistics stage."""
    from safetensors.numpy import load_file

    arrays: dict[str, Any] = load_file(folder / STATISTICS)
    channel, height, width = map(int, arrays["latent_shape"])
    found: dict[What, SetStatistics] = {}
    kinds: tuple[What, ...] = ("latent", "error", "encoder_error")
    for what in kinds:
        if f"{what}.num" not in arrays:
            continue
        num, mean, covariance = (arrays[f"{what}.{name}"] for name in ("num", "mean", "covariance"))
        bins = tuple(
            Moments(int(n), m.astype(float), c.astype(float)) for n, m, c in zip(num, mean, covariance, strict=True)
        )
        found[what] = SetStatistics(bins, arrays[f"{what}.spectrum"], (channel, height, width))
    return found


def _summary(latents: NDArray[np.float32], tenths: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Number, mean, covariance and spectrum of each tenth. Covariances in float32: a tenth's take 1 MiB for d = 512."""
    size = int(np.prod(latents.shape[1:]))
    frequencies = len(radial_spectrum(latents[:1]))
    num = np.bincount(tenths, minlength=NUM_BINS)
    mean, covariance = np.zeros((NUM_BINS, size)), np.zeros((NUM_BINS, size, size), np.float32)
    spectrum = np.zeros((NUM_BINS, frequencies))
    for tenth in np.flatnonzero(num):
        members = latents[tenths == tenth]
        moments = Moments.of(members)
        mean[tenth], covariance[tenth], spectrum[tenth] = moments.mean, moments.covariance, radial_spectrum(members)
    return {"num": num, "mean": mean, "covariance": covariance, "spectrum": spectrum}
