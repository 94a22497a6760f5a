"""Clipped sound: a recording that was too loud."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from workbench.core.measurement import Measurement
from workbench.core.sound import to_waveform
from workbench.core.tensors import Blocks, Ids, Images, Severities
from workbench.degradations.base import Params
from workbench.degradations.given import Given
from workbench.degradations.sound import Sound, peak, per_image

LOWEST = 0.05
"""The level at severity 1, as a fraction of the waveform's own peak."""


class AudioClipping(Sound):
    """Samples beyond a level are cut off there: y = clip(w, -level, level), from the waveform's own peak to 5 % of it.

    Restoring it is declipping. Where y is at the level, the waveform is only known to be at least the level: A clips
    there too, so a louder estimate has no residual and no gradient, and a softer one is pulled up. The level falls by
    the same number of decibels for every step of severity. It belongs to the measurement: for a user's recording it is
    the recording's own peak, whatever its severity is said to be.
    """

    kind: Literal["audio_clipping"] = "audio_clipping"

    derived: ClassVar[tuple[str, ...]] = ("level",)
    identity_db: ClassVar[float] = 60.0
    severity_range: ClassVar[str] = "level of clipping 100 -> 5 % of the waveform's peak, geometric"

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`fraction` (batch, 1, 1, 1) of the peak; `measure` adds the `level`."""
        return {"fraction": per_image(LOWEST**severity)}

    def hear(self, waveform: Blocks, params: Params) -> Blocks:
        """The clipped waveform; without a known level, at the fraction of its own peak."""
        level = self._level(waveform, params)
        return torch.minimum(torch.maximum(waveform, -level), level)

    def measure(self, x: Images, severity: Severities, ids: Ids, seed: int) -> Measurement:
        measurement = super().measure(x, severity, ids, seed)
        with torch.no_grad():
            return measurement.with_params(level=self._level(to_waveform(x), measurement.params))

    def given_measurement(
        self, y: Tensor, severity: Severities, ids: Ids, params: Params
    ) -> tuple[Measurement, list[str]]:
        """A recording whose level is its peak."""
        measurement, lines = super().given_measurement(y, severity, ids, params)
        level = params["level"] if "level" in params else peak(measurement.y)
        return measurement.with_params(level=level), lines

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """A fraction up to 1."""
        own = {name: value for name, value in params.items() if name not in self.derived}
        given = Given(self.kind, own, ("fraction",), image_shape)
        return given.taken({"fraction": given.numbers("fraction", 1, 1, 1, low=1e-4, high=1, meaning="of the peak")})

    def severity_of(self, params: Params) -> Severities:
        """By the fraction."""
        return (params["fraction"].flatten().log() / math.log(LOWEST)).clamp(0, 1)

    def describe(self, severity: float) -> str:
        """The level."""
        return f"clipped at {100 * LOWEST**severity:.0f} % of the peak"

    def _level(self, waveform: Blocks, params: Params) -> Tensor:
        if "level" in params:
            return params["level"].to(waveform)
        return params["fraction"].to(waveform) * peak(waveform)
