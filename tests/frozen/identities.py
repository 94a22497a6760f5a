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

from workbench.experiments.study import load_study, study_names

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
    tree = {"stages": stages(), "studies": now(), "references": stored_references()}
    FILE.write_bytes(gzip.compress(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode(), 9, mtime=0))


@lru_cache(maxsize=1)
def now() -> Tree:
    """The studies as they are now, in the form in which they are frozen."""
    found: Tree = {}
    for name, preset, cells, tasks, support in _reached():
        found.setdefault(name, {})[preset] = {
            "cells": sorted(stage.identity for stage in cells),
            "tasks": sorted(stage.identity for stage in tasks),
            "support": sorted(stage.identity for stage in support),
        }
    return found


@lru_cache(maxsize=1)
def stages() -> Tree:
    """Every stage as it is now, those upstream included."""
    found: Tree = {}
    elsewhere = ""
    for _, _, cells, tasks, support in _reached():
        for stage in _with_upstream([*cells, *tasks, *support], found):
            given = str(getattr(getattr(stage, "autoencoder", None), "source", ""))
            elsewhere = given.removesuffix("/vqvae") if given.endswith("/vqvae") else elsewhere
            found[stage.identity] = {
                "stage": stage.name,
                "canonical": stage.canonical(),
                "config": stage.model_dump(mode="json"),
            }
    text = json.dumps(found)
    return dict(json.loads(text.replace(elsewhere, ELSEWHERE) if elsewhere else text))


def _reached() -> Iterator[tuple[str, str, list[Any], list[Any], list[Any]]]:
    """(study, preset, cells, what is tuned, support) of every study at every preset; identities are remembered."""
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = write_elsewhere(Path(folder) / "elsewhere")
        for name in study_names():
            study, _ = load_study(name)
            with remembered_identities(study.cell):
                for preset, size in study.presets.items():
                    if preset.startswith("photos"):
                        continue  # their images are not downloaded for tests
                    overrides = elsewhere if preset == "paper" and size.cell is None else {}
                    cells = study.cells(preset, overrides)
                    support = study.supporting(cells)
                    tasks = study.tasks(preset, overrides) if study.search or size.search else []
                    yield (
                        name,
                        preset,
                        [cell.stage for cell in cells],
                        [task.cell for task in tasks],
                        list(support.values()),
                    )


@lru_cache(maxsize=1)
def stage_types() -> dict[str, Any]:
    """The class of every stage that the studies use, by the stage's name."""
    cells = [load_study(name)[0].cell for name in study_names()]
    root = next(cls for cls in type(cells[0]).__mro__ if "ensure" in vars(cls))
    return {
        cls.name: cls for cls in _subclasses(root) if "name" in vars(cls) and cls.__module__.startswith("workbench.")
    }


def _subclasses(cls: Any) -> Iterator[Any]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


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
