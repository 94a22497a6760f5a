"""SNR matching on the true error variance, for studies: what is lost by not knowing it."""

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
    """`snr_match` with the true error variance s2: what an encoder that knew it would do, and no best start.

    The error is more than its variance, so that other starts can do better.
    """

    kind: Literal["oracle_variance"] = "oracle_variance"

    @property
    def source(self) -> VarianceSource:
        return Oracle()


class OracleGaussian(Matched):
    """`oracle_variance` from an error as the theory has it: z0 plus white Gaussian noise of variance s2, for z_hat.

    It starts where `oracle_variance` does. What restoration from it is better is likely more than what the real error
    costs by being neither Gaussian nor white: this noise owes nothing to the measurement, so that the latent also tells
    of z0 what no estimate from the measurement can. That is an argument and no bound: prior and solver are not ideal,
    and a restoration from the real error can come out better.
    """

    kind: Literal["oracle_gaussian"] = "oracle_gaussian"

    @property
    def source(self) -> VarianceSource:
        return Oracle()

    @property
    def label(self) -> str:
        """Whose variance is matched, and what the error is."""
        return f"{super().label}, Gaussian error"

    def __call__(self, evidence: Evidence, chain: Chain, noise: Latents) -> Start:
        z0 = required(evidence.truth, self.source.asker, Need.TRUTH)
        variance = self.source(evidence).value
        error = randomness.normal(evidence.measurement.ids, (evidence.seed, "gaussian error"), tuple(z0.shape[1:]))
        error = error.to(z0)
        # of each image to the letter, so that the starts are the same
        error = error - error.mean((1, 2, 3), keepdim=True)
        scale = (variance / error_variance(error, torch.zeros_like(error))).sqrt()
        z_hat = z0 + scale.reshape(-1, 1, 1, 1) * error
        return super().__call__(replace(evidence, estimate=replace(evidence.estimate, z_hat=z_hat)), chain, noise)
