"""Measure the calibration of a severity encoder: predictions compared with the truth, without restoring images."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from workbench.autoencoders import AnyAutoencoder, Tiny
from workbench.core.bounds import MAX_COUNT, Count, Probability, Seed
from workbench.core.config import UserError, digest
from workbench.core.measurement import Measurement
from workbench.core.tensors import Latents
from workbench.data import FashionMNIST, ImageSplit, Source, Split
from workbench.degradations import AnyDegradation, GaussianBlur
from workbench.diffusion import DDIM, AnyPrior, NoiseLevels, Sampler, UNetRecipe
from workbench.metrics import calibration, severity_bins
from workbench.metrics.calibration import Rows
from workbench.severity.calibration import AnyRecalibration, Factor, Isotonic, Recalibration, check_sample
from workbench.severity.estimate import SeverityEstimate, error_variance
from workbench.severity.recipe import SeverityRecipe, TrainedSeverity
from workbench.severity.start import OracleVariance, SNRMatch
from workbench.severity.variance import Evidence
from workbench.stages.base import Stage
from workbench.stages.fit.fit_recalibration import FEWEST, FitRecalibration
from workbench.stages.latent_stage import LatentStage
from workbench.stages.measure.estimates import estimates
from workbench.stages.measure.trivial import trivial_predictors
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_prior import TrainPrior
from workbench.stages.train.train_severity import TrainSeverity

FEWEST_IN_BIN = 2 * calibration.NUM_BINS
"""Average number of images per bin of severity: two for each bin by var_hat within it."""


def variance_column(recalibration: str) -> str:
    """The column of the variances from this kind of recalibration."""
    return f"var_{recalibration}"


def bound_column(risk: float) -> str:
    """The column of the bounds that s2 exceeds with a probability of at most `risk`."""
    return f"bound_{risk:g}"


class MeasureCalibration(LatentStage):
    """One cell: one severity encoder on measurements of one degradation, one row per image.

    A row has the encoder's prediction (var_hat), the truth (s2; `square`, the mean of e^2, which includes the bias),
    trivial predictors of it (see `stages.trivial`), the recalibrated variances, conformal bounds on s2 with the number
    of images that they are from, and the start of `snr_match` for var_hat and for s2. The calibration of all images
    together, and of each bin of severity, is stored with the rows (see `metrics.calibration.summarise`).
    """

    name: ClassVar[str] = "measure_calibration"
    version: ClassVar[int] = 2
    seconds_per_effort: ClassVar[float] = 0.0025

    data: Source = FashionMNIST()
    autoencoder: AnyAutoencoder = Tiny()
    prior: AnyPrior = Field(UNetRecipe(), description="the prior whose noise levels determine the start")
    severity_encoder: TrainedSeverity = SeverityRecipe(degradation=GaussianBlur())
    degradation: AnyDegradation = Field(GaussianBlur(), description="degradation of the images")
    sampler: Sampler = DDIM(num_steps=500)
    recalibrations: tuple[AnyRecalibration, ...] = Field(
        (Factor(), Isotonic()),
        min_length=1,
        description="recalibrations to fit on validation images; the last one gives the bounds",
    )
    risks: tuple[Probability, ...] = Field((0.05, 0.1, 0.2), min_length=1, description="risk of each bound on s2")
    num_fit_images: int = Field(
        4000, ge=FEWEST, le=MAX_COUNT, description="number of validation images for the recalibrations"
    )
    split: Split = Field("test", description="which images")
    num_images: Count = Field(1024, description="number of images, from the start of the split")
    num_severity_bins: int = Field(
        5,
        ge=0,
        le=1000,
        description="number of equal bins of severity to summarise, besides all images; 0: no summary",
    )
    seed: Seed = Field(0, description="seed of severities, operators and noise")

    def effort(self) -> float:
        return self.num_images * (2 if self.num_severity_bins else 1)

    @property
    def label(self) -> str:
        return f"calibration of the {self.severity_encoder.degradation.kind} encoder on {self.degradation.kind}"

    @property
    def is_matched(self) -> bool:
        """Whether the encoder is tested on its training degradation."""
        return bool(self.severity_encoder.degradation == self.degradation)

    def prior_stage(self) -> TrainPrior:
        """The stage of the prior."""
        return TrainPrior(data=self.data, autoencoder=self.autoencoder, prior=self.prior)

    def severity_stage(self) -> TrainSeverity:
        """The stage of the severity encoder."""
        return TrainSeverity(data=self.data, autoencoder=self.autoencoder, severity_encoder=self.severity_encoder)

    def recalibration_stages(self) -> tuple[FitRecalibration, ...]:
        """The stages of its recalibrations."""
        own = {"data": self.data, "autoencoder": self.autoencoder, "severity_encoder": self.severity_encoder}
        size = self.num_fit_images
        return tuple(FitRecalibration(**own, recalibration=method, num_images=size) for method in self.recalibrations)

    def upstream(self) -> tuple[Stage, ...]:
        return (self.autoencoder_stage(), self.prior_stage(), self.severity_stage(), *self.recalibration_stages())

    def images(self) -> ImageSplit:
        """The images to measure."""
        return self.data.split(self.split).first(self.num_images)

    def measurement_set(self) -> str:
        """Identifies the measurements: only results on the same set may be compared."""
        return digest(
            {"ids": self.images().fingerprint, "degradation": self.degradation.canonical(), "seed": self.seed}
        )

    def check(self) -> None:
        """Reject a configuration that cannot work, before any expensive computation.

        Raises:
            UserError: for too few images for the bins or the risks, operators that do not fit the images, or missing or
                invalid weights.
        """
        self.images()
        needed = FEWEST_IN_BIN * self.num_severity_bins
        if self.num_images < needed:
            raise UserError(
                f"num_images={self.num_images} is too few for num_severity_bins={self.num_severity_bins}: "
                f"{FEWEST_IN_BIN} images per bin need {needed}"
            )
        self.degradation.check(self.data.image_shape, gradient=False)
        self.severity_encoder.degradation.check(self.data.image_shape, gradient=False)
        self.prior_stage().check()
        self.severity_stage().check()
        for stage in self.recalibration_stages():
            stage.check()
            for risk in self.risks:
                check_sample(stage.num_scores(), risk)

    def work(self, folder: Path, runtime: Runtime) -> None:
        import pandas as pd

        autoencoder, encoder = self.autoencoder_stage().load(runtime), self.severity_stage().load(runtime)
        levels = self.prior_stage().load(runtime).levels
        fits = [stage.load(runtime) for stage in self.recalibration_stages()]
        images, frames, parts, done = self.images(), [], [], 0
        batches = estimates(autoencoder, encoder, self.degradation, images, self.seed, runtime.device)
        with runtime.progress.task(f"measuring {self.label}") as update:
            for measurement, estimate, z0 in batches:
                if self.num_severity_bins:
                    parts.append(calibration.collect(estimate.z_hat, z0, estimate.per_image()))
                frame = pd.DataFrame(self._columns(measurement, estimate, z0, levels, fits))
                with torch.no_grad():
                    decoded = autoencoder.decode(estimate.z_hat)
                trivial = trivial_predictors(measurement, self.degradation, decoded)
                frames.append(frame.assign(**{name: one.numpy(force=True) for name, one in trivial.items()}))
                update(done := done + len(measurement), len(images))
            frame = pd.concat(frames, ignore_index=True)
            if self.num_severity_bins:
                update(done, len(images), "intervals")
                groups = self._groups(calibration.join(parts), frame["severity"].to_numpy())
                (folder / calibration.FILE).write_text(calibration.as_json(groups))
        frame.to_parquet(folder / ROWS)

    def _columns(
        self,
        measurement: Measurement,
        estimate: SeverityEstimate,
        z0: Latents,
        levels: NoiseLevels,
        fits: list[Recalibration],
    ) -> dict[str, object]:
        """The rows of a batch, as columns."""
        assert measurement.severity is not None
        var_hat, error = estimate.per_image().double().cpu(), estimate.z_hat.double() - z0.double()
        bounds = {bound_column(risk): fits[-1].bound(var_hat, risk).numpy() for risk in self.risks}
        variances = {
            variance_column(method.kind): fit.apply(var_hat).numpy()
            for method, fit in zip(self.recalibrations, fits, strict=True)
        }
        chain = self.sampler.chain(levels, z0.shape[1:])
        evidence, noise = Evidence(estimate, measurement, truth=z0), torch.zeros_like(z0)
        rules = {"start_timestep": SNRMatch(variance="encoder"), "oracle_timestep": OracleVariance()}
        starts = {name: rule(evidence, chain, noise).position for name, rule in rules.items()}
        return {
            "image_id": measurement.ids.numpy(force=True),
            "severity": measurement.severity.numpy(force=True),
            "var_hat": var_hat.numpy(),
            "s2": error_variance(estimate.z_hat.double(), z0.double()).numpy(force=True),
            "square": error.square().mean((1, 2, 3)).numpy(force=True),
            **variances,
            **bounds,
            "num_scores": len(fits[-1].scores),
            **{name: chain.recorded_time(position).numpy() for name, position in starts.items()},
            "measurement_set": self.measurement_set(),
        }

    def _groups(self, rows: Rows, severity: np.ndarray) -> dict[str, calibration.Calibration]:
        """All images, and those of each bin of severity with two or more images, by `bin_name`; one bin means all."""
        place = severity_bins(severity, self.num_severity_bins)
        groups = {calibration.ALL: np.arange(len(severity))}
        for i in range(self.num_severity_bins if self.num_severity_bins > 1 else 0):
            if len(members := np.flatnonzero(place == i)) > 1:
                groups[bin_name(i, self.num_severity_bins)] = members
        return {
            name: calibration.summarise(calibration.take(rows, index), calibration.bins_for(len(index)))
            for name, index in groups.items()
        }


def bin_name(place: int, num_bins: int) -> str:
    """The name of a bin of severity: "0.2 to 0.4"."""
    return f"{place / num_bins:.2g} to {(place + 1) / num_bins:.2g}"
