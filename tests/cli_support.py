"""What the tests of the command line share: the command line in this process, and a pair small enough to train here."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

SIZE = 16
NUM_IMAGES = 6


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """`python -m workbench ...` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> Said:
        from workbench.__main__ import main

        self.monkeypatch.setattr("sys.argv", ["workbench", *map(str, arguments)])
        self.capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = self.capsys.readouterr()
        return Said(code, captured.out, captured.err)

    def refuses(self, *arguments: object) -> str:
        """The one line with which a command must refuse bad input."""
        said = self(*arguments)
        assert said.code == 2, (said.out, said.err)
        assert said.err.count("\n") == 1, said.err
        assert said.err.startswith("error: "), said.err
        assert "Traceback" not in said.err + said.out
        return said.err.removeprefix("error: ").rstrip("\n")


def synthetic_images(count: int = 200, size: int = SIZE) -> np.ndarray:
    """(count, size, size) float32 on [0, 1]: bright discs of random place and radius, all different."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    place = generator.uniform(0.25 * size, 0.75 * size, (2, count, 1, 1))
    radius = generator.uniform(0.1 * size, 0.3 * size, (count, 1, 1))
    inside = (rows - place[0]) ** 2 + (columns - place[1]) ** 2 < radius**2
    return np.where(inside, generator.uniform(0.5, 1, (count, 1, 1)), 0.1).astype(np.float32)


def tiny_flags(source: Path) -> list[str]:
    """Overrides that make any cell of the robustness study small, on the images in `source`."""
    fields = {
        "data.kind": "npy",
        "data.path": source,
        "data.size": SIZE,
        "data.channels": 1,
        "autoencoder.source": "train",
        "autoencoder.width": 8,
        "autoencoder.num_stages": 2,
        "autoencoder.latent_channels": 2,
        "autoencoder.num_train_images": 128,
        "autoencoder.batch_size": 16,
        "prior.source": "train",
        "prior.block_out_channels": "[16,32]",
        "prior.num_train_images": 128,
        "prior.batch_size": 16,
        "severity_encoder.num_train_images": 64,
        "severity_encoder.batch_size": 16,
        "sampler.num_steps": 20,
        "num_images": NUM_IMAGES,
    }
    return [f"--{name}={value}" for name, value in fields.items()]


@dataclass(frozen=True)
class Trained:
    """A runs folder in which the tiny cell has been computed, and its networks as folders of weights."""

    source: Path
    runs: Path
    autoencoder: Path
    prior: Path

    @property
    def flags(self) -> list[str]:
        """Overrides that find everything in the cache."""
        return tiny_flags(self.source)

    def copy(self, folder: Path) -> "Trained":
        """The same, below `folder`, to be damaged."""
        runs = folder / "runs"
        shutil.copytree(self.runs, runs)
        autoencoder, prior = (runs / path.relative_to(self.runs) for path in (self.autoencoder, self.prior))
        return Trained(self.source, runs, autoencoder, prior)


def train(folder: Path) -> Trained:
    """Train the tiny pair and a severity encoder for gaussian_blur, and evaluate them."""
    from workbench.config import parse_overrides
    from workbench.stages.base import Runtime
    from workbench.study import base_cell

    source = folder / "images.npy"
    np.save(source, synthetic_images())
    runs = folder / "runs"
    cell = base_cell("robustness", "smoke", parse_overrides(tiny_flags(source)))
    runtime = Runtime(runs)
    cell.ensure(runtime)
    autoencoder, prior = cell.upstream()[:2]
    return Trained(source, runs, autoencoder.folder(runtime) / "autoencoder", prior.folder(runtime))
