"""SNR matching on the true error variance, for studies: the loss from not knowing it."""

from dataclasses import replace
from typing import Literal

import torch

from workbench.core import randomness
from workbench.core.tensors import Latents
from workbench.diffusion import Chain
from workbench.severity.estimate import error_variance
from workbench.severity.start.base import Start
from workbench.severity.start.matched import Matched
from workbench.severity.variance import Evidence, Need, Oracle, VarianceSource
from workbench.severity.variance.base import required


class OracleVariance(Matched):
    """`snr_match` with the true error variance s2: a perfectly calibrated encoder, but not the best start.

    The error has more structure than its variance, so other starts can be better.
    """

    kind: Literal["oracle_variance"] = "oracle_variance"

    @property
    def source(self) -> VarianceSource:
        return Oracle()


class OracleGaussian(Matched):
    """`oracle_variance` with an idealized error: z_hat is replaced by z0 plus white Gaussian noise of variance s2.

    It starts at the same level as `oracle_variance`. The gain in quality estimates the cost of the real error's being
    neither Gaussian nor white. It likely overestimates it: this noise is independent of y, so that the latent also has
    information on z0 that no estimate from the measurement can have. It is not a bound: prior and solver are not ideal,
    and a restoration from the real error can be better.
    """

    kind: Literal["oracle_gaussian"] = "oracle_gaussian"

    @property
    def source(self) -> VarianceSource:
        return Oracle()

    @property
    def label(self) -> str:
        """The source of the matched variance, and the kind of error."""
        return f"{super().label}, Gaussian error"

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        z0 = required(evidence.truth, self.source.asker, Need.TRUTH)
        variance = self.source(evidence).value
        error = randomness.normal(evidence.measurement.ids, (evidence.seed, "gaussian error"), tuple(z0.shape[1:]))
        error = error.to(z0)
        # exactly the variance of each image, so that the starts are the same
        error = error - error.mean((1, 2, 3), keepdim=True)
        scale = (variance / error_variance(error, torch.zeros_like(error))).sqrt()
        z_hat = z0 + scale.reshape(-1, 1, 1, 1) * error
        return super().__call__(replace(evidence, estimate=replace(evidence.estimate, z_hat=z_hat)), chain, noise)
