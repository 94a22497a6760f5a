"""Reference results of a long run: a study's rows, to draw the report from and to continue from.

data/reference/<study>/<preset>/
  cells.json       one record per cell: identity, labels, config, measurement set; versions of stages; further stages
  rows.parquet     one row per image and cell, floats in single precision
  examples.npz     some of the stored images
  evidence.json    data that the report needs besides rows
  provenance.json  how the results were computed
  digests.sha256   digests of all of these, checked whenever a file is read

Cells are found by their identity, so reference results of other data, weights, settings or versions are never used for
this study; `differences` reports what differs.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.config import UserError
from workbench.core.digests import DIGESTS, checked, write_digests
from workbench.core.files import whole, write_whole
from workbench.core.foreign import FOREIGN
from workbench.experiments.catalogue import folder_name
from workbench.experiments.results import Cell, StudyResults
from workbench.stages.base import Stage

if TYPE_CHECKING:
    import pandas as pd

CELLS, ROWS, EXAMPLES, EVIDENCE, PROVENANCE = (
    "cells.json",
    "rows.parquet",
    "examples.npz",
    "evidence.json",
    "provenance.json",
)
PICTURES = ("clean", "degraded", "decoded", "restored")
NUM_EXAMPLES, FEW_EXAMPLES = 6, 3
"""Images that are kept of a cell: the latter of images larger than `SMALL`."""
SMALL = 4096
"""Values of an image, and bytes where they are stored."""


def reference_root() -> Path:
    """$WORKBENCH_REFERENCE, else data/reference next to the package."""
    return Path(os.environ.get("WORKBENCH_REFERENCE") or Path(__file__).parents[2] / "data" / "reference")


def find_reference(name: str, preset: str) -> "Reference | None":
    """The reference results of a study's preset, if there are any."""
    folder = reference_root() / folder_name(name) / preset
    # with digests only, its cells are missing: silently recomputing them would take hours
    is_there = any((folder / name).is_file() for name in (CELLS, DIGESTS))
    return Reference(folder) if is_there else None


def reference_folders() -> list[Path]:
    """The folders of all references, including those whose cells are missing."""
    return sorted({path.parent for name in (CELLS, DIGESTS) for path in reference_root().glob(f"*/*/{name}")})


def shipped_presets(name: str) -> list[str]:
    """The presets of a study that have reference results."""
    return sorted(path.parent.name for path in (reference_root() / folder_name(name)).glob(f"*/{CELLS}"))


