"""The identity and canonical JSON of every cell that ships, kept as they were at one commit.

Cells are found only through `load_study`, `Study.cells`, `tasks` and `support`, and `Stage.upstream`, so that modules
can move. What is kept:

    stages      identity -> each different stage: its name, its canonical JSON, and its config as runs/ stores it
    studies     study -> preset -> the identities of its cells, of what is tuned, and of what its report rests on
    references  study/preset -> the identity of each cell of the results that ship, and its stored config
"""

import gzip
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.study import load_study, study_names

FILE = Path(__file__).with_name("identities.json.gz")
REFERENCES = Path(__file__).parents[2] / "data" / "reference"

ELSEWHERE = "$ELSEWHERE"
"""Stands in stored configs for the folder of the model and the images that users have and the project does not."""

Tree = dict[str, Any]


def read() -> Tree:
    """What was frozen."""
    found: Tree = json.loads(gzip.decompress(FILE.read_bytes()))
    return found


def write() -> None:
    """Freeze what there is now."""
    text = json.dumps(now(), sort_keys=True, separators=(",", ":"))
    FILE.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def now() -> Tree:
    """What there is now, in the form in which it is frozen."""
    return _survey()[0]


def stage_types() -> dict[str, Any]:
    """The class of every stage that the studies reach, by the stage's name."""
    return _survey()[1]


def write_elsewhere(folder: Path) -> Tree:
    """Made-up files where the preset `paper` has a given model and images; the overrides that name them."""
    for part in ("vqvae", "unet", "scheduler"):
        (folder / part).mkdir(parents=True)
        (folder / part / "weights.safetensors").write_bytes(part.encode())
    for number in range(24):
        pixels = np.full((256, 256, 3), 10 * number, np.uint8)
        (folder / "faces").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "faces" / f"{number}.png")
    given = {"data.path": folder / "faces", "autoencoder.source": folder / "vqvae", "prior.source": folder}
    return {path: str(value) for path, value in given.items()}


def stored_references() -> Tree:
    """study/preset -> identity -> config of each cell of the results that ship."""
    found = {}
    for path in sorted(REFERENCES.glob("*/*/cells.json")):
        cells = json.loads(path.read_text())["cells"]
        found["/".join(path.parts[-3:-1])] = {record["cell"]: record["config"] for record in cells}
    return found


@lru_cache(maxsize=1)
def _survey() -> tuple[Tree, dict[str, Any]]:
    stages: Tree = {}
    types: dict[str, Any] = {}
    studies: Tree = {}
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = write_elsewhere(Path(folder) / "elsewhere")
        for name in study_names():
            study, _ = load_study(name)
            with remembered_identities(study.cell):
                studies[name] = {
                    preset: _at_preset(study, preset, elsewhere if preset == "paper" else {}, stages, types)
                    for preset in study.presets
                }
        text = json.dumps(stages).replace(str(Path(folder) / "elsewhere"), ELSEWHERE)
    return {"stages": json.loads(text), "studies": studies, "references": stored_references()}, types


def _at_preset(study: Any, preset: str, overrides: Tree, stages: Tree, types: dict[str, Any]) -> Tree:
    cells = study.cells(preset, overrides)
    support = study.support(cells) if study.support is not None else {}
    tasks = study.tasks(preset, overrides) if study.search or study.preset(preset).search else []
    met = [*(cell.stage for cell in cells), *support.values(), *(task.cell for task in tasks)]
    for stage in _with_upstream(met, stages):
        types[stage.name] = type(stage)
        stages[stage.identity] = {
            "stage": stage.name,
            "canonical": stage.canonical(),
            "config": stage.model_dump(mode="json"),
        }
    return {
        "cells": sorted(cell.stage.identity for cell in cells),
        "tasks": sorted(task.cell.identity for task in tasks),
        "support": sorted(stage.identity for stage in support.values()),
    }


def _with_upstream(stages: Iterable[Any], known: Tree) -> Iterator[Any]:
    """Stages and all upstream that are not known yet, each once."""
    for stage in stages:
        if stage.identity not in known:
            yield stage
            yield from _with_upstream(stage.upstream(), known)


@contextmanager
def remembered_identities(stage: Any) -> Iterator[None]:
    """Every identity is computed once: a cell asks for those upstream again and again."""
    owner = next(cls for cls in type(stage).__mro__ if "identity" in vars(cls))
    compute = vars(owner)["identity"].fget
    known: dict[tuple[type, str], str] = {}

    def identity(self: Any) -> str:
        key = (type(self), self.model_dump_json())
        if key not in known:
            known[key] = compute(self)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "identity", property(identity))
        yield
