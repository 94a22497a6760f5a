"""A folder of WAV files, such as torchaudio's SPEECHCOMMANDS."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from workbench.core.config import NOT_IDENTITY, UserError
from workbench.core.foreign import readable
from workbench.core.sound import SAMPLES
from workbench.data.base import GivenPath
from workbench.data.reading import list_pictures, say
from workbench.data.sound_source import SoundSource, at_peak, cut, images_of
from workbench.data.wav import WAV, read_wav

TESTING = "testing_list.txt"
"""The test files of SPEECHCOMMANDS (Warden, arXiv 1804.03209), in the folder of the words."""
VERSIONS = "speech_commands_v*"
BACKGROUND = "_background_noise_"
FEWEST = SAMPLES // 8
"""Samples of the last piece of a longer recording, below which it is left out."""


class WavFolder(SoundSource):
    """WAV files of any rate, in a folder and its subfolders, as images of 1.024 s at 8 kHz.

    Channels are averaged, and each file is scaled to a peak of 0.5. Shorter files are padded with zeros at their end,
    and longer ones cut into pieces; a last piece of less than 0.128 s and silence are left out. In the folder of
    SPEECHCOMMANDS (one folder per word), the files in testing_list.txt are the test split, and background noise is left
    out. All images are in memory: 32 KiB each.
    """

    kind: Literal["wav_folder"] = "wav_folder"
    path: GivenPath = Field(description="the folder of WAV files", json_schema_extra=NOT_IDENTITY)

    def is_present(self) -> bool:
        return self.path.is_dir()

    def fetch(self) -> Path:
        if not self.is_present():
            raise UserError(f"{self.path} is not a folder: set data.path to a folder of WAV files")
        return self.path

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        folder = _words(self.fetch())
        listing = list_pictures(folder, (WAV,), recursive=True)
        is_test = _test_files(folder)
        # in one of its subfolders, not above it
        files = [file for file in listing.files if BACKGROUND not in file.relative_to(folder).parts]
        if not files:
            raise UserError(f"{folder} has no WAV files: set data.path to a folder of them")
        notes: Counter[str] = Counter()
        train = _images([file for file in files if file not in is_test], notes)
        test = _images([file for file in files if file in is_test], notes) if is_test else None
        left_out = len(listing.left_out) + listing.num_hidden + len(listing.files) - len(files)
        number = len(train) + (0 if test is None else len(test))
        told = "".join(f"; {count}: {note}" for note, count in notes.most_common())
        official = "" if test is None else f"; SPEECHCOMMANDS: test {len(test):,} ({TESTING})"
        say(
            f"read {number:,} images of sound from {len(files):,} WAV files in {folder}, left out {left_out}"
            f"{told}{official}"
        )
        return train, test


def _words(folder: Path) -> Path:
    """The folder of the words, where torchaudio has put it: SpeechCommands/speech_commands_v0.02."""
    for root in (folder, folder / "SpeechCommands"):
        found = sorted(path for path in root.glob(VERSIONS) if path.is_dir())
        if found:
            return found[-1]
    return folder


def _test_files(folder: Path) -> set[Path]:
    """The files that SPEECHCOMMANDS holds out; none in another folder."""
    path = folder / TESTING
    if not path.is_file():
        return set()
    with readable(path, "the list of test files"):
        found = {folder / line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}
    if not any(file.is_file() for file in found):
        raise UserError(f"{path} lists no file of {folder}: remove it, or unpack the folder again")
    return found


def _images(files: Sequence[Path], notes: Counter[str]) -> np.ndarray:
    """(N, 64, 128, 1) images of the files."""
    pieces = []
    for file in files:
        recording = read_wav(file)
        notes.update(recording.notes())
        waveform = at_peak(recording.resampled())
        rest = len(waveform) % SAMPLES
        if len(waveform) > SAMPLES and 0 < rest < FEWEST:
            waveform = waveform[:-rest]
        found = cut(waveform).astype(np.float32)
        sounding = found[found.any(1)]
        notes["silence left out"] += len(found) - len(sounding)
        pieces.append(sounding)
    notes += Counter()  # without zeros
    return images_of(np.concatenate(pieces) if pieces else np.empty((0, SAMPLES), np.float32))
