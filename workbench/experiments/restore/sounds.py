"""WAV files as measurements of operators on sound, and the same files with restored samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.sound import BANDS, FRAMES, PEAK, SAMPLE_RATE, SAMPLES, to_waveform
from workbench.data.reading import list_pictures
from workbench.data.wav import WAV, Recording, read_wav
from workbench.degradations import Degradation
from workbench.degradations.packet_loss import lost_packets
from workbench.experiments.restore.pictures import Input, Measured, printable, some

OVERLAP = SAMPLES // 8
"""Samples that neighbouring pieces of a recording share; there, one fades into the next."""
QUIET = PEAK / 10
"""A peak below which it is said that the model was trained on louder recordings."""
SPREAD = SAMPLE_RATE // 500
"""Samples on each side of a lost packet that a filter mixes with it, where the rate is changed: 2 ms."""


@dataclass(frozen=True)
class Sound:
    """A WAV file in pieces of 1.024 s, which overlap by 0.128 s.

    Attributes:
        recording: what is in the file.
        values: (pieces, 8192), its samples at 8 kHz, padded with zeros.
        number: samples at 8 kHz, without the padding.
    """

    recording: Recording
    values: np.ndarray
    number: int

    @classmethod
    def of(cls, recording: Recording) -> "Sound":
        """A recording, cut into pieces."""
        samples = recording.resampled()
        return cls(recording, pieces(samples), len(samples))

    def write(self, images: np.ndarray, path: Path) -> None:
        """Write the file with the waveforms of (pieces, 64, 128) images."""
        if images.shape[1:] != (BANDS, FRAMES):
            raise UserError(f"restored images are {images.shape[1:]}, those of sound {BANDS} x {FRAMES}")
        waveforms = to_waveform(torch.from_numpy(np.asarray(images, np.float32))[:, None]).flatten(1).double().numpy()
        self.recording.write(joined(waveforms, self.number), path)

    def arrived(self) -> np.ndarray:
        """(pieces, 8192): 0 where the file has exact zeros for 10 ms or longer, as lost packets leave them, else 1."""
        lost = lost_packets(torch.from_numpy(self.recording.samples)).numpy()
        at = (np.arange(self.number) * self.recording.rate) // SAMPLE_RATE
        flags = lost[at.clip(max=len(lost) - 1)]
        if self.recording.rate != SAMPLE_RATE:
            flags = np.convolve(flags, np.ones(2 * SPREAD + 1), "same") > 0
        return pieces(1.0 - flags, padding=1.0)


def reads_sound(path: Path) -> bool:
    """Whether the input is a WAV file, or a folder with some."""
    return bool(list_pictures(path, (WAV,)).files) if path.is_dir() else path.suffix.lower() == WAV


def read_sounds(path: Path, degradation: Degradation, *, finds_losses: bool) -> Input:
    """Read the measurements in a WAV file, or a folder of them; their level is kept.

    Args:
        degradation: the operator, which must be one on sound.
        finds_losses: whether runs of zeros are lost packets, which become the operator's mask.

    Raises:
        UserError: for files that cannot be read, or another operator.
    """
    if not degradation.measures_sound:
        raise UserError(
            f"--input {path} is sound, which {degradation.kind} does not act on: use --operator audio_noise, "
            "audio_clipping, bandwidth or packet_loss"
        )
    if not path.exists():
        raise UserError(f"--input {path} is neither a folder nor a file")
    files = list_pictures(path, (WAV,)).files if path.is_dir() else (path,)
    sounds = {file: Sound.of(read_wav(file)) for file in files}
    names, of, volumes = list[str](), list[Path](), dict[str, tuple[Path, Sound, int]]()
    params = dict[str, Mapping[str, Tensor]]()
    for file, sound in sounds.items():
        number = len(sound.values)
        own = [file.name] if number == 1 else [f"{file.name}:{i}" for i in range(number)]
        names, of = names + own, of + [file] * number
        volumes |= {name: (file, sound, i) for i, name in enumerate(own)}
        if finds_losses:
            masks = torch.from_numpy(sound.arrived().astype(np.float32)).reshape(-1, 1, FRAMES, BANDS)
            params |= {name: {"mask": mask} for name, mask in zip(own, masks, strict=True)}
    y = torch.from_numpy(np.concatenate([sound.values for sound in sounds.values()]).astype(np.float32))
    for name, mask in params.items():
        if not mask["mask"].any():
            raise UserError(f"--input {path}: nothing of {name} has arrived, its samples are all zero: leave it out")
    return Input(
        tuple(names),
        (True,) * len(names),
        tuple(of),
        tuple(_lines(path, sounds)),
        (Measured(tuple(names), y),),
        params,
        volumes,
    )


def pieces(samples: np.ndarray, padding: float = 0.0) -> np.ndarray:
    """(pieces, 8192) of a waveform: each begins where the last `OVERLAP` samples of the one before do."""
    step = SAMPLES - OVERLAP
    number = 1 + max(0, -(-(len(samples) - SAMPLES) // step))
    padded = np.pad(samples, (0, SAMPLES + (number - 1) * step - len(samples)), constant_values=padding)
    return np.stack([padded[i * step : i * step + SAMPLES] for i in range(number)])


def joined(waveforms: np.ndarray, number: int) -> np.ndarray:
    """(number,) samples of pieces, which fade into each other linearly; the inverse of `pieces`."""
    step = SAMPLES - OVERLAP
    fade = (np.arange(OVERLAP) + 0.5) / OVERLAP
    samples = np.zeros(SAMPLES + (len(waveforms) - 1) * step)
    for i, waveform in enumerate(waveforms):
        weight = np.ones(SAMPLES)
        if i > 0:
            weight[:OVERLAP] = fade
        if i < len(waveforms) - 1:
            weight[-OVERLAP:] = 1 - fade
        samples[i * step : i * step + SAMPLES] += weight * waveform
    return samples[:number]


def _lines(path: Path, sounds: Mapping[Path, Sound]) -> list[str]:
    number = f"{len(sounds)} WAV file{'' if len(sounds) == 1 else 's'}"
    seconds = sum(sound.number for sound in sounds.values()) / SAMPLE_RATE
    num_pieces = sum(len(sound.values) for sound in sounds.values())
    lines = [f"read {number} from {printable(str(path))}: {seconds:.1f} s in {num_pieces} images of 1 s"]
    for file, sound in sounds.items():
        lines += [f"{printable(file.name)}: {note}" for note in sound.recording.notes()]
    quiet = [file.name for file, sound in sounds.items() if np.abs(sound.values).max() < QUIET]
    if quiet:
        lines.append(
            f"{some(quiet)}: the peak is below {QUIET:g}, but models of sound are trained on peaks of {PEAK:g}: "
            "amplify the recording, and the noise level with it"
        )
    return lines