@dataclass(frozen=True)
class Reference:
    """Reference results in a folder.

    Raises:
        UserError: when reading, if a file is missing or damaged.
    """

    folder: Path

    @cached_property
    def index(self) -> dict[str, Any]:
        """The content of cells.json: "cells", "stages" and "support"."""
        try:
            index = self._object(CELLS)
            parts = {"stages": dict(index["stages"]), "support": dict(index["support"]), "notes": list(index["notes"])}
            return {**parts, "cells": {record["cell"]: record for record in index["cells"]}}
        except (LookupError, TypeError, ValueError) as error:
            raise self._damaged(error) from None

    @cached_property
    def evidence(self) -> dict[str, Any]:
        """Data that the report needs besides rows."""
        return self._object(EVIDENCE)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """How the results were computed."""
        return self._object(PROVENANCE)

    def __contains__(self, identity: str) -> bool:
        return identity in self.index["cells"]

    def supports(self, stages: Mapping[str, Stage]) -> bool:
        """Whether the evidence was computed by these stages."""
        return bool(self.index["support"] == {name: stage.identity for name, stage in stages.items()})

    def rows(self, identity: str) -> "pd.DataFrame":
        """The rows of a cell, as written by its stage."""
        if identity not in self._frames:
            raise self._damaged(f"{ROWS} lacks cell {identity}")
        rows = self._frames[identity].reset_index(drop=True)
        return rows.assign(measurement_set=self.index["cells"][identity]["measurement_set"])

    def sets(self, identity: str) -> dict[str, dict[str, Any]]:
        """The figures of all images of a cell together, by name."""
        return dict(self.index["cells"][identity].get("sets", {}))

    def examples(self, identity: str) -> dict[str, np.ndarray]:
        """The stored images of a cell, (n, channel, height, width) uint8 by name, and their image ids."""
        pictures, places = self._pictures
        mine = places["cell"] == identity
        return {name: pictures[places[name][mine]] for name in PICTURES} | {"image_id": places["image_id"][mine]}

    @cached_property
    def _frames(self) -> "dict[str, pd.DataFrame]":
        import pandas as pd

        try:
            frame = pd.read_parquet(io.BytesIO(self._checked(ROWS)))
        except FOREIGN as error:
            raise self._damaged(error) from None
        return {str(cell): rows.drop(columns="cell") for cell, rows in frame.groupby("cell", observed=True)}

    @cached_property
    def _pictures(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        try:
            with np.load(io.BytesIO(self._checked(EXAMPLES)), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return arrays.pop("pictures"), arrays
        except FOREIGN as error:
            raise self._damaged(error) from None

    def _object(self, name: str) -> dict[str, Any]:
        try:
            tree = json.loads(self._checked(name))
        except FOREIGN as error:
            raise self._damaged(error) from None
        if not isinstance(tree, dict):
            raise self._damaged(f"{name} is not a JSON object")
        return tree

    def _checked(self, name: str) -> bytes:
        return checked(self.folder / name)

    def _damaged(self, reason: object) -> UserError:
        if isinstance(reason, UserError):
            return reason
        return UserError(f"the reference in {self.folder} is damaged ({reason}); restore it from version control")

    def differences(self, cells: Sequence[Cell]) -> list[str]:
        """How this reference differs from the current study: settings, data, versions, missing cells.

        Cells are compared with those of the same labels; only the first difference is reported.
        """
        records = {tuple(record["labels"].items()): record for record in self.index["cells"].values()}
        for cell in cells:
            if cell.identity in self:
                continue
            record = records.get(tuple(cell.labels.items()))
            if record is None:
                return [f"it has no cell {', '.join(cell.labels.values())}"]
            here = dict(_flat(_settings(cell.stage))) | _versions(cell.stage)
            there = dict(_flat(record["config"])) | self.index["stages"]
            return [
                f"{path}: {there.get(path, 'absent')} there, {here.get(path, 'absent')} here"
                for path in sorted(here.keys() | there.keys())
                if here.get(path) != there.get(path)
            ] or ["its upstream stages"]
        return []


def write_reference(results: StudyResults, cells: Sequence[Cell], support: Mapping[str, Stage], folder: Path) -> None:
    """Write the results of a study as a reference."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = results.frame.groupby("cell")["measurement_set"].first()
    records = [
        {
            "cell": cell.identity,
            "labels": dict(cell.labels),
            "measurement_set": sets[cell.identity],
            "config": _settings(cell.stage),
            **({"sets": results.sets[cell.identity]} if cell.identity in results.sets else {}),
        }
        for cell in cells
    ]
    index = {
        "stages": {path: version for cell in cells for path, version in _versions(cell.stage).items()},
        "support": {name: stage.identity for name, stage in support.items()},
        "notes": results.notes,
        "cells": records,
    }
    rows = results.frame.drop(columns=["measurement_set", *results.axes])
    small = dict.fromkeys(rows.select_dtypes("float64"), "float32") | {"cell": "category"}
    small |= {name: "int32" for name in rows.select_dtypes("int64") if name != "image_id"}
    pictures = _shared_pictures(results)  # which may be refused: before anything is written
    with whole(folder / ROWS) as partial:
        rows.astype(small).to_parquet(partial, compression="zstd", index=False)
    with whole(folder / EXAMPLES) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **pictures)
    write_whole(folder / EVIDENCE, json.dumps(results.evidence))
    write_whole(folder / PROVENANCE, json.dumps(results.provenance, indent=2))
    write_whole(folder / CELLS, json.dumps(index, indent=1))
    write_digests(
        folder, (ROWS, EXAMPLES, EVIDENCE, PROVENANCE, CELLS)
    )  # last: without digests, a reference is incomplete


def _shared_pictures(results: StudyResults) -> dict[str, np.ndarray]:
    """Each distinct image once, and for each stored image of a cell the positions of its images."""
    stacks, cells, ids = [], [], []
    for cell, arrays in results.examples.items():
        if not len(arrays.get("image_id", ())):
            continue
        rows = results.frame[results.frame["cell"] == cell].set_index("image_id")
        order = np.argsort(rows.loc[arrays["image_id"], "severity"].to_numpy(), kind="stable")
        # evenly spread over severity; the same images in all cells of a degradation
        number = NUM_EXAMPLES if arrays["clean"][0].size <= SMALL else FEW_EXAMPLES
        chosen = np.sort(order[np.unique(np.linspace(0, len(order) - 1, number).round().astype(int))])
        stacks.append(np.stack([arrays[name][chosen] for name in PICTURES], axis=1))
        cells += [cell] * len(chosen)
        ids.append(arrays["image_id"][chosen])
    if not stacks:
        raise UserError("the results have no images for the report: set num_examples above 0")
    # (images, 4, height, width, channel) on [0, 1] -> (images * 4, channel, height, width) in 8 bits
    images = (np.concatenate(stacks) * 255).round().astype(np.uint8)
    images = np.moveaxis(images.reshape(-1, *images.shape[2:]), -1, 1)
    pictures, places = np.unique(images, axis=0, return_inverse=True)
    places = places.reshape(-1, len(PICTURES))
    named = {name: places[:, i] for i, name in enumerate(PICTURES)}
    return {"pictures": pictures, "cell": np.array(cells), "image_id": np.concatenate(ids), **named}


def _settings(stage: Stage) -> dict[str, Any]:
    """The content of a stage's identity, without upstream stages."""
    return {name: value for name, value in stage.canonical().items() if name not in ("stage", "version", "upstream")}


def _versions(stage: Stage) -> dict[str, Any]:
    """The versions of a stage and all upstream stages, or the digest of shipped weights, by "stage NAME"."""
    canonical = stage.canonical()
    mine = f"weights {canonical['weights']}" if "weights" in canonical else f"version {stage.version}"
    found: dict[str, Any] = {f"stage {stage.name}": mine}
    for upstream in stage.upstream() if stage.shipped() is None else ():
        found |= _versions(upstream)
    return found


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by dotted path."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _flat(value, f"{path}.{name}" if path else str(name))
    else:
        yield path, tree
