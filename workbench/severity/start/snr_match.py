"""SNR matching on an available variance: the paper's rule and extensions."""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from workbench.core.bounds import Probability
from workbench.core.config import ADDED_LATER, UserError, plain
from workbench.severity.calibration import AnyRecalibration, Unchanged
from workbench.severity.start.matched import Matched
from workbench.severity.variance import AnyVariance, AtRisk, Encoder, Evidence, Need, Recalibrated, VarianceSource
from workbench.severity.variance.base import required

MissingNoise = Literal["white", "channel"]


class SNRMatch(Matched):
    """Match the SNR of z_hat according to `variance`, with the severity encoder's optionally recalibrated and bounded.

    A negative `offset_db` starts later than `risk` allows.
    """

    kind: Literal["snr_match"] = "snr_match"
    variance: AnyVariance = Field(
        Encoder(),
        description="the variance to match: the severity encoder's; that which explains the residual of the "
        "measurement; the larger of the two (max); the encoder's unless the residual contradicts it (fused); the "
        "encoder's, raised with its features' distance from in-distribution ones (mahalanobis); predicted from the "
        "encoder's, the residual's and the level of the operator, by a fit to this operator (non_blind); the true one "
        "(oracle)",
    )
    recalibration: AnyRecalibration = Field(
        Unchanged(),
        description="recalibration of the encoder's variance, fitted on validation images of its own degradation",
        json_schema_extra=ADDED_LATER,
    )
    risk: Probability | None = Field(
        None,
        description="match a bound that the true variance exceeds with at most this probability (split conformal)",
        json_schema_extra=ADDED_LATER,
    )
    noise: MissingNoise = Field(
        "white",
        description="the noise that z_hat lacks is the same in all latent channels (white), or each channel gets what "
        "its own error lacks (channel), with shares fitted on validation images",
        json_schema_extra=ADDED_LATER,
    )

    @model_validator(mode="after")
    def _composes(self) -> "SNRMatch":
        _ = self.source  # rejects sources that cannot be recalibrated
        return self

    @property
    def source(self) -> VarianceSource:
        if self.risk is not None:
            return AtRisk(of=self.variance, method=self.recalibration, risk=self.risk)
        if self.recalibration != Unchanged():
            return Recalibrated(of=self.variance, method=self.recalibration)
        return self.variance

    @property
    def needs(self) -> Need:
        return super().needs | (Need.RECALIBRATION if self.noise == "channel" else Need.NOTHING)

    def channel_profile(self, evidence: Evidence) -> Tensor:
        if self.noise == "white":
            return super().channel_profile(evidence)
        fit = required(evidence.recalibration, "start.noise=channel", Need.RECALIBRATION)
        profile = torch.tensor(fit.channel_profile, dtype=torch.float64)
        if len(profile) != evidence.estimate.z_hat.shape[1]:
            raise UserError(f"start.noise=channel was fitted to {len(profile)} channels of another autoencoder")
        return profile


def asked_of_encoder(start: Any) -> str | None:
    """The field of a start rule that needs a fit to the severity encoder, such as "risk=0.1"; None if none does.

    Args:
        start: a rule, or its fields before validation.
    """
    fields = plain(start)
    if not isinstance(fields, dict) or fields.get("kind") != "snr_match":
        return None
    if fields.get("noise") == "channel":
        return "noise=channel"
    if fields.get("risk") is not None:
        return f"risk={fields['risk']}"
    recalibration = fields.get("recalibration")
    kind = recalibration.get("kind", "none") if isinstance(recalibration, dict) else "none"
    return None if kind == "none" else f"recalibration={kind}"
