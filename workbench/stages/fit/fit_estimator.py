"""Fit an estimator to one operator: z_hat, its log variance and its calibration, on disjoint images."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field
from torch import Tensor

from workbench.autoencoders import Autoencoder
from workbench.core.config import UserError
from workbench.core.files import write_whole
from workbench.core.measurement import Measurement
from workbench.core.tensors import Ids, Latents
from workbench.data import ImageSplit
from workbench.degradations import AnyDegradation, Degradation
from workbench.diffusion import AnyPrior
from workbench.severity.calibration import AnyRecalibration, Fusion, Recalibration
from workbench.severity.calibration.recalibration import channel_error_variance
from workbench.severity.estimate import SeverityEstimate, error_variance
from workbench.severity.estimator import seen_by
from workbench.severity.fitted import MIN_IMAGES, FittedEstimator, FittedRecipe, parts
from workbench.severity.quick import Quick, QuickEncoder
from workbench.severity.recipe import AnyFitted
from workbench.stages.base import Stage
from workbench.stages.fit.clean_images import SamplePrior, canonical_without_images
from workbench.stages.latent_stage import LatentStage
from workbench.stages.measure.estimates import BATCH_SIZE, degrade, variance_of_residual
from workbench.stages.runtime import Runtime, native_bf16
from workbench.stages.train.descend import descend

WEIGHTS, CALIBRATION, FOUND = "weights.safetensors", "calibration.safetensors", "found.json"
STEPS_PER_EPOCH = 100
DRAWS = 4
"""Measurements of each image that the log variance is fitted on: severities vary more than images."""


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator and its errors on held-out images.

    Attributes:
        estimator: with its variance.
        held_out: `var_hat`, `s2`, `residual` (the variance that explains the residual), `channel_variance` and
            `features` of the held-out images, one row each.
        found: `ratio`, the mean of s2 / var_hat; `correlation` of the error with z_hat; `num_images` they are of; and
            `images`, the source of all images.
    """

    estimator: FittedEstimator
    held_out: Mapping[str, Tensor]
    found: Mapping[str, Any]

    def fusion(self) -> Fusion:
        """The usual ratio of the residual's variance to var_hat, for `fused`."""
        own, residual, features = (self.held_out[name] for name in ("var_hat", "residual", "features"))
        # no other degradations: the features' distance has no gain
        return Fusion.fit(own, residual, features, (own, own, features))

    def recalibration(self, method: AnyRecalibration) -> Recalibration:
        """A recalibration, with conformal scores."""
        return Recalibration.fit(method, *(self.held_out[name] for name in ("var_hat", "s2", "channel_variance")))

    @property
    def claim(self) -> str:
        """What its variance can claim, in one line."""
        ratio, correlation = self.found["ratio"], self.found["correlation"]
        figures = f"mean of s2 / var_hat {ratio:.2f}, correlation of the error with z_hat {correlation:+.2f}"
        number = self.found["num_images"]
        if self.found["images"] == "prior":
            return f"uncalibrated: fitted on samples of the prior ({figures} on {number} more samples)"
        return f"calibrated on {number} held-out images ({figures})"


