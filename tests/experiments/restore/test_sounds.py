"""WAV files are restored into WAV files of the same rate, length and format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import CommandLine, Trained
from degraded_pictures import DONE, table, without_encoder, words
from scipy.io import wavfile

from workbench.core.config import UserError
from workbench.core.sound import SAMPLES, in_blocks, to_image
from workbench.data.wav import read_wav
from workbench.degradations import MRI, AtSeverity, AudioNoise, PacketLoss
from workbench.experiments.restore.sounds import OVERLAP, Sound, joined, pieces, read_sounds


def hiss(number: int, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(number).standard_normal(number)


def write(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, (samples * 2**15).round().clip(-(2**15), 2**15 - 1).astype(np.int16))
    return path


def command(trained: Trained, source: Path, output: Path, operator: str) -> list[str]:
    return without_encoder(words(trained, source, output, operator))


@pytest.mark.parametrize("number", [1, 100, SAMPLES, SAMPLES + 1, 2 * SAMPLES - OVERLAP, 30_000])
def test_pieces_are_joined_to_what_they_were(number: int) -> None:
    samples = hiss(number)
    found = pieces(samples)
    assert found.shape[1] == SAMPLES
    assert len(found) == {1: 1, 100: 1, SAMPLES: 1, SAMPLES + 1: 2, 2 * SAMPLES - OVERLAP: 2, 30_000: 5}[number]
    np.testing.assert_allclose(joined(found, number), samples, atol=1e-12)


def test_where_pieces_overlap_one_fades_into_the_next() -> None:
    both = joined(np.stack([np.zeros(SAMPLES), np.ones(SAMPLES)]), 2 * SAMPLES - OVERLAP)
    assert (both[: SAMPLES - OVERLAP] == 0).all()
    assert (np.diff(both[SAMPLES - OVERLAP : SAMPLES]) > 0).all()
    assert (both[SAMPLES:] == 1).all()


@pytest.mark.parametrize(("rate", "number"), [(8000, 20_000), (8000, 300), (16000, 20_001), (44100, 50_000)])
def test_a_file_survives_its_images(rate: int, number: int, tmp_path: Path) -> None:
    """Also one of another rate, whose content is below 4 kHz."""
    smooth = np.convolve(hiss(number), np.hanning(8 * rate // 8000 + 1) / 4, "same") * np.hanning(number)
    recording = read_wav(write(tmp_path / "a.wav", smooth, rate))
    sound = Sound.of(recording)
    images = to_image(in_blocks(torch.from_numpy(sound.values).float()))[:, 0].numpy()
    sound.write(images, tmp_path / "b.wav")
    (_, before), (same_rate, after) = wavfile.read(tmp_path / "a.wav"), wavfile.read(tmp_path / "b.wav")
    assert (same_rate, after.shape, after.dtype) == (rate, before.shape, before.dtype)
    # the filters of a change of rate cut where they end
    assert np.abs(after.astype(int) - before).max() <= (1 if rate == 8000 else 0.03 * np.abs(before).max())


def test_recordings_are_restored(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    write(tmp_path / "in" / "short.wav", hiss(5000))
    write(tmp_path / "in" / "long.wav", hiss(22_050), 11_025)
    wavfile.write(tmp_path / "in" / "stereo.wav", 8000, np.stack([hiss(3000), hiss(3000)], 1).astype(np.float32))
    said = cli(*command(trained, tmp_path / "in", tmp_path / "out", "audio_noise"), "--severity=0.6")
    assert said.code in DONE, said.err
    assert "read 3 WAV files from" in said.out
    assert "stereo.wav: 2 channels averaged" in said.out
    assert "long.wav: resampled from 11025 Hz to 8000 Hz: what is above 4 kHz is lost" in said.out
    assert "audio_noise, severity 0.6: noise std 0.0457 in the waveform" in said.out
    assert "noise of standard deviation 0.0457 in waveforms on [-1, 1], from the severity" in said.out
    names = ["long.wav:0", "long.wav:1", "long.wav:2", "short.wav", "stereo.wav"]
    assert [row["image"] for row in table(tmp_path / "out")] == names
    for name, (rate, number, dtype) in {
        "short.wav": (8000, 5000, np.int16),
        "long.wav": (11_025, 22_050, np.int16),
        "stereo.wav": (8000, 3000, np.float32),
    }.items():
        found, samples = wavfile.read(tmp_path / "out" / name)
        assert (found, samples.shape, samples.dtype) == (rate, (number,), dtype)
        assert samples.any()


@pytest.mark.parametrize("operator", ["audio_clipping", "bandwidth"])
def test_one_file(operator: str, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", hiss(2000).clip(-0.1, 0.1))
    said = cli(*command(trained, source, tmp_path / "out", operator))
    assert said.code in DONE, said.err
    assert wavfile.read(tmp_path / "out" / "a.wav")[1].shape == (2000,)
    assert cli(*command(trained, source, tmp_path / "npy", operator), "--format=npy").code in DONE
    assert np.load(tmp_path / "npy" / "a.npy").shape == (64, 128)


def test_lost_packets_are_found(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    samples = hiss(8000)
    samples[1600:1760] = samples[4000:4320] = 0
    source = write(tmp_path / "a.wav", samples)
    said = cli(*command(trained, source, tmp_path / "out", "packet_loss"))
    assert said.code in DONE, said.err
    # 480 of 8,192 samples: 5.9 %, and 2 % to 60 % are severity 0 to 1
    assert "packet_loss, severity 0.0665: 6 % of the packets lost" in said.out
    images = read_sounds(source, PacketLoss(), finds_losses=True)
    mask = images.params["a.wav"]["mask"].flatten().numpy()
    assert np.array_equal(mask == 0, np.pad(samples, (0, SAMPLES - 8000), constant_values=1) == 0)
    other = write(tmp_path / "b.wav", np.repeat(samples, 2), 16000)
    again = read_sounds(other, PacketLoss(), finds_losses=True).params["b.wav"]["mask"].flatten().numpy()
    assert (again <= mask).all()
    assert (mask != again).sum() <= 4 * 17
    refusal = cli.refuses(*command(trained, tmp_path / "none.wav", tmp_path / "new", "packet_loss"))
    assert refusal == f"--input {tmp_path / 'none.wav'} is neither a folder nor a file"
    with pytest.raises(UserError, match=r"nothing of d\.wav has arrived"):
        read_sounds(write(tmp_path / "d.wav", np.zeros(SAMPLES)), PacketLoss(), finds_losses=True)


def test_what_is_no_sound_is_refused(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    refusal = cli.refuses(*command(trained, tmp_path / "a.wav", tmp_path / "out", "audio_noise"))
    assert refusal.startswith(f"cannot read the sound {tmp_path / 'a.wav'} (")
    write(tmp_path / "b.wav", hiss(100))
    for operator in ("gaussian_blur", "mri"):
        refusal = cli.refuses(*command(trained, tmp_path / "b.wav", tmp_path / "out", operator))
        assert f"is sound, which {operator} does not act on: use --operator audio_noise, audio_clipping" in refusal
    refusal = cli.refuses(
        *command(trained, tmp_path / "b.wav", tmp_path / "out", "audio_noise"), "--severity=0.5", "--noise-std=0.1"
    )
    assert "--noise-std 0.1, but audio_noise at severity 0.5 has noise of 0.0316: use --severity 0.812" in refusal
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="is neither a folder nor a file"):
        read_sounds(tmp_path / "none.wav", AudioNoise(), finds_losses=False)
    with pytest.raises(UserError, match="at_severity does not act on"):
        read_sounds(tmp_path / "b.wav", AtSeverity(member=MRI()), finds_losses=False)


def test_a_quiet_recording_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", hiss(100, 0.001))
    write(tmp_path / "b.wav", hiss(100))
    lines = read_sounds(tmp_path, AudioNoise(), finds_losses=False).lines
    assert lines[0] == f"read 2 WAV files from {tmp_path}: 0.0 s in 2 images of 1 s"
    assert len(lines) == 2
    assert lines[1].startswith(
        "a.wav: the peak is below 0.05, but models of sound are trained on peaks of 0.5: amplify"
    )
