"""What operators on sound have in common: they act on the waveform of an image, and measure a waveform."""

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.sound import BANDS, in_blocks, to_image, to_waveform
from workbench.core.tensors import Blocks, Images, Measurements
from workbench.degradations.base import Degradation, Params
from workbench.degradations.given import MAX_VALUE, check_values, refuse, zero_where_unobserved

NOISE_STD = 0.005


class Sound(Degradation):
    """An operator on the waveform of an image of sound (`workbench.core.sound`).

    y (batch, channel, frame, band) is a waveform on [-1, 1] in blocks of as many samples as the image has bands:
    `y.flatten(2)` is (batch, channel, samples). Each channel is a waveform of its own. The encoder reads the image of
    y. Because images are compressed, no such operator is linear in the image, even if it is in the waveform.
    """

    noise_std: float = Field(NOISE_STD, ge=0, le=1, description="standard deviation of noise in waveforms on [-1, 1]")

    measures_images: ClassVar[bool] = False
    measures_sound: ClassVar[bool] = True

    @abstractmethod
    def hear(self, waveform: Blocks, params: Params) -> Blocks:
        """The noiseless measurement of a waveform; differentiable."""

    def A(self, x: Images, params: Params) -> Measurements:
        """The measurement of the images' waveforms."""
        return self.hear(to_waveform(x), params)

    def view(self, y: Measurements, params: Params) -> Images:
        """The image of y."""
        return to_image(y)

    def image_shape(self, y: Tensor) -> tuple[int, int, int]:
        """Of waveforms (batch, samples) or (batch, channel, samples), or of blocks."""
        blocks = self._blocks(y)
        return blocks.shape[1], blocks.shape[3], blocks.shape[2]

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """Waveforms of a whole number of blocks, on [-1, 1]."""
        y = self._blocks(y)
        check_values(y, scale=False)
        peak = y.abs().flatten(1).amax(1)
        refuse(
            peak > MAX_VALUE,
            f"y has values up to {float(peak.max()):g} and must be a waveform on [-1, 1]: divide samples of 16 bits by "
            "32768",
        )
        if observed is None:
            return y, []
        return zero_where_unobserved(y, observed, self.unobserved, self.when_it_is_not_zero)

    def _blocks(self, y: Tensor) -> Blocks:
        if y.is_complex() or y.ndim not in (2, 3, 4) or (y.ndim < 4 and y.shape[-1] % BANDS) or not y[0].numel():
            raise UserError(
                f"y of {self.kind} has shape {tuple(y.shape)}, expected real waveforms: N x samples or N x channels x "
                f"samples, with a multiple of {BANDS} samples: pad them with zeros"
            )
        return y if y.ndim == 4 else in_blocks(y)


def per_image(values: Tensor) -> Tensor:
    """(batch,) as (batch, 1, 1, 1)."""
    return values[:, None, None, None]


def peak(waveform: Blocks) -> Tensor:
    """The largest absolute value of each image's waveform, (batch, 1, 1, 1)."""
    return torch.amax(waveform.abs(), (1, 2, 3), keepdim=True)
