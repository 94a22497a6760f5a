"""The free spoken digit dataset: 3,000 recordings of ten digits by six speakers, 8 kHz, CC BY-SA 4.0."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.config import UserError
from workbench.core.digests import require
from workbench.core.places import CHECKOUT, data_root
from workbench.core.sound import SAMPLES
from workbench.data.arrays import read_archive
from workbench.data.reading import list_pictures
from workbench.data.sound_source import SoundSource, at_peak, images_of
from workbench.data.wav import WAV, read_wav

REPOSITORY = "https://github.com/Jakobovski/free-spoken-digit-dataset"
ARCHIVE = "spoken_digits_8khz.npz"
SAMPLE = CHECKOUT / "data" / "samples" / "spoken_digits.npz"
NUM_TEST = 5
"""Recordings of each speaker and digit with a lower number are the test split, as the data set's authors say; those
with this number are the validation split."""
DELAY = 1024
"""Training recordings are also delayed by multiples of so many samples, as far as they fit."""
NAMED = re.compile(r"\d_[a-z]+_(\d+)\.wav")
FULL = 2**15


class SpokenDigits(SoundSource):
    """Spoken digits as images of 1.024 s, each scaled to a peak of 0.5; longer recordings are cut there.

    By default the first 17 recordings of each speaker and digit, which ship: those that the weights which ship were
    trained on. All 3,000 are in `spoken_digits/recordings` of the data folder, `0_george_0.wav` ..., or in
    `spoken_digits_8khz.npz`: the arrays `audio` (N, 8192) int16 and `name`, the files' names.
    """

    kind: Literal["spoken_digits"] = "spoken_digits"
    all: bool = Field(False, description="use all 3,000 recordings instead of 1,020")

    @property
    def _folder(self) -> Path:
        return data_root() / "spoken_digits" / "recordings"

    @property
    def _archive(self) -> Path:
        return data_root() / ARCHIVE

    def is_present(self) -> bool:
        if not self.all:
            return SAMPLE.is_file()
        return self._folder.is_dir() or self._archive.is_file()

    def fetch(self) -> Path:
        if not self.all:
            require(SAMPLE)
            return SAMPLE
        if not self.is_present():
            raise UserError(f"the spoken digits are not in {data_root()}: git clone {REPOSITORY} {self._folder.parent}")
        return self._folder if self._folder.is_dir() else self._archive

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        numbers, waveforms = self._recordings()
        train = [later for waveform in waveforms[numbers > NUM_TEST] for later in _delayed(waveform)]
        return images_of(np.stack(train)), images_of(waveforms[numbers < NUM_TEST])

    def load_val(self) -> np.ndarray:
        numbers, waveforms = self._recordings()
        return images_of(waveforms[numbers == NUM_TEST])

    def _recordings(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of each recording, and the waveforms, (N, 8192)."""
        found = self.fetch()
        names, waveforms = _of_folder(found) if found.is_dir() else _of_archive(found)
        numbers = np.array([_number(name) for name in names])
        if not all(part.any() for part in (numbers < NUM_TEST, numbers == NUM_TEST, numbers > NUM_TEST)):
            raise UserError(f"{found} lacks recordings of one split: git clone {REPOSITORY} again")
        return numbers, np.stack([at_peak(waveform) for waveform in waveforms])


def _delayed(waveform: np.ndarray) -> Iterable[np.ndarray]:
    """The waveform, and later ones with as much silence before it as it has after it."""
    silence = SAMPLES - 1 - int(np.flatnonzero(waveform).max(initial=0))
    return (np.roll(waveform, delay) for delay in range(0, silence + 1, DELAY))


def _of_folder(folder: Path) -> tuple[list[str], Iterable[np.ndarray]]:
    """(names, waveforms of 8192 samples) of the folder's recordings."""
    files = [file for file in list_pictures(folder, (WAV,)).files if NAMED.fullmatch(file.name)]
    if not files:
        raise UserError(f"{folder} has no recordings such as 0_george_0.wav: git clone {REPOSITORY} again")
    samples = (read_wav(file).resampled()[:SAMPLES] for file in files)
    return [file.name for file in files], [np.pad(each, (0, SAMPLES - len(each))) for each in samples]


def _of_archive(path: Path) -> tuple[list[str], Iterable[np.ndarray]]:
    """(names, waveforms of 8192 samples) of the archive's arrays."""
    arrays = read_archive(path)
    audio, name = arrays.get("audio"), arrays.get("name")
    if audio is None or name is None or audio.dtype != np.int16 or audio.shape != (len(name), SAMPLES) or not len(name):
        raise UserError(f"{path} has not the arrays audio (N, {SAMPLES}) int16 and name (N,): remove it")
    names = [str(each) for each in name]
    if not all(map(NAMED.fullmatch, names)):
        raise UserError(f"{path} has names that are not those of recordings, such as 0_george_0.wav: remove it")
    return names, audio / FULL


def _number(name: str) -> int:
    found = NAMED.fullmatch(name)
    assert found is not None
    return int(found[1])
