"""What a fixed sample of cells writes, kept as it was at one commit.

sample.json.gz   cell name -> its stage, its config as runs/ stores it, and whether it is of the quick part
rows.json.gz     cell name -> its identity, and every column, tensor and figure that the stage writes

Left out, as they are never the same twice: provenance.json; config.json, which `identities` is about; and the columns
of `TIMINGS`. One thread, no LPIPS, the weights that ship; whatever must be trained is trained for seconds.
"""

import csv
import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from frozen.identities import Tree, stage_types
from safetensors.numpy import load_file

from workbench.stages.runtime import Runtime

SAMPLE, ROWS = (Path(__file__).with_name(f"{name}.json.gz") for name in ("sample", "rows"))
NOT_RESULTS = ("config.json", "provenance.json", "lpips_absent.txt")
TIMINGS = ("seconds", "start_seconds", "peak_bytes", "device", "threads")
FEW_LEVELS = 0.01
"""How much the mean and the standard deviation of 8-bit pictures may differ, in levels."""
TOLERANCE = 1e-5
"""Relative and absolute: sums in another order, where batching changed."""
MAX_VALUES, NUM_SHOWN = 128, 16
"""Larger arrays are kept as a checksum, and `NUM_SHOWN` values spread over them."""


def read(path: Path) -> Tree:
    """What was frozen."""
    found: Tree = json.loads(gzip.decompress(path.read_bytes()))
    return found


def write(path: Path, tree: Tree) -> None:
    """Freeze it."""
    path.write_bytes(gzip.compress(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode(), 9, mtime=0))


def names(*, quick: bool = False, containing: str = "") -> list[str]:
    """The cells of the sample: all, or a part."""
    sample = read(SAMPLE)
    found = [name for name, cell in sample.items() if containing in name and (cell["quick"] or not quick)]
    return sorted(found, key=lambda name: not sample[name]["quick"])  # what is checked most often first


def compute(chosen: list[str], runs: Path | None = None) -> Iterator[tuple[str, Tree]]:
    """(name, what its stage writes) of each of these cells, one by one; `runs`: a folder to go on in."""
    torch.set_num_threads(1)
    sample, types = read(SAMPLE), stage_types()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCH_HOME"] = folder  # where LPIPS would be
        os.environ.pop("WORKBENCH_LPIPS_BACKBONE", None)
        runtime = Runtime(runs or Path(folder) / "runs")
        for name in chosen:
            stage = types[sample[name]["stage"]].parse(sample[name]["config"])
            yield name, {"identity": stage.identity, "outputs": dict(_outputs(stage.ensure(runtime)))}


def compare(kept: Tree, today: Tree) -> tuple[list[str], list[str]]:
    """What is other than frozen, and what is within the tolerance, in words."""
    other, near = [], []
    if kept["identity"] != today["identity"]:
        other.append(f"identity {today['identity']}, frozen {kept['identity']}")
    for path, before in kept["outputs"].items():
        after = today["outputs"].get(path)
        if after is None:
            other.append(f"{path} is missing")
        elif _text(before) != _text(after):
            distance = _distance(before, after)
            (near if distance <= 1 else other).append(f"{path}: {distance:.3g} times the tolerance")
    return other, near


def _text(tree: Tree) -> str:
    """As text, in which NaN equals NaN."""
    return json.dumps(tree, sort_keys=True)


def _distance(before: Tree, after: Tree) -> float:
    """The largest difference in units of the tolerance; infinite where there is no saying."""
    kind = before["dtype"][0]
    if before["shape"] != after["shape"] or kind != after["dtype"][0] or kind not in "fu":
        return float("inf")
    a, b = (np.array(tree["values"] + tree.get("summary", []), dtype=float) for tree in (before, after))
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    if kind == "u":
        # a picture of 8 bits: a value that moved within the tolerance may round to the next level, in a few pixels
        levels = np.full(len(a), 1.0)
        levels[len(before["values"]) :][:2] = FEW_LEVELS
        return float((np.abs(a - b) / levels).max(initial=0.0))
    finite = np.isfinite(a)
    difference = np.abs(a - b)[finite] / (TOLERANCE * (1 + np.abs(a[finite])))
    return float(difference.max(initial=0.0))


def _outputs(folder: Path) -> Iterator[tuple[str, Tree]]:
    """Each column, tensor and figure below a stage's folder, by file and name."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_RESULTS):
        file = str(path.relative_to(folder))
        match path.suffix:
            case ".parquet":
                frame = pd.read_parquet(path)
                found = {name: frame[name].to_numpy() for name in frame.columns}
            case ".safetensors":
                found = load_file(path)
            case ".csv":
                with path.open() as lines:
                    table = list(csv.DictReader(lines))
                found = {name: np.array([float(row[name] or "nan") for row in table]) for name in table[0]}
            case ".json":
                found = _figures(json.loads(path.read_text()))
            case _:
                found = {"bytes": np.frombuffer(path.read_bytes(), np.uint8)}
        for name, array in found.items():
            if name.rpartition(".")[2] not in TIMINGS:
                yield f"{file}:{name}", _kept(array)


def _figures(tree: Any, path: str = "") -> dict[str, np.ndarray]:
    """The leaves of a JSON tree by path; a list of numbers is one."""
    if isinstance(tree, dict):
        inner = tree.items()
    elif isinstance(tree, list) and not all(isinstance(item, int | float | None) for item in tree):
        inner = ((str(number), item) for number, item in enumerate(tree))
    else:
        return {path: np.array(tree, dtype=float) if _is_number(tree) else np.array(str(tree))}
    return {at: found for name, item in inner for at, found in _figures(item, f"{path}.{name}".strip(".")).items()}


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, list | int | float) and not isinstance(leaf, bool)


def _kept(array: np.ndarray) -> Tree:
    """An array whole, or its checksum, some of its values, and what tells of the others."""
    array = np.asarray(array)
    tree: Tree = {"shape": list(array.shape), "dtype": array.dtype.kind}
    if array.dtype.kind in "OUS":
        return tree | {"values": [str(value) for value in array.flat]}
    flat = array.ravel()
    if flat.size <= MAX_VALUES:
        return tree | {"values": flat.astype(float).tolist() if array.dtype.kind == "f" else flat.tolist()}
    values = flat.astype(float)
    some = values[np.linspace(0, flat.size - 1, NUM_SHOWN).astype(int)].tolist()
    summary = [float(values.mean()), float(values.std()), float(values.min()), float(values.max())]
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return tree | {"values": some, "summary": summary, "sha256": digest}
