"""Fit the recalibration of a severity encoder's variance on validation images of its own training degradation."""

from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from workbench.core.bounds import MAX_COUNT
from workbench.core.config import UserError
from workbench.severity.calibration.recalibration import (
    MIN_IMAGES,
    AnyRecalibration,
    Recalibration,
    channel_error_variance,
)
from workbench.severity.estimate import error_variance
from workbench.stages.fit.fit_encoder import FitEncoder
from workbench.stages.measure.estimates import estimates
from workbench.stages.runtime import Runtime

RECALIBRATION = "recalibration.json"
FEWEST = 2 * MIN_IMAGES - 1
"""Number of images of which half are enough for a map."""


class FitRecalibration(FitEncoder):
    """Validation images -> `Recalibration`: every second image for the map, the others for the bound."""

    name: ClassVar[str] = "fit_recalibration"
    version: ClassVar[int] = 2  # 2: an isotonic fit's first and last blocks hold 20 images
    seconds_per_effort: ClassVar[float] = 0.0015

    recalibration: AnyRecalibration
    num_images: int = Field(
        4000, ge=FEWEST, le=MAX_COUNT, description="number of validation images, from the start of the split, or all"
    )

    @property
    def label(self) -> str:
        return f"recalibration ({self.recalibration.kind}) of the {self.severity_encoder.degradation.kind} encoder"

    def num_scores(self) -> int:
        """Number of images for the bound."""
        return len(self.images()) // 2

    def check(self) -> None:
        """Reject too few validation images, before any expensive computation. Raises UserError."""
        if len(self.images()) < FEWEST:
            raise UserError(
                f"recalibration needs {FEWEST} validation images or more, but the data has {len(self.images())}"
            )

    def load(self, runtime: Runtime) -> Recalibration:
        """Load the fitted recalibration."""
        return Recalibration.model_validate_json((self.ensure(runtime) / RECALIBRATION).read_text())

    def work(self, folder: Path, runtime: Runtime) -> None:
        self.check()
        # shared with other recalibrations of this encoder
        key = f"errors of {self.replace({'recalibration.kind': 'none'}).identity}"
        if key not in runtime.loaded:
            runtime.loaded[key] = self._errors(runtime)
        fitted = Recalibration.fit(self.recalibration, *runtime.loaded[key])
        (folder / RECALIBRATION).write_text(fitted.model_dump_json())

    def _errors(self, runtime: Runtime) -> tuple[Tensor, ...]:
        """(var_hat, s2, channel_error_variance) of the validation images."""
        autoencoder, encoder = self.autoencoder_stage().load(runtime), self.severity_stage().load(runtime)
        images, rows = self.images(), []
        batches = estimates(autoencoder, encoder, self.severity_encoder.degradation, images, self.seed, runtime.device)
        with runtime.progress.task(f"fitting {self.label}") as update:
            for _, estimate, z0 in batches:
                z_hat = estimate.z_hat
                row = (estimate.per_image(), error_variance(z_hat, z0), channel_error_variance(z_hat, z0))
                rows.append(tuple(tensor.cpu() for tensor in row))
                update(sum(len(own) for own, *_ in rows), len(images))
        return tuple(torch.cat(column) for column in zip(*rows, strict=True))
