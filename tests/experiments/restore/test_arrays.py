"""Restoring from k-space and sinograms: arrays that are no pictures."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from command_line import CommandLine, Trained
from degraded_pictures import DONE, measure, table, without_encoder, words

from workbench.core.config import UserError
from workbench.degradations import CT, MRI
from workbench.experiments.restore.arrays import read_arrays, sensitivities
from workbench.stages.measure.evaluate import Evaluate


def command(trained: Trained, source: Path, output: Path, operator: str) -> list[str]:
    """Without a severity: the parameters tell it."""
    told = without_encoder(words(trained, source, output, operator))
    return [word for word in told if not word.startswith("--severity=")]


def test_k_space(cell: Evaluate, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    m = measure(cell, MRI(noise_std=0.02))
    y = torch.view_as_complex(m.y.contiguous())[:, 0, 0].numpy()
    np.savez(tmp_path / "k.npz", y=y, mask=m.params["mask"].numpy(), names=["a", "b", "c", "d", "e"])
    said = cli(*command(trained, tmp_path / "k.npz", tmp_path / "out", "mri"), "--noise-std=0.02")
    assert said.code in DONE, said.err
    assert "read 5 measurements from" in said.out
    assert [row["image"] for row in table(tmp_path / "out")] == [f"k.npz:{name}" for name in "abcde"]
    assert (tmp_path / "out" / "k_a.png").is_file()
    assert "--noise-std auto: only images with neighbouring pixels" in cli.refuses(
        *command(trained, tmp_path / "k.npz", tmp_path / "new", "mri"), "--noise-std=auto"
    )


def test_a_sinogram(cell: Evaluate, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    m = measure(cell, CT())
    np.savez(tmp_path / "s.npz", y=m.y[:, 0].numpy(), views=m.params["views"].numpy())
    said = cli(*command(trained, tmp_path / "s.npz", tmp_path / "out", "ct"))
    assert said.code in DONE, said.err
    assert "ct, severity 0.398: 48 views" in said.out
    assert "noise of standard deviation 0.01" in said.out
    # all views of a level: the severity alone tells them
    np.save(tmp_path / "s.npy", m.y[:, 0].numpy())
    again = command(trained, tmp_path / "s.npy", tmp_path / "again", "ct")
    assert cli(*again, "--severity=0.4").code in DONE
    one, other = ((tmp_path / out).read_bytes() for out in ("out/s_0.png", "again/s_0.png"))
    assert one == other
    assert "ct needs --severity or parameters: pass yours with --params" in cli.refuses(
        *command(trained, tmp_path / "s.npy", tmp_path / "new", "ct")
    )


@pytest.mark.parametrize("num_coils", [1, 4])
def test_a_volume_of_fastmri(
    num_coils: int, cell: Evaluate, cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    m = measure(cell, MRI(num_coils=num_coils, noise_std=0))
    first = {"mask": m.params["mask"][:1].expand_as(m.params["mask"])}
    x = cell.data.split("test").first(len(m)).batch(slice(None))
    y = MRI(num_coils=num_coils).A(x, {**m.params, **first})
    kspace = 3e-4 * torch.view_as_complex(y.contiguous())[:, 0] * np.exp(0.7j)
    with h5py.File(tmp_path / "volume.h5", "w") as stored:
        stored["kspace"] = (kspace[:, 0] if num_coils == 1 else kspace).numpy().astype(np.complex64)
        stored["mask"] = m.params["mask"][0, 0, 0].numpy()
    images = read_arrays(tmp_path / "volume.h5")
    assert len(images) == len(m)
    params = images.params["volume.h5:0"]
    assert params["coil_maps"].shape == (num_coils, 16, 16)
    torch.testing.assert_close(params["coil_maps"].abs().square().sum(0), torch.ones(16, 16))
    said = cli(*command(trained, tmp_path / "volume.h5", tmp_path / "out", "mri"))
    assert said.code in DONE, said.err
    assert (tmp_path / "out" / "volume_4.png").is_file()


def test_the_phase_of_an_image_becomes_one_of_the_coils() -> None:
    x = torch.linspace(0.2, 1, 32).expand(1, 1, 32, 32)
    phase = torch.polar(torch.ones(32, 32), torch.linspace(-1, 1, 32)[:, None].expand(32, 32))
    kspace = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x * phase, (-2, -1)), norm="ortho"), (-2, -1))
    maps = sensitivities(kspace, torch.ones(32, dtype=torch.bool))
    middle = (slice(4, -4), slice(4, -4))
    assert (maps[0, 0] - phase)[middle].abs().max() < 0.1


BAD: dict[str, tuple[Any, str]] = {
    "no y": ({"kspace": np.ones((2, 4, 4))}, "has no array y, the measurements; found kspace"),
    "text": ({"y": np.array(["a", "b"])}, "y has type <U1, expected numbers"),
    "a number": ({"y": np.array(1.0)}, r"y has shape \(\), expected measurements along the first axis"),
    "names": ({"y": np.ones((2, 4)), "names": ["a"]}, "has 2 measurements, but 1 names"),
    "parameters": ({"y": np.ones((2, 4)), "mask": np.ones((3, 4))}, "mask has shape .* expected 1 or 2 along"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    np.savez(tmp_path / "bad.npz", **content)
    with pytest.raises(UserError, match=message) as raised:
        read_arrays(tmp_path / "bad.npz")
    assert "\n" not in str(raised.value)


def test_bad_volumes(tmp_path: Path) -> None:
    path = tmp_path / "bad.h5"
    path.write_bytes(b"no volume")
    with pytest.raises(UserError, match=r"cannot read the volume .*bad\.h5 .*: expected a file of fastMRI"):
        read_arrays(path)
    for content, message in (
        ({"image": np.ones((2, 8, 8))}, "has no kspace; found image"),
        ({"kspace": np.ones((2, 8, 8))}, "expected complex slices"),
        ({"kspace": np.ones((2, 8, 8), complex), "mask": np.ones(9)}, "mask has 9 columns, but kspace has 8"),
        ({"kspace": np.ones((2, 8, 8), complex), "mask": np.eye(8)[0]}, "the middle of kspace is not measured"),
        ({"kspace": np.zeros((2, 8, 8), complex), "mask": np.ones(8)}, "kspace is zero"),
    ):
        with h5py.File(path, "w") as stored:
            for name, value in content.items():
                stored[name] = value
        with pytest.raises(UserError, match=message):
            read_arrays(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no measurements"):
        read_arrays(tmp_path / "empty")


def test_pictures_are_no_k_space(cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path) -> None:
    assert "has no measurements (.npy, .npz, .h5, .hdf5)" in cli.refuses(
        *command(trained, degraded, tmp_path / "out", "mri")
    )
    np.save(tmp_path / "real.npy", np.ones((2, 16, 16)))
    assert "expected complex numbers: N x height x width" in cli.refuses(
        *command(trained, tmp_path / "real.npy", tmp_path / "out", "mri"), "--severity=0.1"
    )
    assert "--severity is missing: the level of gaussian_blur" in cli.refuses(
        *command(trained, degraded, tmp_path / "out", "gaussian_blur")
    )
