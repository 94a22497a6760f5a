"""Trivial predictors of the latent's error, which a severity encoder has to beat. The known severity is the third.

A measurement that D(z_hat) explains badly, or with little variance, is probably severe; no network has to be trained to
predict that.
"""

import torch
from torch import Tensor

from workbench.core.measurement import Measurement
from workbench.core.tensors import Images, Scalars
from workbench.degradations import AnyDegradation

RESIDUAL, LOG_VARIANCE = "residual_rms_decoded", "log_var_y"
"""Names of their columns in the rows."""
LEAST_VARIANCE = 1e-12
"""Lower bound of the variance of y, because the logarithm of 0 is infinite."""


@torch.no_grad()
def trivial_predictors(measurement: Measurement, degradation: AnyDegradation, decoded: Images) -> dict[str, Tensor]:
    """One value per image by column: rms of y - A(D(z_hat)) and the log variance of y, over the observed entries.

    Args:
        decoded: D(z_hat), clipped to [0, 1] like a restoration.
    """
    return {
        RESIDUAL: residual_rms(measurement, degradation, decoded.clamp(0, 1)),
        LOG_VARIANCE: _variance(measurement).clamp(min=LEAST_VARIANCE).log(),
    }


def residual_rms(measurement: Measurement, degradation: AnyDegradation, x: Images) -> Scalars:
    """Root mean square of y - A(x) over the observed entries, per image."""
    return measurement.residual_rms(degradation.A(x, measurement.params))


def _variance(measurement: Measurement) -> Scalars:
    """Variance of y over its observed entries, per image; 0 if none was observed."""
    y = measurement.y.flatten(1)
    observed = torch.ones_like(y)
    if measurement.observed is not None:
        observed = measurement.observed.expand_as(measurement.y).flatten(1).to(y)
    count = observed.sum(1).clamp(min=1)
    mean = (y * observed).sum(1) / count
    return ((y - mean[:, None]).square() * observed).sum(1) / count