class FitEstimator(LatentStage):
    """Clean images and an operator -> an estimator of the clean latent and of its error, with its calibration."""

    name: ClassVar[str] = "fit_estimator"
    artifact_type: ClassVar[str] = "model"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.001

    severity_encoder: AnyFitted
    degradation: AnyDegradation
    prior: AnyPrior | None = Field(None, description="the prior that clean images are drawn from; None: they are data")

    def effort(self) -> float:
        recipe = self.severity_encoder
        return recipe.num_images + (recipe.num_train_images if isinstance(recipe, Quick) else 0)

    @property
    def label(self) -> str:
        return f"{self.severity_encoder.kind} estimator for {self.degradation.kind} on {self.autoencoder.label}"

    def canonical(self) -> dict[str, Any]:
        return super().canonical() if self.samples_stage() is None else canonical_without_images(self)

    def samples_stage(self) -> SamplePrior | None:
        """The stage of the prior's samples, if they are the clean images."""
        if self.severity_encoder.images != "prior" or self.prior is None:
            return None
        own = {"data": self.data, "autoencoder": self.autoencoder, "prior": self.prior}
        return SamplePrior(**own, num_images=self.severity_encoder.num_images, seed=self.severity_encoder.seed)

    def upstream(self) -> tuple[Stage, ...]:
        samples = self.samples_stage()
        return (self.autoencoder_stage(),) if samples is None else (self.autoencoder_stage(), samples)

    def check(self) -> None:
        """Reject an operator that does not fit the images, and too few images. Raises UserError."""
        self.degradation.check(self.data.image_shape, gradient=False)
        if self.samples_stage() is None:
            check_number(len(self.data.split("train")), self.severity_encoder)

    def num_scores(self) -> int:
        """Number of held-out images."""
        recipe = self.severity_encoder
        available = recipe.num_images if self.samples_stage() else min(recipe.num_images, len(self.data.split("train")))
        return recipe.num_scores(available)

    def clean_images(self, runtime: Runtime) -> ImageSplit:
        """The clean images: of the data, or samples."""
        if (samples := self.samples_stage()) is not None:
            return samples.load(runtime)
        train = self.data.split("train")
        return train.first(min(self.severity_encoder.num_images, len(train)))

    def load(self, runtime: Runtime) -> Fitted:
        """Load what was fitted, frozen, on the runtime's device."""
        from safetensors.torch import load_file

        folder = self.ensure(runtime)
        if self.identity not in runtime.loaded:
            estimator = self.severity_encoder.build(self.autoencoder_stage().load(runtime))
            estimator.load_fitted(load_file(folder / WEIGHTS))
            found = json.loads((folder / FOUND).read_text())
            runtime.place(estimator.eval().requires_grad_(False))
            runtime.loaded[self.identity] = Fitted(estimator, load_file(folder / CALIBRATION), found)
        fitted: Fitted = runtime.loaded[self.identity]
        return fitted

    def work(self, folder: Path, runtime: Runtime) -> None:
        from safetensors.torch import save_file

        autoencoder = self.autoencoder_stage().load(runtime)
        estimator = self.severity_encoder.build(autoencoder)
        images = self.clean_images(runtime)
        fitted = fit(self.severity_encoder, estimator, autoencoder, images, self.degradation, folder, runtime)
        state = {name: tensor.contiguous() for name, tensor in fitted.estimator.cpu().state_dict().items()}
        save_file(state, folder / WEIGHTS)
        save_file({name: tensor.contiguous() for name, tensor in fitted.held_out.items()}, folder / CALIBRATION)
        write_whole(folder / FOUND, json.dumps(fitted.found, indent=2))


def check_number(num_images: int, recipe: FittedRecipe) -> None:
    """Raise UserError if so few clean images leave too few for one of the disjoint parts."""
    if num_images < MIN_IMAGES:
        raise UserError(
            f"severity_encoder.kind={recipe.kind} needs {MIN_IMAGES} clean training images or more, but there are "
            f"{num_images} (others are for validation and test): set severity_encoder.images=prior to draw them from "
            "the prior"
        )


def fit(
    recipe: FittedRecipe,
    estimator: FittedEstimator,
    autoencoder: Autoencoder,
    images: ImageSplit,
    degradation: Degradation,
    folder: Path,
    runtime: Runtime,
) -> Fitted:
    """Fit `estimator` to a degradation of these clean images, in three disjoint parts; see `severity.fitted.parts`.

    Raises:
        UserError: for too few images, or errors without a variance.
    """
    check_number(len(images), recipe)
    learns = isinstance(recipe, Quick) and isinstance(estimator, QuickEncoder)
    every = Known(images, _latents(autoencoder, images, runtime), degradation, runtime.device)
    for_estimate, for_variance, for_scores = map(every.part, parts(len(images), learns=learns))
    runtime.place(estimator)
    if isinstance(recipe, Quick) and learns:
        _descend(recipe, estimator, for_estimate, folder, runtime)
    estimator.eval().requires_grad_(False)
    what = f"fitting the variance of the {recipe.kind} estimator for {degradation.kind}"
    with runtime.progress.task(what) as update:
        draws = []
        for draw in range(DRAWS):
            draws.append(_errors(estimator, for_variance, recipe.seed + draw))
            update(draw + 1, DRAWS + 1)
        features, s2 = (torch.stack(column) for column in zip(*draws, strict=True))
        estimator.variance.fit(features, s2)
        estimator.variance.to(runtime.device)
        held_out, correlation = _held_out(estimator, autoencoder, for_scores, recipe.seed)
        update(DRAWS + 1, DRAWS + 1)
    ratio = float((held_out["s2"] / held_out["var_hat"]).mean())
    found = {"ratio": ratio, "correlation": correlation, "num_images": len(held_out["s2"]), "images": recipe.images}
    return Fitted(estimator, held_out, found)


