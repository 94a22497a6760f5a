"""Variance sources: whose word is taken on how wrong z_hat is, and what it is told for that."""

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
from workbench.severity.calibration.recalibration import Recalibration
from workbench.severity.estimate import SeverityEstimate

T = TypeVar("T")

Forward = Callable[[Latents, Measurement], Measurements]
"""F: A(D(z)) with the operator parameters of the measurement."""
Encode = Callable[[Measurements, Measurement], Latents]
"""h: z_hat of other measured values, with the operator parameters of the measurement."""


class Need(Flag):
    """What a variance source, or the start rule that it is part of, looks at besides z_hat and the measurement.

    Whoever prepares a restoration reads it: it says which stages come first, and whether an encoder is needed at all.
    """

    NOTHING = 0
    VAR_HAT = auto()
    """The severity encoder's own variance is believed, at least in part."""
    OPERATOR = auto()
    """A(D(z)), and z_hat of other measured values."""
    FUSION = auto()
    """What is usual for the severity encoder."""
    RECALIBRATION = auto()
    """How its variance is made right, how far that is off, and how its error spreads over channels."""
    TRUTH = auto()
    """The clean latent, which only a study has."""


REMEDIES: Mapping[Need, str] = {
    Need.OPERATOR: "the operator, the decoder and the encoder",
    Need.FUSION: "a fit of what is usual for the severity encoder: pass fusion= made by FitFusion(...).load(runtime), "
    "or use load_restorer, which fits it",
    Need.RECALIBRATION: "a fit on validation images of the severity encoder's degradation: pass recalibration= made by "
    "FitRecalibration(...).load(runtime), or use load_restorer, which fits it",
    Need.TRUTH: "the clean images: use it in studies, not to restore",
}


@dataclass(frozen=True)
class Evidence:
    """What is known of images before their start is chosen.

    Attributes:
        estimate: z_hat and var_hat.
        measurement: what was measured.
        seed: keys the probes.
        forward, encode: for Need.OPERATOR; see `Forward` and `Encode`.
        fusion: for Need.FUSION.
        recalibration: for Need.RECALIBRATION.
        truth: for Need.TRUTH: the clean latents.
    """

    estimate: SeverityEstimate
    measurement: Measurement
    seed: int = 0
    forward: Forward | None = None
    encode: Encode | None = None
    fusion: Fusion | None = None
    recalibration: Recalibration | None = None
    truth: Latents | None = None

    def only(self, needs: Need) -> Self:
        """Without what is not among `needs`, so that nothing can depend on it unseen."""
        fields = {
            Need.OPERATOR: ("forward", "encode"),
            Need.FUSION: ("fusion",),
            Need.RECALIBRATION: ("recalibration",),
            Need.TRUTH: ("truth",),
        }
        unneeded: dict[str, Any] = {name: None for need, names in fields.items() if need not in needs for name in names}
        return replace(self, **unneeded)


def required(value: T | None, asker: str, need: Need) -> T:
    """A part of the evidence that `asker` has declared to need.

    Raises:
        UserError: where it is missing, with what to do about it.
    """
    if value is None:
        raise UserError(f"{asker} needs {REMEDIES[need]}")
    return value


@dataclass(frozen=True)
class Variance:
    """A source's answer.

    Attributes:
        value: the variance of z_hat's error, (batch,).
        distrusted: the residual contradicted the severity encoder, (batch,) bool; None where the source does not ask.
    """

    value: Scalars
    distrusted: Tensor | None = None


class VarianceSource(Member):
    """Says how large the error of z_hat is, per image."""

    reads: ClassVar[Need] = Need.NOTHING
    scales_var_hat: ClassVar[bool] = False
    """Whether the answer is var_hat times a factor of at least 1: only such a source can be recalibrated."""

    @property
    def needs(self) -> Need:
        """What of the evidence it looks at."""
        return self.reads

    @property
    def label(self) -> str:
        """In tables: in one study that is what rules differ in."""
        return self.kind

    @property
    def asker(self) -> str:
        """In messages: the setting that the user has chosen it by."""
        return f"start.variance={self.kind}"

    @abstractmethod
    def __call__(self, evidence: Evidence) -> Variance:
        """The variance of z_hat's error in each image.

        Raises:
            UserError: where evidence that it needs is missing.
        """

    def canonical(self) -> Any:
        """The kind alone where that says all, as results had it before a source could have settings."""
        fields = super().canonical()
        return self.kind if fields.keys() == {"kind"} else fields


def own_variance(estimate: SeverityEstimate) -> Scalars:
    """The severity encoder's var_hat, one number per image.

    Raises:
        UserError: for a var_hat that is not one number per image, or not positive and finite.
    """
    return positive(estimate.per_image())


def positive(var: Scalars) -> Scalars:
    """A var_hat that has a logarithm.

    Raises:
        UserError: for one that is not positive and finite.
    """
    bad = int((~(var.isfinite() & (var > 0))).sum())
    if bad:
        raise UserError(
            f"var_hat must be positive and finite to start from, and that of {bad} of {len(var)} images is not: "
            "train the severity encoder longer, or restore without one (--encoder none)"
        )
    return var
