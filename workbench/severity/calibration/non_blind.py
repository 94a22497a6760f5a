"""What is known of the operator says how wrong z_hat is.

A severity encoder is blind: it cannot tell a blurred photograph from a smooth one. A restoration knows more: the
operator, its level s if there is one, and the variance r of a latent error that would explain the residual of D(z_hat)
(see `variance.residual`). r alone is off by a factor where the autoencoder hides its error from the image or A hides
it from y; but the factor varies little between images of one operator. A regression for each operator weighs them:

    log v = b + w_1 log var_hat + w_2 log r + w_3 s + w_4 s^2

The weights are least squares on validation images; b makes the mean of s2 / v 1 on them, because a fit in log s2 is
biased (see `recalibration`). Without s, the last two terms are left out and the others are fitted again.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor

from workbench.core.bounds import MAX_SIZE, Logarithm
from workbench.core.config import Config, UserError
from workbench.core.tensors import Scalars, Severities
from workbench.severity.estimate import MAX_VARIANCE, MIN_VARIANCE

USUAL, FACTOR = 0.99, 2.0
"""The residual contradicts the encoder if r / var_hat exceeds this quantile of validation images by this factor."""
MIN_IMAGES = 20
"""Minimum number of images for a fit."""


class LogLinear(Config):
    """log v as a linear function of its predictors."""

    intercept: Logarithm
    weights: tuple[Logarithm, ...] = Field(min_length=1, max_length=8)

    def __call__(self, predictors: Tensor) -> Scalars:
        """v of each image, (batch, k) -> (batch,) in float64, within the range of variances."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        variance = (predictors @ weights + self.intercept).exp()
        return variance.clamp(MIN_VARIANCE, MAX_VARIANCE)

    @classmethod
    def fit(cls, predictors: Tensor, s2: Scalars) -> Self:
        """Least squares in log s2, and the intercept that makes the mean of s2 / v 1."""
        centred = predictors - predictors.mean(0)
        log_s2 = s2.double().log()
        weights = torch.linalg.lstsq(centred, (log_s2 - log_s2.mean())[:, None], driver="gelsd").solution[:, 0]
        intercept = (log_s2 - predictors @ weights).exp().mean().log()
        return cls(intercept=float(intercept), weights=tuple(weights.tolist()))


class OfOperator(Config):
    """The regressions of one operator.

    Attributes:
        operator: its canonical JSON: other settings of the same kind have regressions of their own.
        informed, uninformed: with its level, and without.
        usual: the quantile `USUAL` of log(r / var_hat).
    """

    operator: dict[str, Any]
    usual: Logarithm
    informed: LogLinear
    uninformed: LogLinear

    @classmethod
    def fit(cls, operator: dict[str, Any], own: Scalars, residual: Scalars, severity: Severities, s2: Scalars) -> Self:
        """Fit to validation images.

        Args:
            own, residual: the encoder's variance, and that which explains the residual.

        Raises:
            UserError: for too few images, or variances without a logarithm.
        """
        if len(s2) < MIN_IMAGES:
            raise UserError(f"start.variance=non_blind needs at least {MIN_IMAGES} validation images, got {len(s2)}")
        if not all(bool((v.isfinite() & (v > 0)).all()) for v in (own, residual, s2)):
            raise UserError("start.variance=non_blind needs positive, finite variances: train the encoder longer")
        return cls(
            operator=operator,
            usual=float((residual / own).double().log().quantile(USUAL)),
            informed=LogLinear.fit(_predictors(own, residual, severity), s2),
            uninformed=LogLinear.fit(_predictors(own, residual, None), s2),
        )

    def variance(self, own: Scalars, residual: Scalars, severity: Severities | None) -> Scalars:
        """v of each image."""
        regression = self.uninformed if severity is None else self.informed
        return regression(_predictors(own, residual, severity)).to(own)

    def distrusted(self, own: Scalars, residual: Scalars) -> Tensor:
        """Where the residual contradicts the encoder, (batch,) bool: the regression still weighs both."""
        return (residual / own).double().log() > self.usual + math.log(FACTOR)


class NonBlindFit(Config):
    """The regressions of a severity encoder, by the number of the operator in a mixture, or of the only one."""

    operators: tuple[OfOperator, ...] = Field(min_length=1, max_length=MAX_SIZE)

    def of(self, operators: Sequence[dict[str, Any]]) -> "NonBlindFit | None":
        """The regressions of these operators, in their order; None unless there is one for each."""
        found = [one for operator in operators for one in self.operators if one.operator == operator]
        return NonBlindFit(operators=tuple(found)) if len(found) == len(operators) else None

    def variance(
        self, own: Scalars, residual: Scalars, severity: Severities | None, operator: Tensor | None
    ) -> tuple[Scalars, Tensor]:
        """(v, distrusted) of each image.

        Args:
            operator: the number of each image's operator, (batch,) int64; None: the first for all.
        """
        number = (torch.zeros(len(own), dtype=torch.int64) if operator is None else operator).to(own.device)
        variance = torch.stack([one.variance(own, residual, severity) for one in self.operators])
        distrusted = torch.stack([one.distrusted(own, residual) for one in self.operators])
        return variance.gather(0, number[None])[0], distrusted.gather(0, number[None])[0]


def _predictors(own: Scalars, residual: Scalars, severity: Severities | None) -> Tensor:
    """(batch, 2) or (batch, 4), float64 on the CPU."""
    logs = [own.double().log().cpu(), residual.double().log().cpu()]
    if severity is None:
        return torch.stack(logs, 1)
    level = severity.double().cpu()
    return torch.stack([*logs, level, level.square()], 1)
