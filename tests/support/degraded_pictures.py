"""What the tests of `restore` share: degraded pictures in a folder, the command's words, what it wrote."""

import csv
from pathlib import Path

import numpy as np
import torch
from command_line import Trained
from PIL import Image

from workbench.core.measurement import Measurement
from workbench.degradations import Degradation
from workbench.experiments.restore import CONTRADICTED
from workbench.experiments.restore.pictures import Input, Measured
from workbench.stages.measure.evaluate import Evaluate

SEVERITY = 0.4
NUM_IMAGES = 5
LISTENS = "--solver.guidance_scale=100"
"""So that what the operator is shows in pictures of networks that have hardly learnt."""
DONE = 0, CONTRADICTED
"""Exit statuses of a run that restored: networks that have hardly learnt leave large residuals."""


def measure(cell: Evaluate, degradation: Degradation) -> Measurement:
    """Measurements of the first test images."""
    images = cell.data.split("test").first(NUM_IMAGES)
    severity = torch.full((NUM_IMAGES,), SEVERITY)
    return degradation.measure(images.batch(slice(None)), severity, images.ids, seed=3)


def as_bytes(y: torch.Tensor) -> np.ndarray:
    """Grey (batch, 1, height, width) as (batch, height, width) of 8 bits."""
    return (y[:, 0].clamp(0, 1) * 255).round().numpy().astype(np.uint8)


def write(y: torch.Tensor, folder: Path) -> Path:
    """Grey images as PNG files 0.png, 1.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(as_bytes(y)):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def words(trained: Trained, degraded: Path, output: Path, operator: str = "gaussian_blur") -> list[str]:
    fields = {"input": degraded, "output": output, "operator": operator, "severity": SEVERITY, "runs": trained.runs}
    return ["restore", *(f"--{name}={value}" for name, value in fields.items()), *trained.flags]


def without_encoder(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith("--severity_encoder.")] + ["--encoder=none"]


def table(output: Path) -> list[dict[str, str]]:
    with (output / "restored.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def measured(y: torch.Tensor, *names: str) -> Measured:
    """As if read from files of these names."""
    return Measured(names or tuple(f"{i}.png" for i in range(len(y))), y)


def as_input(group: Measured, folder: Path = Path(), *, grey: bool = True) -> Input:
    """As if nothing else had been read."""
    files = tuple(folder / name for name in group.names)
    return Input(group.names, (grey,) * len(group), files, (), (group,))
