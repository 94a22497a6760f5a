"""Variance sources: estimates of z_hat's error variance, and the evidence that they need."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Flag, auto
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor

from workbench.core.config import UserError
from workbench.core.families import Member
from workbench.core.measurement import Measurement
from workbench.core.tensors import Latents, Measurements, Scalars
from workbench.severity.calibration.fusion import Fusion
from workbench.severity.calibration.non_blind import NonBlindFit
from workbench.severity.calibration.recalibration import Recalibration
from workbench.severity.estimate import SeverityEstimate

T = TypeVar("T")

Forward = Callable[[Latents, Measurement], Measurements]
"""F: A(D(z)) with the operator parameters of the measurement."""
Encode = Callable[[Measurements, Measurement], Latents]
"""h: z_hat of other measured values, with the operator parameters of the measurement."""

ResidualRMS = Callable[[Latents, Measurement], Scalars]
"""Root mean square of y - A(D(z)) over the observed entries, D(z) clipped to [0, 1]; one decoder evaluation."""


class Need(Flag):
    """The evidence that a variance source, or its start rule, uses besides z_hat and the measurement.

    It determines which stages must run first, and whether an encoder is needed at all.
    """

    NOTHING = 0
    VAR_HAT = auto()
    """The severity encoder's own variance is used, at least in part."""
    OPERATOR = auto()
    """A(D(z)), and z_hat of other measured values."""
    FUSION = auto()
    """In-distribution statistics of the severity encoder."""
    RECALIBRATION = auto()
    """Recalibration of its variance, with the remaining error and the distribution of its error over channels."""
    NON_BLIND = auto()
    """A regression of its error's variance, fitted to the operator at hand."""
    TRUTH = auto()
    """The clean latent, known only in a study."""


REMEDIES: Mapping[Need, str] = {
    Need.OPERATOR: "the operator, the decoder and the encoder",
    Need.FUSION: "in-distribution statistics of the severity encoder: pass fusion= from FitFusion(...).load(runtime), "
    "or use load_restorer, which fits them",
    Need.RECALIBRATION: "a fit on validation images of the severity encoder's degradation: pass recalibration= from "
    "FitRecalibration(...).load(runtime), or use load_restorer, which fits it",
    Need.NON_BLIND: "a fit on validation images of the operator: pass non_blind= from FitNonBlind(...).load(runtime), "
    "or use load_restorer, which fits it",
    Need.TRUTH: "the clean images: use it in studies, not to restore",
}


@dataclass(frozen=True)
class Evidence:
    """The available evidence on images before their start is chosen.

    Attributes:
        estimate: z_hat and var_hat.
        measurement: the measurements.
        seed: keys the random probes.
        forward, encode, residual: for Need.OPERATOR; see `Forward`, `Encode` and `ResidualRMS`.
        fusion: for Need.FUSION.
        recalibration: for Need.RECALIBRATION.
        non_blind: for Need.NON_BLIND.
        truth: for Need.TRUTH: the clean latents.
    """

    estimate: SeverityEstimate
    measurement: Measurement
    seed: int = 0
    forward: Forward | None = None
    encode: Encode | None = None
    residual: ResidualRMS | None = None
    fusion: Fusion | None = None
    recalibration: Recalibration | None = None
    non_blind: NonBlindFit | None = None
    truth: Latents | None = None

    def only(self, needs: Need) -> Self:
        """The evidence restricted to `needs`, so that nothing else can be used silently."""
        fields = {
            Need.OPERATOR: ("forward", "encode", "residual"),
            Need.FUSION: ("fusion",),
            Need.RECALIBRATION: ("recalibration",),
            Need.NON_BLIND: ("non_blind",),
            Need.TRUTH: ("truth",),
        }
        unneeded: dict[str, Any] = {name: None for need, names in fields.items() if need not in needs for name in names}
        return replace(self, **unneeded)


def required(value: T | None, asker: str, need: Need) -> T:
    """A part of the evidence that `asker` has declared to need.

    Raises:
        UserError: if it is missing, with the remedy.
    """
    if value is None:
        raise UserError(f"{asker} needs {REMEDIES[need]}")
    return value


@dataclass(frozen=True)
class Variance:
    """The result of a variance source.

    Attributes:
        value: the variance of z_hat's error, (batch,).
        distrusted: the residual contradicted the severity encoder, (batch,) bool; None if the source does not check.
    """

    value: Scalars
    distrusted: Tensor | None = None


class VarianceSource(Member):
    """Estimates the variance of z_hat's error, per image."""

    reads: ClassVar[Need] = Need.NOTHING
    scales_var_hat: ClassVar[bool] = False
    """Whether the result is var_hat times a factor of at least 1: only such a source can be recalibrated."""

    @property
    def needs(self) -> Need:
        """The evidence that it uses."""
        return self.reads

    @property
    def label(self) -> str:
        """Name in tables, in which rules differ within a study."""
        return self.kind

    @property
    def asker(self) -> str:
        """Name in messages: the setting by which the user has selected it."""
        return f"start.variance={self.kind}"

    @abstractmethod
    def __call__(self, evidence: Evidence) -> Variance:
        """The variance of z_hat's error for each image.

        Raises:
            UserError: if required evidence is missing.
        """

    def canonical(self) -> Any:
        """Only the kind if there are no other settings, as in results from before sources had settings."""
        fields = super().canonical()
        return self.kind if fields.keys() == {"kind"} else fields


def own_variance(estimate: SeverityEstimate) -> Scalars:
    """The severity encoder's var_hat, one number per image.

    Raises:
        UserError: for a var_hat that is not one number per image, or not positive and finite.
    """
    return positive(estimate.per_image())


def positive(var: Scalars) -> Scalars:
    """var_hat, checked to have a logarithm.

    Raises:
        UserError: if it is not positive and finite.
    """
    bad = int((~(var.isfinite() & (var > 0))).sum())
    if bad:
        raise UserError(
            f"var_hat must be positive and finite to start from, but that of {bad} of {len(var)} images is not: "
            "train the severity encoder longer, or restore without one (--encoder none)"
        )
    return var
