"""Sound without its high frequencies."""

import math
from typing import ClassVar, Literal

import torch

from workbench.core.sound import SAMPLE_RATE
from workbench.core.tensors import Blocks, Ids, Severities
from workbench.degradations.base import Params
from workbench.degradations.given import Given
from workbench.degradations.sound import Sound, per_image

HIGHEST, LOWEST = SAMPLE_RATE / 2, 500.0
"""Cutoff in Hz at severity 0 and 1."""


class Bandwidth(Sound):
    """Frequencies above a cutoff are removed, from 4 kHz (nothing, severity 0) to 500 Hz (severity 1).

    Restoring it is bandwidth extension. The filter is ideal and circular, the same as keeping a lower sample rate of
    twice the cutoff and interpolating; y keeps the number of samples. The cutoff falls by the same factor for every
    step of severity. Noise is white in y, so what is above the cutoff there is noise alone.
    """

    kind: Literal["bandwidth"] = "bandwidth"

    identity_db: ClassVar[float] = 60.0
    severity_range: ClassVar[str] = "cutoff 4000 -> 500 Hz, geometric"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`cutoff` (batch, 1, 1, 1) in Hz."""
        return {"cutoff": per_image(HIGHEST * (LOWEST / HIGHEST) ** severity)}

    def hear(self, waveform: Blocks, params: Params) -> Blocks:
        """The low-pass filtered waveform."""
        samples = waveform.flatten(2)
        number = samples.shape[2]
        frequency = torch.fft.rfftfreq(number, 1 / SAMPLE_RATE, dtype=torch.float64, device=waveform.device)
        # rounding of the cutoff must not decide about the highest frequency
        passed = frequency <= params["cutoff"][:, 0].double() * (1 + 1e-6)
        filtered = torch.fft.irfft(torch.fft.rfft(samples) * passed.to(samples), number)
        return filtered.unflatten(2, waveform.shape[2:])

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A cutoff in Hz."""
        given = Given(self.kind, params, ("cutoff",), image_shape)
        return given.taken({"cutoff": given.numbers("cutoff", 1, 1, 1, low=50, high=HIGHEST, meaning="Hz")})

    def severity_of(self, params: Params) -> Severities:
        """By the cutoff."""
        return ((params["cutoff"].flatten() / HIGHEST).log() / math.log(LOWEST / HIGHEST)).clamp(0, 1)

    def describe(self, severity: float) -> str:
        """The cutoff."""
        return f"cutoff {HIGHEST * (LOWEST / HIGHEST) ** severity:.0f} Hz"
