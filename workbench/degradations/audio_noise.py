"""White noise in sound."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field

from workbench.core.tensors import Blocks, Ids, Scalars, Severities
from workbench.degradations.base import Params
from workbench.degradations.sound import NOISE_STD, Sound

LOUDEST = 0.2
"""Standard deviation of the noise at severity 1, in waveforms on [-1, 1]."""


class AudioNoise(Sound):
    """White Gaussian noise in the waveform, from a standard deviation of `noise_std` (severity 0) to 0.2 (severity 1).

    The level grows by the same number of decibels for every step of severity. Speech with a peak of 0.5 has a standard
    deviation of about 0.1 while somebody speaks.
    """

    kind: Literal["audio_noise"] = "audio_noise"
    noise_std: float = Field(
        NOISE_STD,
        gt=0,
        lt=LOUDEST,
        description="std of the noise at severity 0, in waveforms on [-1, 1]",
    )

    identity_db: ClassVar[float] = 60.0
    severity_range: ClassVar[str] = "std of the noise in waveforms on [-1, 1] noise_std -> 0.2, geometric"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """Empty: the operator is the identity."""
        return {}

    def hear(self, waveform: Blocks, params: Params) -> Blocks:
        """The waveform itself."""
        return waveform

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """The noise level, which grows geometrically with the severity."""
        return self.noise_std * (LOUDEST / self.noise_std) ** severity

    def severity_at(self, noise_std: float) -> float:
        """The severity with noise of this standard deviation; outside [0, 1] if none has."""
        return math.log(max(noise_std, 1e-30) / self.noise_std) / math.log(LOUDEST / self.noise_std)

    def describe(self, severity: float) -> str:
        """The standard deviation of the noise."""
        return f"noise std {float(self.noise_level(torch.tensor([severity]))):.4f} in the waveform"
