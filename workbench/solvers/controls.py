"""Controls: the contributions of diffusion and of the measurement."""

from typing import ClassVar, Literal

import torch

from workbench.core.tensors import Latents
from workbench.solvers.base import Solver, Step


class NoGuidance(Solver):
    """Reverse diffusion from the start latent that ignores y."""

    kind: Literal["no_guidance"] = "no_guidance"

    guided: ClassVar[bool] = False

    @torch.no_grad()
    def step(self, step: Step) -> Latents:
        return step.reverse(*step.networks.predict(step.z, step.time))


class DecodeOnly(Solver):
    """No diffusion: D(z_hat)."""

    kind: Literal["decode_only"] = "decode_only"

    diffuses: ClassVar[bool] = False
    guided: ClassVar[bool] = False

    def step(self, step: Step) -> Latents:
        return step.z
