"""The cells of a study and its combined results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workbench.core.config import digest
from workbench.stages.base import Stage
from workbench.stages.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TUNING = "tuning.json"
"""The file in a study's folder with the result of `tune`."""
TOO_SMALL = (
    "This is a smoke run: it only shows that everything works, on a few images and with networks trained for seconds. "
    "It is too small for conclusions: no figure here says anything about the question."
)


@dataclass(frozen=True)
class Cell:
    """One grid point: a stage and its labels by axis."""

    stage: Stage
    labels: Mapping[str, str]

    @cached_property
    def identity(self) -> str:
        """The stage's identity, cached: computing it looks up all upstream stages among the shipped weights."""
        return self.stage.identity

    def is_cached(self, runtime: Runtime) -> bool:
        """Whether the stage's artifact is cached."""
        here = runtime.root / "stages" / self.stage.name / self.identity
        return here.is_dir() or self.stage.shipped() is not None


@dataclass(frozen=True)
class StudyResults:
    """The results of a study.

    Attributes:
        name, preset: the study and its preset.
        question: the study's docstring.
        command: the command that reproduces the results.
        axes: axis column -> its labels in order.
        frame: one row per image and cell, with the axes' columns and `cell`; for cells without images (no column
            "image_id"), whatever their stage writes.
        examples: cell id -> arrays by name, (n, height, width, channel) on [0, 1], and "image_id"; none for such cells.
        provenance: how the results were computed.
        notes: remarks for the reader (what is missing, and why).
        evidence: data that the report needs besides rows, as JSON; "tuning" is the result of `tune`.
        sets: cell id -> figures of all its images together, by name, each with "mean", "low", "high" and "num_images";
            without those of cells that have none.
    """

    name: str
    preset: str
    question: str
    command: str
    axes: dict[str, list[str]]
    frame: "pd.DataFrame"
    examples: dict[str, dict[str, "np.ndarray"]]
    provenance: dict[str, Any]
    notes: list[str]
    evidence: dict[str, Any] = field(default_factory=dict)
    sets: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """Number of distinct images in the rows; 0 if the rows are not about images."""
        return int(self.frame["image_id"].nunique()) if "image_id" in self.frame else 0

    @property
    def too_small(self) -> str:
        """A sentence that nothing can be concluded from a smoke run; empty for other presets."""
        return TOO_SMALL if self.preset == "smoke" else ""

    @property
    def identity(self) -> str:
        """The identity of the results, from their cells."""
        return digest(sorted(self.examples))
