"""WAV files: reading any rate and format as one channel at 8 kHz, and writing the same file with other samples."""

import math
import warnings
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.core.config import UserError
from workbench.core.foreign import readable
from workbench.core.sound import SAMPLE_RATE

WAV = ".wav"
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Samples per second that a file may state."""
LOUDEST = 10.0
"""Largest absolute value of float samples, which should be on [-1, 1]."""
SAVE = "save it as a WAV file of PCM or float samples"
UNSIGNED_8 = 128
BYTES_24, FULL_24 = 3, 2**23


@dataclass(frozen=True)
class Recording:
    """The sound in a WAV file.

    Attributes:
        samples: (samples,) float64 on [-1, 1], at the file's rate; the mean of its channels.
        rate: samples per second.
        channels: of the file.
        bits: of a stored sample: 8, 16, 24 or 32 of integers; 0: floats.
        dtype: of the samples as scipy reads them.
    """

    samples: np.ndarray
    rate: int
    channels: int
    bits: int
    dtype: np.dtype

    def resampled(self) -> np.ndarray:
        """(samples,) at 8 kHz, by a polyphase filter that removes what is above 4 kHz."""
        return _resampled(self.samples, self.rate, SAMPLE_RATE)

    def notes(self) -> tuple[str, ...]:
        """What is converted when the file is read."""
        found = []
        if self.channels > 1:
            found.append(f"{self.channels} channels averaged")
        if self.rate > SAMPLE_RATE:
            found.append(f"resampled from {self.rate} Hz to {SAMPLE_RATE} Hz: what is above 4 kHz is lost")
        elif self.rate < SAMPLE_RATE:
            found.append(f"resampled from {self.rate} Hz to {SAMPLE_RATE} Hz")
        return tuple(found)

    def write(self, samples: np.ndarray, path: Path) -> None:
        """Write a file of the same rate, length and sample format, with one channel.

        Args:
            samples: (samples,) at 8 kHz; what integers cannot hold is clipped.
        """
        from scipy.io import wavfile

        at_rate = _resampled(samples, SAMPLE_RATE, self.rate)[: len(self.samples)]
        at_rate = np.pad(at_rate, (0, len(self.samples) - len(at_rate)))
        if not self.bits:
            wavfile.write(path, self.rate, at_rate.astype(self.dtype))
            return
        full = 2 ** (self.bits - 1)
        whole = (at_rate * full).round().clip(-full, full - 1).astype(np.int64)
        if self.bits == 24:
            with wave.open(str(path), "wb") as file:
                file.setparams((1, BYTES_24, self.rate, 0, "NONE", ""))
                file.writeframes(whole.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :BYTES_24].tobytes())
            return
        wavfile.write(path, self.rate, (whole + (UNSIGNED_8 if self.bits == 8 else 0)).astype(self.dtype))


def read_wav(file: Path) -> Recording:
    """Read a WAV file of 8, 16, 24 or 32-bit integers or of floats.

    Raises:
        UserError: if it is no such file, is empty or damaged, states no rate, or its values are no waveform's.
    """
    from scipy.io import wavfile

    with readable(file, "the sound", NameError, remedy=SAVE), warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks of other programs, such as tags
        rate, stored = wavfile.read(file)
    stored = np.asarray(stored)
    if not stored.size:
        raise UserError(f"{file} has no samples: remove it")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UserError(
            f"{file} states a rate of {rate} samples per second, expected {LOWEST_RATE:,} to {HIGHEST_RATE:,}: {SAVE}"
        )
    stored = stored if stored.ndim == 2 else stored[:, None]
    bits = 0
    match stored.dtype.kind:
        case "f":
            values = stored.astype(np.float64)
        case "u":
            bits = 8
            values = (stored.astype(np.float64) - UNSIGNED_8) / UNSIGNED_8
        case _:
            bits = 8 * stored.dtype.itemsize
            values = stored / 2.0 ** (bits - 1)
            if bits == 32 and not (stored & 0xFF).any():
                bits = 24  # scipy shifts them
    if not np.isfinite(values).all():
        raise UserError(f"{file} has samples that are not finite: {SAVE}")
    if (loudest := float(np.abs(values).max())) > LOUDEST:
        raise UserError(f"{file} has float samples up to {loudest:.3g}, expected a waveform on [-1, 1]: scale it")
    return Recording(values.mean(1), int(rate), stored.shape[1], bits, stored.dtype)


def _resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    return np.asarray(resample_poly(samples, wanted // common, rate // common))
