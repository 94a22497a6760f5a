"""Fit a severity encoder's variance to an operator that is known: a regression for each, on validation images."""

from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field

from workbench.core.bounds import MAX_COUNT
from workbench.core.config import UserError
from workbench.core.digests import checked
from workbench.data import ImageSplit
from workbench.degradations import AnyDegradation, Degradation, members_of
from workbench.severity.calibration.non_blind import MIN_IMAGES, NonBlindFit, OfOperator
from workbench.severity.estimate import error_variance
from workbench.stages.fit.fit_encoder import FitEncoder
from workbench.stages.measure.estimates import estimates, variance_of_residual
from workbench.stages.runtime import Runtime

NON_BLIND = "non_blind.json"


def read_non_blind(folder: Path) -> NonBlindFit | None:
    """The regressions in a folder; None if it has none.

    Raises:
        UserError: if they are damaged.
    """
    path = folder / NON_BLIND
    return NonBlindFit.model_validate_json(checked(path)) if path.is_file() else None


class FitNonBlind(FitEncoder):
    """Validation images -> `NonBlindFit`, of the operator at hand, or of each that a mixture draws from."""

    name: ClassVar[str] = "fit_non_blind"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.005

    degradation: AnyDegradation
    num_images: int = Field(
        256,
        ge=MIN_IMAGES,
        le=MAX_COUNT,
        description="number of validation images of each operator: the last ones, because studies choose settings on "
        "the first; or all",
    )

    def images(self) -> ImageSplit:
        images = self.data.split("val")
        return images.part(slice(max(len(images) - self.num_images, 0), None))

    def effort(self) -> float:
        return self.num_images * len(members_of(self.degradation))

    @property
    def label(self) -> str:
        return f"variance of the {self.severity_encoder.degradation.kind} encoder for {self.degradation.kind}"

    def check(self) -> None:
        """Reject too few validation images, before any expensive computation. Raises UserError."""
        if len(self.images()) < MIN_IMAGES:
            raise UserError(
                f"start.variance=non_blind is fitted to {MIN_IMAGES} validation images or more, but the data has "
                f"{len(self.images())}: set start.variance=fused"
            )

    def load(self, runtime: Runtime) -> NonBlindFit:
        """Load the regressions."""
        fitted = read_non_blind(self.ensure(runtime))
        assert fitted is not None
        return fitted

    def work(self, folder: Path, runtime: Runtime) -> None:
        found, members = [], members_of(self.degradation)
        with runtime.progress.task(f"fitting {self.label}") as update:
            for member in members:
                found.append(self._fit(member, runtime))
                update(len(found), len(members), member.kind)
        (folder / NON_BLIND).write_text(NonBlindFit(operators=tuple(found)).model_dump_json(indent=1))

    @torch.no_grad()
    def _fit(self, member: Degradation, runtime: Runtime) -> OfOperator:
        autoencoder, encoder = self.autoencoder_stage().load(runtime), self.severity_stage().load(runtime)
        rows = []
        for measurement, estimate, z0 in estimates(
            autoencoder, encoder, member, self.images(), self.seed, runtime.device
        ):
            residual = variance_of_residual(autoencoder, encoder, member, measurement, estimate, self.seed)
            assert measurement.severity is not None
            row = (estimate.per_image(), residual, measurement.severity, error_variance(estimate.z_hat, z0))
            rows.append([tensor.cpu() for tensor in row])
        return OfOperator.fit(member.canonical(), *(torch.cat(column) for column in zip(*rows, strict=True)))