@torch.no_grad()
def _latents(autoencoder: Autoencoder, images: ImageSplit, runtime: Runtime) -> Latents:
    """The clean latents, encoded once: for a large encoder, this takes most of the time."""
    found = []
    with runtime.progress.task(f"encoding {len(images)} images") as update:
        for index in images.batches(BATCH_SIZE):
            found.append(autoencoder.encode(images.batch(index).to(runtime.device)))
            update(int(index[-1]) + 1, len(images))
    return torch.cat(found)


@dataclass(frozen=True)
class Known:
    """Clean images, their latents, and the degradation of their measurements."""

    images: ImageSplit
    z0: Latents
    degradation: Degradation
    device: str

    def part(self, part: slice) -> Self:
        """A slice of them."""
        return replace(self, images=self.images.part(part), z0=self.z0[part])

    def measured(
        self, estimator: FittedEstimator, seed: int
    ) -> Iterator[tuple[Measurement, SeverityEstimate, Latents]]:
        """(measurement, estimate, clean latent) of each image, batch by batch."""
        for index in self.images.batches(BATCH_SIZE):
            measurement = degrade(self.degradation, self.images, index, seed).to(self.device)
            yield measurement, estimator.estimate(seen_by(estimator, self.degradation, measurement)), self.z0[index]


class _Settings(NamedTuple):
    """Of the descent."""

    num_train_images: int
    batch_size: int
    learning_rate: float
    precision: Literal["float32", "bf16"]
    seed: int


def _descend(recipe: Quick, estimator: FittedEstimator, known: Known, folder: Path, runtime: Runtime) -> None:
    """Minimise |z_hat - z0|^2 over degraded images: a new severity, operator and noise each time one is used."""
    precision = recipe.precision
    if precision == "auto":
        precision = "bf16" if native_bf16(runtime.device) else "float32"

    def make_batch(index: Ids, step: int) -> dict[str, Any]:
        measurement = degrade(known.degradation, known.images, index, seed=recipe.seed + 1 + step)
        return {"view": measurement.encoder_input(), "z0": known.z0[index]}

    def loss(batch: dict[str, Any], _: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        z_hat: Latents = estimator(batch["view"])
        return (z_hat.float() - batch["z0"]).square().mean(), {}

    descend(
        estimator,
        loss,
        make_batch,
        _Settings(recipe.num_train_images, recipe.batch_size, recipe.learning_rate, precision, recipe.seed),
        folder,
        runtime,
        num_images=len(known.images),
        label=f"{recipe.kind} estimator for {known.degradation.kind}",
        note=lambda row: f"latent error {row['train/loss']:.3f}",
        steps_per_epoch=STEPS_PER_EPOCH,
    )
    runtime.place(estimator)


@torch.no_grad()
def _errors(estimator: FittedEstimator, known: Known, seed: int) -> tuple[Tensor, Tensor]:
    """(features, s2) of one measurement of each image."""
    found = []
    for _, estimate, z0 in known.measured(estimator, seed):
        assert estimate.features is not None
        found.append((estimate.features.cpu(), error_variance(estimate.z_hat, z0).cpu()))
    features, s2 = (torch.cat(column) for column in zip(*found, strict=True))
    return features, s2


@torch.no_grad()
def _held_out(
    estimator: FittedEstimator, autoencoder: Autoencoder, known: Known, seed: int
) -> tuple[dict[str, Tensor], float]:
    """The columns of `Fitted.held_out`, and the correlation of e with z_hat over all elements."""
    rows, moments = [], torch.zeros(3, dtype=torch.float64)
    for measurement, estimate, z0 in known.measured(estimator, seed):
        z_hat, own, error = estimate.z_hat, estimate.per_image(), estimate.z_hat - z0
        residual = variance_of_residual(autoencoder, estimator, known.degradation, measurement, estimate, seed)
        assert estimate.features is not None
        columns = (own, error_variance(z_hat, z0), residual, channel_error_variance(z_hat, z0), estimate.features)
        rows.append(tuple(column.float().cpu() for column in columns))
        e, z = error.double() - error.mean(), z_hat.double() - z_hat.mean()
        moments += torch.stack([(e * z).sum(), e.square().sum(), z.square().sum()]).cpu()
    names = ("var_hat", "s2", "residual", "channel_variance", "features")
    held_out = {name: torch.cat(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return held_out, float(moments[0] / math.sqrt(max(float(moments[1] * moments[2]), 1e-30)))
