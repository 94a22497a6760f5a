"""WAV files and folders of them, as images of sound."""

import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from workbench.core.config import UserError
from workbench.core.sound import PEAK, SAMPLE_RATE, SAMPLES, to_waveform
from workbench.data import SpokenDigits, WavFolder
from workbench.data.fetch import fetch
from workbench.data.wav import read_wav


def tone(seconds: float, frequency: float = 440.0, rate: int = SAMPLE_RATE, level: float = 0.25) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def hiss(number: int) -> np.ndarray:
    return 0.05 * np.random.default_rng(number).standard_normal(number)


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, (samples * 2**15).astype(np.int16))
    return path


def waveforms(images: np.ndarray) -> np.ndarray:
    """(N, samples) of (N, 64, 128, 1) images."""
    import torch

    return to_waveform(torch.from_numpy(images).permute(0, 3, 1, 2)).flatten(1).numpy()


FORMATS = {
    "uint8": lambda x: (x * 128 + 128).round().astype(np.uint8),
    "int16": lambda x: (x * 2**15).round().astype(np.int16),
    "int32": lambda x: (x * 2**31).round().astype(np.int32),
    "float32": lambda x: x.astype(np.float32),
    "float64": lambda x: x,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_written_as_it_was(name: str, tmp_path: Path) -> None:
    stored = FORMATS[name](tone(0.1))
    wavfile.write(tmp_path / "a.wav", SAMPLE_RATE, stored)
    recording = read_wav(tmp_path / "a.wav")
    np.testing.assert_allclose(recording.samples, tone(0.1), atol=1 / 128 if name == "uint8" else 1e-4)
    recording.write(recording.resampled(), tmp_path / "b.wav")
    rate, same = wavfile.read(tmp_path / "b.wav")
    assert rate == SAMPLE_RATE
    assert same.dtype == stored.dtype
    assert np.array_equal(same, stored)


def test_24_bits_stay_24_bits(tmp_path: Path) -> None:
    whole = (tone(0.1) * 2**23).round().astype("<i4")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    recording = read_wav(tmp_path / "a.wav")
    recording.write(recording.resampled(), tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_other_rates_and_channels_are_converted_and_said(tmp_path: Path) -> None:
    stereo = np.stack([tone(0.5, rate=44100), np.zeros(22050)], 1).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", 44100, stereo)
    recording = read_wav(tmp_path / "a.wav")
    assert recording.notes() == (
        "2 channels averaged",
        "resampled from 44100 Hz to 8000 Hz: what is above 4 kHz is lost",
    )
    resampled = recording.resampled()
    assert len(resampled) == SAMPLE_RATE // 2
    inside = slice(200, -200)
    np.testing.assert_allclose(resampled[inside], tone(0.5, level=0.125)[inside], atol=2e-3)
    recording.write(resampled, tmp_path / "b.wav")
    rate, back = wavfile.read(tmp_path / "b.wav")
    assert (rate, back.shape, back.dtype) == (44100, (22050,), np.float32)
    assert len(wavfile.read(write(tmp_path / "c.wav", tone(0.1, rate=6000), 6000))[1]) == 600
    assert read_wav(tmp_path / "c.wav").notes() == ("resampled from 6000 Hz to 8000 Hz",)


def test_what_integers_cannot_hold_is_clipped(tmp_path: Path) -> None:
    recording = read_wav(write(tmp_path / "a.wav", tone(0.1)))
    recording.write(np.full(800, 1.5), tmp_path / "b.wav")
    assert (wavfile.read(tmp_path / "b.wav")[1] == 2**15 - 1).all()


def damaged(path: Path, change: bytes, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(change)] = change
    path.write_bytes(content)


WRONG = {
    "another kind": (lambda path: path.write_text("no sound"), "cannot read the sound"),
    "nothing": (lambda path: path.write_bytes(b""), "cannot read the sound"),
    "its beginning": (lambda path: path.write_bytes(path.read_bytes()[:30]), "cannot read the sound"),
    "no data": (lambda path: path.write_bytes(path.read_bytes()[:36]), "cannot read the sound|no samples"),
    "compressed": (lambda path: damaged(path, b"\x55\x00", 20), "cannot read the sound"),
    "no rate": (lambda path: damaged(path, bytes(8), 24), "states a rate of 0 samples per second"),
    "no samples": (lambda path: wavfile.write(path, 8000, np.zeros(0, np.int16)), "has no samples"),
    "not finite": (lambda path: wavfile.write(path, 8000, np.full(9, np.nan)), "not finite"),
    "another scale": (lambda path: wavfile.write(path, 8000, np.full(9, 32768.0)), r"up to 3\.28e\+04, expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_waveform_is_refused(case: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(0.1))
    change, message = WRONG[case]
    change(path)
    with pytest.raises(UserError, match=message) as refusal:
        read_wav(path)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_folder_becomes_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = hiss(4000), hiss(2 * SAMPLES + SAMPLES // 8 - 1)
    write(tmp_path / "a.wav", short)
    write(tmp_path / "inner" / "b.wav", long)
    write(tmp_path / "c.wav", np.zeros(100))
    (tmp_path / "notes.txt").touch()
    images, test = WavFolder(path=tmp_path).load_arrays()
    assert test is None
    assert (images.shape, images.dtype) == ((3, 64, 128, 1), np.float32)
    assert images.min() >= 0
    assert images.max() <= 1
    short, long = (PEAK / np.abs(samples).max() * samples for samples in (short, long))
    expected = [np.pad(short, (0, SAMPLES - len(short))), long[:SAMPLES], long[SAMPLES : 2 * SAMPLES]]
    # the rest of the long one is shorter than 0.128 s, and left out
    found = waveforms(images)
    for waveform in expected:
        assert min(np.abs(found - waveform).max(1)) < 1e-3
    assert "read 3 images of sound from 3 WAV files" in (said := capsys.readouterr().out)
    assert "left out 1; 1: silence left out" in said


def test_the_longest_rest_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone((SAMPLES + SAMPLES // 8) / SAMPLE_RATE))
    write(tmp_path / "b.wav", tone((SAMPLES + SAMPLES // 8 - 1) / SAMPLE_RATE, 300))
    assert len(WavFolder(path=tmp_path).load_arrays()[0]) == 3


def test_a_folder_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no WAV files: set data"):
        WavFolder(path=tmp_path).load_arrays()
    with pytest.raises(UserError, match="is not a folder"):
        WavFolder(path=tmp_path / "none").load_arrays()
    with pytest.raises(ValueError, match="images of sound are 64 x 128: leave out data"):
        WavFolder(path=tmp_path, size=32)
    with pytest.raises(UserError, match="own files"):
        fetch("wav_folder")


@pytest.mark.parametrize("above", [".", "SpeechCommands/speech_commands_v0.02"])
def test_the_words_of_speech_commands(above: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / above
    for i, word in enumerate(("yes", "no")):
        for number in range(3):
            write(folder / word / f"{number}.wav", tone(0.9, 200 + 50 * i + 10 * number, 16000), 16000)
    write(folder / "_background_noise_" / "hum.wav", tone(3, 50, 16000), 16000)
    (folder / "testing_list.txt").write_text("yes/0.wav\nno/2.wav\n")
    train, test = WavFolder(path=tmp_path).load_arrays()
    assert test is not None
    assert (len(train), len(test)) == (4, 2)
    assert "SPEECHCOMMANDS: test 2 (testing_list.txt)" in capsys.readouterr().out
    (folder / "testing_list.txt").write_text("maybe/0.wav\n")
    with pytest.raises(UserError, match="lists no file of"):
        WavFolder(path=tmp_path).load_arrays()


def digits() -> dict[str, np.ndarray]:
    return {
        f"{digit}_{speaker}_{number}.wav": tone(0.3, 150 + 40 * digit + 3 * number, level=level)
        for digit in range(3)
        for speaker, level in (("ann", 0.5), ("ben", 0.02))
        for number in range(10)
    }


def test_digits_are_read_from_recordings_or_from_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    recordings = tmp_path / "spoken_digits" / "recordings"
    for name, samples in digits().items():
        write(recordings / name, samples)
    write(recordings / "mine.wav", tone(0.1))
    train, test = SpokenDigits(all=True).load_arrays()
    assert test is not None
    assert (len(train), len(test)) == (6 * 24, 30), "each training recording of 0.3 s with six delays"
    assert len(SpokenDigits(all=True).split("val")) == 6
    for images in (train, test):
        # a few coefficients of pure tones are clipped
        np.testing.assert_allclose(np.abs(waveforms(images)).max(1), PEAK, atol=0.02)
    split = SpokenDigits(all=True).split("test")
    assert len(split) == 30
    audio = np.stack([np.pad(samples, (0, SAMPLES - len(samples))) for samples in digits().values()])
    np.savez(tmp_path / "spoken_digits_8khz.npz", audio=(audio * 2**15).astype(np.int16), name=list(digits()))
    assert SpokenDigits(all=True).fetch() == recordings
    recordings.rename(tmp_path / "elsewhere")
    assert SpokenDigits(all=True).fetch().suffix == ".npz"
    again, _ = SpokenDigits(all=True).load_arrays()
    assert np.array_equal(np.sort(again.sum((1, 2, 3))), np.sort(train.sum((1, 2, 3))))


def test_digits_that_ship() -> None:
    source = SpokenDigits()
    train, val, test = (source.split(name) for name in ("train", "val", "test"))
    assert (len(val), len(test)) == (60, 300)
    assert 4 * 660 < len(train) < 8 * 660
    assert source.split("test").batch([0]).shape == (1, 1, 64, 128)


def test_how_to_get_the_digits_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"git clone https://github\.com/\S+ \S+spoken_digits$"):
        SpokenDigits(all=True).fetch()
    np.savez(tmp_path / "spoken_digits_8khz.npz", audio=np.zeros((2, 100), np.int16), name=["0_a_0.wav", "0_a_9.wav"])
    with pytest.raises(UserError, match=r"has not the arrays audio \(N, 8192\) int16"):
        SpokenDigits(all=True).load_arrays()
    np.savez(tmp_path / "spoken_digits_8khz.npz", audio=np.zeros((2, SAMPLES), np.int16), name=["0_a_0.wav", "x"])
    with pytest.raises(UserError, match="names that are not those of recordings"):
        SpokenDigits(all=True).load_arrays()
    np.savez(tmp_path / "spoken_digits_8khz.npz", audio=np.zeros((1, SAMPLES), np.int16), name=["0_a_0.wav"])
    with pytest.raises(UserError, match="lacks recordings of one split"):
        SpokenDigits(all=True).load_arrays()


@pytest.mark.shared
def test_the_published_digits(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(shared / "data"))
    train, test = SpokenDigits(all=True).load_arrays()
    assert test is not None
    assert (len(train), len(test)) == (13_438, 300), "2,640 recordings, most of them also delayed"
    clipped = [(images <= 0) | (images >= 1) for images in (train, test)]
    assert sum(int(each.sum()) for each in clipped) == 103  # of 112,541,696
