"""Fit the in-distribution statistics of a severity encoder: var_hat over residual variance, features."""

from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field

from workbench.core.bounds import MAX_COUNT
from workbench.core.digests import checked
from workbench.degradations import (
    JPEG,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    MotionBlurCRF,
    RandomInpainting,
    SuperResolution,
)
from workbench.severity.calibration.fusion import Fusion
from workbench.severity.estimate import error_variance
from workbench.stages.fit.fit_encoder import FitEncoder
from workbench.stages.measure.estimates import estimates, variance_of_residual
from workbench.stages.runtime import Runtime

FUSION = "fusion.safetensors"
STATISTICS = "severity_statistics"
"""The folder of the statistics that ship, beside that of their encoder: its identity is that of the weights alone."""
OTHERS = (GaussianBlur(), RandomInpainting(), MotionBlurCRF(), GaussianNoise(), SuperResolution(), JPEG())
"""Degradations for fitting the gain of the features' distance. If you change this, increase the stage's version."""


def read_fusion(folder: Path) -> Fusion | None:
    """The statistics in a folder; None if it has none.

    Raises:
        UserError: if they are damaged.
    """
    from safetensors.torch import load

    path = folder / FUSION
    return Fusion.from_tensors(load(checked(path))) if path.is_file() else None


class FitFusion(FitEncoder):
    """Validation images -> `Fusion`: the residual on the encoder's own degradation, the features' distance on any."""

    name: ClassVar[str] = "fit_fusion"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.005

    num_images: int = Field(
        512, ge=8, le=MAX_COUNT, description="number of validation images, from the start of the split, or all"
    )

    @property
    def label(self) -> str:
        return f"in-distribution statistics of the {self.severity_encoder.degradation.kind} encoder"

    def load(self, runtime: Runtime) -> Fusion:
        """Load the fitted statistics."""
        fitted = read_fusion(self.ensure(runtime))
        assert fitted is not None
        return fitted

    @torch.no_grad()
    def work(self, folder: Path, runtime: Runtime) -> None:
        from safetensors.torch import save_file

        with runtime.progress.task(f"fitting {self.label}") as update:
            own, residual, features, _ = self._measure(self.severity_encoder.degradation, runtime, residuals=True)
            others = []
            for done, member in enumerate(OTHERS, start=1):
                update(done, len(OTHERS) + 1, member.kind)
                others.append(self._measure(member, runtime, residuals=False))
        own_other, _, features_other, s2 = (torch.cat(column) for column in zip(*others, strict=True))
        fusion = Fusion.fit(own, residual, features, (own_other, s2, features_other))
        save_file(fusion.tensors(), folder / FUSION)

    def _measure(
        self, degradation: Degradation, runtime: Runtime, *, residuals: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """var_hat, the residual's variance (NaN if not requested), features and s2 of each image."""
        autoencoder, encoder = self.autoencoder_stage().load(runtime), self.severity_stage().load(runtime)
        images = self.images()

        found = []
        batches = estimates(autoencoder, encoder, degradation, images, self.seed, runtime.device)
        for measurement, estimate, z0 in batches:
            own = estimate.per_image()
            residual = torch.full_like(own, torch.nan)
            if residuals:
                residual = variance_of_residual(autoencoder, encoder, degradation, measurement, estimate, self.seed)
            # without features all are alike, so that nothing is made of their distance
            features = own.new_zeros(len(own), 1) if estimate.features is None else estimate.features
            row = (own, residual, features, error_variance(estimate.z_hat, z0))
            found.append(tuple(tensor.cpu() for tensor in row))
        own, residual, features, s2 = (torch.cat(column) for column in zip(*found, strict=True))
        return own, residual, features, s2
