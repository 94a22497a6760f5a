"""Noise clipped at 0 and 1 in 8-bit files: the clipped values are estimated, as in any censored measurement.

y = clip(A(x) + n, 0, 1) has a biased mean near 0 and 1, and less noise than stated. If n is large, this costs a
restoration up to 4 dB. Neighbouring values of A(x) are similar, so their common mean m gives the expectation of a
clipped value: m - sigma phi(m / sigma) / Phi(-m / sigma) at 0, and likewise at 1 (Tobin, Econometrica 26, 1958). Means
and values are computed alternately, which is the EM algorithm for a locally constant Tobit model.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from workbench.core.measurement import Measurement
from workbench.core.tensors import Measurements
from workbench.degradations import Degradation

MIN_NOISE = 0.1
"""Clipping of noise below this level had no measurable cost."""
MIN_SHARE = 0.05
"""Minimum fraction of an image's observed pixels at exactly 0 or 1; fewer may really be black or white."""
NUM_ROUNDS = 20
RADIUS, WIDTH = 3, 1.0  # of the window for local means, in pixels


def unclipped(degradation: Degradation, measurement: Measurement) -> tuple[Measurement, int]:
    """The measurement with expected values beyond 0 and 1 where noise was clipped, and the number of such images."""
    y = measurement.y
    seen = torch.ones_like(y) if measurement.observed is None else measurement.observed.expand_as(y)
    at_end = ((y == 0) | (y == 1)) & seen.bool()
    share = at_end.flatten(1).sum(1) / measurement.num_observed()
    inside = ((y >= 0) & (y <= 1)).flatten(1).all(1)
    chosen = inside & (share >= MIN_SHARE) & (measurement.noise_std >= MIN_NOISE)
    if not bool(chosen.any()):
        return measurement, 0
    expected = beyond(y[chosen], measurement.noise_std[chosen], seen[chosen])
    return degradation.with_values(measurement, y.index_put((chosen,), expected)), int(chosen.sum())


def beyond(y: Measurements, noise_std: Tensor, seen: Tensor) -> Measurements:
    """y with the expectation of clipped values in place of 0 and 1, on the observed entries."""
    sigma = noise_std.reshape(-1, 1, 1, 1)
    low, high = (y <= 0) & seen.bool(), (y >= 1) & seen.bool()
    values = y
    for _ in range(NUM_ROUNDS):
        mean = _local_mean(values, seen).clamp(0, 1)  # of A(x), which is within [0, 1]
        values = torch.where(low, mean - sigma * _hazard(mean / sigma), y)
        values = torch.where(high, mean + sigma * _hazard((1 - mean) / sigma), values)
    return values


def _local_mean(values: Tensor, seen: Tensor) -> Tensor:
    offset = torch.arange(-RADIUS, RADIUS + 1, dtype=values.dtype)
    weights = torch.exp(-offset.square() / (2 * WIDTH**2))
    kernel = (weights[:, None] * weights).expand(values.shape[1], 1, -1, -1)

    def total(image: Tensor) -> Tensor:
        return F.conv2d(image, kernel, padding=RADIUS, groups=values.shape[1])

    return total(values * seen) / total(seen.to(values)).clamp(min=1e-9)


def _hazard(t: Tensor) -> Tensor:
    """phi(t) / Phi(-t), the mean of a standard normal variable conditioned to be above t."""
    return torch.exp(-t.square() / 2 - torch.special.log_ndtr(-t)) / math.sqrt(2 * math.pi)
