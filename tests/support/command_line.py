"""What the tests of the command line share: the command line in this process, and a pair small enough to train here."""

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_study import EVALUATION, NETWORKS, flags, source_overrides, write_images


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


def tiny_flags(source: Path) -> list[str]:
    """Overrides that make a cell of the robustness study small, on the images in `source`; what ships is not used."""
    networks = {"autoencoder.source": "train", "prior.source": "train", "autoencoder.num_train_images": 128}
    return flags({**source_overrides(source), **NETWORKS, **EVALUATION, **networks})


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


@functools.cache
def train(folder: Path) -> Trained:
    """Train the tiny pair and a severity encoder for gaussian_blur below `folder`, and evaluate them; once a folder."""
    from workbench.config import parse_overrides
    from workbench.stages.runtime import Runtime
    from workbench.study import base_cell

    root = folder / "trained"
    root.mkdir()
    source = write_images(root / "images.npy")
    cell = base_cell("robustness", "smoke", parse_overrides(tiny_flags(source)))
    runtime = Runtime(root / "runs")
    cell.ensure(runtime)
    autoencoder, prior = cell.upstream()[:2]
    return Trained(source, runtime.root, autoencoder.folder(runtime) / "autoencoder", prior.folder(runtime))
